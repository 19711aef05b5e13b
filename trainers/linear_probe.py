"""Linear probe: logistic regression on image features (Radford et al., ICML 2021, arXiv 2103.00020)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from ogkd.tuning.feature_method import FeatureMethod
from ogkd.tuning.options import Option, Options
from ogkd.tuning.registration import register
from ogkd.tuning.task import Task

EXPONENTS = (6, 4, 2, 0, -2, -4, -6)  # powers of 10 for C; the first wins a tie
BISECTIONS = 8
FLAT = 0.01  # above 1/C: a mean confidence that says nothing
ITERATIONS = 1000  # at most, of L-BFGS


class LogisticModel(nn.Module):
    """Logits f coef' + intercept of features f (B, D), for coef (C, D) and intercept (C,)."""

    coef: Tensor
    intercept: Tensor

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("coef", torch.zeros(classes, width))
        self.register_buffer("intercept", torch.zeros(classes))

    def forward(self, features: Tensor) -> Tensor:
        return features @ self.coef.t() + self.intercept


def logistic_regression(features: Tensor, labels: Tensor, c: float) -> LogisticModel:
    """The minimum of ||coef||^2 / 2 + C * (sum of cross entropies) by L-BFGS, over features (N, D) and labels (N,).

    Every class from 0 to C - 1 needs at least one feature. With two classes, the weights of one of them are all 0.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # With a large C the minimum for a separable few-shot set is at infinity; the published fits stop early as well.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = LogisticRegression(C=c, max_iter=ITERATIONS).fit(features.cpu().numpy(), labels.cpu().numpy())
    model = LogisticModel(len(fit.classes_), features.shape[1])
    model.coef[-len(fit.coef_) :] = torch.from_numpy(fit.coef_)
    model.intercept[-len(fit.intercept_) :] = torch.from_numpy(fit.intercept_)
    return model.to(features.device)


def best_exponent(accuracy: Callable[[float], float]) -> float:
    """The exponent x of C = 10^x that CLIP's search selects, given the validation accuracy at x.

    The search takes the best of seven exponents, then bisects the two decades around it eight times. Each bisection
    keeps the better end (the lower one in a tie) and the half next to it.
    """
    accuracy = cache(accuracy)
    best: float = max(EXPONENTS, key=accuracy)
    low, high = best - 1.0, best + 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if accuracy(low) < accuracy(high):
            best, low = high, middle
        else:
            best, high = low, middle
    return best


def steeper_exponent(chosen: float, probabilities: Callable[[float], Tensor], labels: Tensor) -> float:
    """The exponent chosen or, if its probabilities (N, C) on the validation images are all about 1/C, that of the
    search's seven with the largest likelihood among those with no lower accuracy. A few images do not tell accuracies
    apart, and the search then may end at a C that shrinks everything to 0."""

    def of(exponent: float) -> tuple[float, float]:
        each = probabilities(exponent)
        return (each.argmax(-1) == labels).float().mean().item(), each.gather(1, labels[:, None]).log().mean().item()

    flat = probabilities(chosen)
    if flat.max(-1).values.mean() > 1 / flat.shape[1] + FLAT:
        return chosen
    least = of(chosen)[0]
    return max((chosen, *EXPONENTS), key=lambda exponent: (of(exponent)[0] >= least, of(exponent)[1]))


@register
class LinearProbe(FeatureMethod):
    """One fit to convergence, with the regularisation selected on the validation images.

    Classes without validation images are ignored in that selection. OPTIM does not apply: L-BFGS has no learning rate,
    batches or epochs. The fit counts as one epoch.
    """

    title, paper, row = "Linear probe", "2103.00020", 60

    folder = "linear"
    options = Options(C=Option(0.0, "inverse regularisation strength; 0: selected on the validation images", least=0))

    @classmethod
    def needs_each_class(cls, options: CfgNode) -> bool:
        return True  # it knows nothing of a class but its images

    def build(self) -> None:
        self.linear = LogisticModel(len(self.classnames), self.clip_model.embed_dim)

    def classifier(self) -> Callable[[Tensor], Tensor]:
        return self.linear

    def fit(self, task: Task) -> None:
        c = self.options.C or 10 ** self._exponent(task)
        with task.phases("fit"):
            fitted = logistic_regression(*task.training_set, c)
        self.linear.load_state_dict(fitted.state_dict())

    def _exponent(self, task: Task) -> float:
        task.require_validation("C", f"give it as TRAINER.{task.section}.C, such as 1")
        images, labels = task.validation_set

        @cache
        def logits(exponent: float) -> Tensor:
            return logistic_regression(*task.training_set, 10**exponent)(images)

        def accuracy(exponent: float) -> float:
            return (logits(exponent).argmax(-1) == labels).float().mean().item()

        with task.phases("choose C"):
            exponent = best_exponent(accuracy)
            exponent = steeper_exponent(exponent, lambda one: logits(one).softmax(-1), labels)
            print(f"C {10**exponent:.3g}: accuracy {100 * accuracy(exponent):.1f} % on the validation images")
        return exponent
