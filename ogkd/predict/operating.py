"""Asking for an operating point on a command line, and saying in words what it achieves."""

from __future__ import annotations

import argparse
from typing import NamedTuple

from ogkd.core import UserError
from ogkd.evaluation.clinical import KINDS, Achieved, OperatingPoint, predictive_values


class Wish(NamedTuple):
    """A sensitivity or specificity, in 0..1, that is wanted for a class."""

    classname: str
    wanted: str
    level: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --sensitivity, --specificity and --for."""
    wanted = parser.add_mutually_exclusive_group()
    for kind in KINDS:
        wanted.add_argument(
            f"--{kind}", type=float, metavar="S",
            help=f"with --for CLASS: its threshold for a {kind} of S (0 to 1), chosen on validation images",
        )  # fmt: skip
    parser.add_argument("--for", dest="positive", metavar="CLASS", help="the class that is positive")


def wish(args: argparse.Namespace) -> Wish | None:
    """What the arguments ask for; None without them."""
    given = [(kind, level) for kind in KINDS if (level := getattr(args, kind)) is not None]
    if not given and args.positive is None:
        return None
    if not given or args.positive is None:
        raise UserError('A threshold needs both, for example --sensitivity 0.95 --for "malignant".')
    return Wish(args.positive, *given[0])


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
