"""Checks of a method's options."""

from __future__ import annotations

import math

from yacs.config import CfgNode

from dassl.utils import UserError


def require(
    options: CfgNode, *keys: str, least: float = -math.inf, above: float = -math.inf, most: float = math.inf
) -> None:
    """Check that options are finite numbers with least <= value <= most and value > above.

    Raises:
        UserError: names the key, its value and the bounds.
    """
    for key in keys:
        value = options[key]
        if math.isfinite(value) and least <= value <= most and value > above:
            continue
        bounds = [f"at least {least}"] if least > -math.inf else []
        bounds += [f"greater than {above}"] if above > -math.inf else []
        bounds += [f"at most {most}"] if most < math.inf else []
        raise UserError(f"The option {key} is {value}, but it must be a finite number, {' and '.join(bounds)}.")
