"""Checks of a method's options."""

from __future__ import annotations

import math

from yacs.config import CfgNode

from ogkd.core.schema import number, one_of


def require(
    options: CfgNode,
    *keys: str,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> None:
    """Check that options are finite numbers with least <= value <= most and above < value < below.

    Raises:
        UserError: a value is out of bounds; the message has the key, its value and the bounds.
    """
    for key in keys:
        number(least, most, above, below).check(f"The option {key}", options[key])


def require_choice(options: CfgNode, key: str, *choices: str) -> None:
    """Check that an option is one of some words.

    Raises:
        UserError: it is not; the message has the key, its value and the words.
    """
    one_of(*choices).check(f"The option {key}", options[key])
