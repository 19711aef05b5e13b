"""The base class of every method: a module whose parameters are what is learned and saved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from yacs.config import CfgNode

from dassl.optim import build_lr_scheduler, build_optimizer
from ogkd.core import UserError
from ogkd.core.training import not_finite
from ogkd.features.cache import FeatureCache
from ogkd.features.encode import encode_images
from ogkd.models import FrozenCLIP, ImageFeatures
from ogkd.tuning.options import Options

if TYPE_CHECKING:
    from ogkd.tuning.task import Task

PROMPT_LEARNER = "prompt_learner."  # prefix of names in the checkpoint of a whole prompted model
NO_CACHE = FeatureCache(None)

Sentences = Callable[[list[str]], list[list[str]]]
"""The teacher's sentences of each of some classes, equally many per class."""


class Method(nn.Module):
    """What a method learns, how it learns it, and how it classifies with it.

    Class attributes say what the method is. `build` makes its parameters and buffers, which are what a checkpoint
    holds; `losses`, or `fit`, says how they are learned; `classifier` classifies. `Method(options, model, classnames)`
    needs no data: loaded with a checkpoint's parameters, it predicts.

    options: the values of the options that the class declares as `options`, by name.
    model: the frozen model, `self.clip_model`.
    sentences: the source of the teacher's sentences, for methods with a teacher.
    cache: where features of texts are cached.
    """

    title = ""  # the name in tables and text; default: the class's name
    paper = ""  # arXiv number
    row = 1000  # position in tables: smaller numbers come first
    groups: tuple[str, ...] = ()  # of ogkd.evaluation.methods.GROUPS, by which commands take many methods at once
    options: Any = Options()  # of the class: Options; of an instance: their values
    folder = "method"  # a run's folder of checkpoints; the submodule of this name is saved under its own names

    has_novel_head = True  # can it classify into classes that it was not trained on?
    needs_sentences = False  # does it use the teacher's sentences to classify, not only to learn?
    texts_per_image = False  # does it classify each image by texts of its own?
    keeps_training_images = False  # do its parameters hold a feature of each training image?
    compares_tokens = False  # does `classifier` compare a token with text features, so that it applies to patches too?

    frozen_images = True  # does the image tower stay as it is? Then features are cached, see `losses`
    projected = True  # are tokens of `encode` projected and normalised? Without, a FeatureMethod gets them before that
    uses_patches = False  # do training batches need patch tokens?
    views = 1  # views of each training image in a batch, see `losses`
    shares_crops = True  # can epochs share FEATURES.CROPS crops? Only with `frozen_images`

    schedule_by_step = False  # does the learning rate change after each step instead of each epoch?
    later_is_better = False  # which of equally good epochs does TEST.FINAL_MODEL best_val test, the first or the last?

    def __init__(
        self,
        options: CfgNode,
        model: FrozenCLIP,
        classnames: Sequence[str],
        sentences: Sentences | None = None,
        cache: FeatureCache = NO_CACHE,
    ) -> None:
        super().__init__()
        self.options, self.classnames = options, list(classnames)
        self.sentences, self.feature_cache = sentences, cache
        self._frozen = (model,)  # in a tuple, so that the model is no submodule
        self.scale = model.logit_scale
        self.build()
        self.to(model.device)

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if cls.frozen_images and cls.encode is not Method.encode:
            raise TypeError(f"{cls.__name__} encodes images in its own way: set frozen_images = False.")

    @property
    def clip_model(self) -> FrozenCLIP:
        return self._frozen[0]

    @property
    def image_model(self) -> FrozenCLIP:
        """The model that encodes the images. With `frozen_images` it may be a view of `clip_model` whose image tower
        works in another, fixed way, if its `image_change` says in which."""
        return self.clip_model

    @property
    def device(self) -> torch.device:
        return self.clip_model.device

    def build(self) -> None:
        """Make the parameters, buffers and submodules, from `self.options`, `self.clip_model` and `self.classnames`."""

    # Facts that depend on the options

    @classmethod
    def can_name_novel_classes(cls, options: CfgNode) -> bool:
        """Whether what a run with these options learns applies to classes that it was not trained on; class-specific
        contexts do not."""
        return cls.has_novel_head and not options.get("CSC", False)

    @classmethod
    def needs_each_class(cls, options: CfgNode) -> bool:
        """Whether a class without a training image cannot be learned with these options, so that a run is refused."""
        return False

    @classmethod
    def takes_steps(cls) -> bool:
        """Whether it learns in steps, to which OPTIM applies."""
        return cls.fit is Method.fit and cls.losses is not Method.losses

    @classmethod
    def saves_training_images(cls, options: Mapping[str, Any]) -> bool:
        """Whether what a run with these options saves has a feature of each training image, so that it is not
        exported."""
        return cls.keeps_training_images

    @classmethod
    def fingerprints(cls, options: CfgNode, dataset: str) -> dict[str, str]:
        """SHA-256 of each file, besides data and weights, that affects what is learned on a data set of this name.

        Raises UserError if such a file cannot be read.
        """
        return {}

    @classmethod
    def check_cfg(cls, cfg: CfgNode) -> None:
        """Raise UserError if a setting beside the method's options does not fit the method."""

    # Learning

    def prepare(self, task: Task) -> None:
        """Make what only training needs, such as a teacher. Called once, before the first step or a resume."""

    def train_loader(self, task: Task) -> Iterable[dict]:
        """The batches of an epoch: of encoded images with `frozen_images`, else of images."""
        return task.encoded_ahead(self.uses_patches) if self.frozen_images and self.views == 1 else task.image_loader

    def losses(self, inputs: Any, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The loss terms by name (their sum is minimised) and the logits (B, C) of a batch.

        `inputs` are ImageFeatures with `frozen_images`, images (B, 3, H, W) without, and with `views` > 1 a list with
        one of them per view.
        """
        raise NotImplementedError

    def backward(self, terms: dict[str, Tensor]) -> None:
        """Write the gradients of a step into the parameters, whose gradients are None before."""
        torch.stack(list(terms.values())).sum().backward()

    def epochs(self, most: int, steps: int) -> int:
        """How many epochs of `steps` steps to train, at most OPTIM.MAX_EPOCH, which is `most`. Called after
        `prepare`."""
        return most

    def optimiser(self, optim: CfgNode, steps: int) -> tuple[Optimizer, LRScheduler | None]:
        """The optimiser and the schedule of its learning rate, by default those of the configuration's OPTIM.

        `steps`: those of an epoch; with `schedule_by_step` the schedule counts steps in place of epochs.
        """
        optim = counted_in_steps(optim, steps) if self.schedule_by_step else optim
        optimiser = build_optimizer(self, optim)
        return optimiser, build_lr_scheduler(optimiser, optim)

    def after_step(self, epoch: int, rate: float) -> None:
        """Called after each step, with the epoch (from 0) and the learning rate of the step."""

    def fit(self, task: Task) -> None:
        """Learn at once, without steps, for a method that overrides this instead of `losses`; it counts as one
        epoch."""
        raise NotImplementedError

    def finish(self, task: Task) -> None:
        """Change what was learned after the last epoch, starting from the parameters that would be tested."""

    def epoch_weight(self, epoch: int, epochs: int) -> float:
        """The weight of the parameters after an epoch (from 0) in a mean over epochs, which is what the training ends
        with. By default there is no mean: the last epoch's parameters stay."""
        return 0.0

    def stops(self, accuracies: list[float]) -> bool:
        """Whether training ends early, given the validation accuracy after each epoch so far; for a method that
        overrides it, each epoch is validated."""
        return False

    # Classifying

    def encode(self, images: Tensor, patches: bool = False) -> ImageFeatures:
        """Tokens of images (B, 3, H, W) as `classifier` and `patch_classifier` take them, normalised by default. A
        method with `frozen_images` leaves this as it is."""
        return encode_images(self.image_model, images, patches, self.projected)

    def classifier(self) -> Callable[[Tensor], Tensor]:
        """A function from global tokens of `encode` (B, D) to logits (B, C)."""
        raise NotImplementedError

    def patch_classifier(self) -> Callable[[ImageFeatures], Tensor] | None:
        """A function from the output of `encode` with patches to each patch's logits (B, P, C); None for a method that
        does not compare tokens with text features."""
        if not self.compares_tokens or not self.clip_model.has_patches:
            return None
        classify = self.classifier()
        return lambda features: classify(cast(Tensor, features.patch_tokens))

    # What is saved: the names in checkpoints are those inside the submodule `folder`

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        prefix = f"{self.folder}."
        return {name.removeprefix(prefix): value for name, value in super().state_dict(*args, **kwargs).items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        names = {name.removeprefix(f"{self.folder}."): name for name in super().state_dict()}
        return super().load_state_dict(
            {names.get(name, name): value for name, value in state_dict.items()}, *args, **kwargs
        )

    def make_room(self, state: Mapping[str, Tensor]) -> None:
        """Give parameters whose shapes depend on the training images the shapes of a checkpoint's."""

    def load_learned(self, state: Mapping[str, Tensor], origin: str | Path) -> None:
        """Load a checkpoint's parameters, read from `origin`; all must be present, finite and of the right shape.

        Raises:
            UserError: they are not.
        """
        state = own_parameters(self, state)
        self.make_room(state)
        mine = {name: tuple(value.shape) for name, value in self.state_dict().items()}
        theirs = {name: tuple(value.shape) for name, value in state.items()}
        if mine != theirs:
            raise UserError(
                f"{origin} holds {theirs} where this method, backbone and configuration need {mine}: "
                f"use the configuration that it was trained with."
            )
        broken = not_finite(state)
        if broken is not None:
            raise UserError(
                f"{origin} is from a training that diverged ({broken} is not finite): train again with a lower "
                f"OPTIM.LR."
            )
        self.load_state_dict(state)


def own_parameters(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of a checkpoint's state_dict that a module learns.

    Checkpoints of the public code bases also hold the class names' embeddings (`token_prefix`, `token_suffix`), which
    belong to the training classes and are left out. From a checkpoint of a whole model, only the prompt learner's own
    parameters are taken, not the frozen towers.
    """
    if any(name.startswith(PROMPT_LEARNER) for name in state):
        state = {name.removeprefix(PROMPT_LEARNER): value for name, value in state.items()}
        state = {name: value for name, value in state.items() if name in module.state_dict()}
    return {name: value for name, value in state.items() if name not in ("token_prefix", "token_suffix")}


def counted_in_steps(optim: CfgNode, steps: int) -> CfgNode:
    """OPTIM with its epochs counted in optimisation steps, `steps` per epoch."""
    optim = optim.clone()
    optim.defrost()
    optim.MAX_EPOCH *= steps
    optim.WARMUP_EPOCH *= steps
    optim.STEPSIZE = [epoch * steps for epoch in optim.STEPSIZE]
    return optim
