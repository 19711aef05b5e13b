"""An operating point or prediction sets as wanted on a command line, and in words what they achieve."""

from __future__ import annotations

import argparse
from typing import NamedTuple

from ogkd.core import UserError
from ogkd.evaluation.clinical import KINDS, Achieved, OperatingPoint, basis, predictive_values
from ogkd.evaluation.conformal import scatter
from ogkd.evaluation.sets import LAC, SCORES, SetRule


class Wish(NamedTuple):
    """A sensitivity or specificity, in 0..1, that is wanted for a class."""

    classname: str
    wanted: str
    level: float


class SetWish(NamedTuple):
    """Sets that contain the true class with a probability of `coverage`, in 0..1, of all images or per class."""

    coverage: float
    score: str = LAC
    per_class: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --sensitivity, --specificity and --for, and --coverage, --sets and --per-class."""
    wanted = parser.add_mutually_exclusive_group()
    for kind in KINDS:
        wanted.add_argument(
            f"--{kind}", type=float, metavar="S",
            help=f"with --for CLASS: its threshold for a {kind} of S (0 to 1), chosen on validation images",
        )  # fmt: skip
    parser.add_argument("--for", dest="positive", metavar="CLASS", help="the class that is positive")
    wanted.add_argument(
        "--coverage", type=float, metavar="C",
        help="answer with the set of classes that contains the true one with a probability of C (0 to 1)",
    )  # fmt: skip
    parser.add_argument(
        "--sets", type=str.upper, choices=SCORES, help=f"with --coverage: the score of the sets (default: {LAC})"
    )
    parser.add_argument("--per-class", action="store_true", help="with --coverage: C holds for each class by itself")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --batch and --backbone."""
    parser.add_argument(
        "--batch", type=_batch, default=0, metavar="N", help="images per pass (default: 8; 64 on a GPU)"
    )
    parser.add_argument("--backbone", default="", metavar="NAME_OR_FOLDER", help="location of the backbone's weights")


def _batch(text: str) -> int:
    if not text.isdecimal():
        raise UserError(f"--batch must be a number of images, 1 or more, not {text}.")
    return int(text)


def wish(args: argparse.Namespace) -> Wish | SetWish | None:
    """What the arguments ask for; None without them."""
    if args.coverage is not None:
        if args.positive is not None:
            raise UserError("Sets have a coverage of all classes: leave out --for.")
        return SetWish(args.coverage, args.sets or LAC, args.per_class)
    if args.sets or args.per_class:
        raise UserError("--sets and --per-class say which sets: add, for example, --coverage 0.9.")
    given = [(kind, level) for kind in KINDS if (level := getattr(args, kind)) is not None]
    if not given and args.positive is None:
        return None
    if not given or args.positive is None:
        raise UserError('A threshold needs both, for example --sensitivity 0.95 --for "malignant".')
    return Wish(args.positive, *given[0])


def about_sets(rule: SetRule) -> list[str]:
    """What the sets promise and what they achieve."""
    each = " of each class" if rule.per_class else ""
    lines = [
        f"Each answer is a set that contains the true class in at least {100 * rule.coverage:g} % of new images{each} "
        f"that are like the validation images ({basis(rule.images, rule.patients)}; {rule.score} scores)."
    ]
    if not rule.per_class:
        low, high = scatter(rule.coverage, rule.patients or rule.images)
        lines[0] += f" That is an average: so few images may lead to {100 * low:.0f} to {100 * high:.0f} %."
    if rule.test:
        name, of = rule.test.smallest
        lines.append(
            f"On the test images: {rule.test.coverage} ({rule.test.coverage.basis}), of {name}, the class covered "
            f"worst, {of}; {rule.test.size:.2f} classes per set, {rule.test.empty:.1f} % of the sets empty."
        )
    return lines


def sentences(point: OperatingPoint, prevalence: float | None = None) -> list[str]:
    """What the threshold is, what it achieves and, at a prevalence in 0..1, what its answers are worth."""
    name, lines = point.classname, []
    lines.append(
        f"Positive for {name} from a probability of {point.threshold:.4g} on, chosen on validation images for a "
        f"{point.wanted} of {100 * point.level:g} %."
    )
    lines += [f"On the {what} images: {_of(one)}." for what, one in
              (("validation", point.validation), ("test", point.test)) if one]  # fmt: skip
    if prevalence is None:
        return lines
    values = predictive_values(point.test or point.validation, prevalence)
    if values is None:
        return [
            *lines,
            "PPV and NPV are not defined for this threshold.",
        ]
    basis = "test" if point.test else "validation"
    return [
        *lines,
        f"Where {100 * prevalence:g} % have {name}, a positive answer is right in {values[0]} (PPV), a negative one in "
        f"{values[1]} (NPV), by the {basis} images.",
    ]


def _of(achieved: Achieved) -> str:
    both = ((kind, getattr(achieved, kind)) for kind in KINDS)
    return ", ".join(f"{kind} {one} ({one.basis})" if one else f"{kind} unknown" for kind, one in both)
