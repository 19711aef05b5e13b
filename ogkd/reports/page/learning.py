"""Training curves of one method as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ogkd.reports.page.canvas import DASHES, MUTED, SERIES, WIDTH, canvas, drawing, place, short, tint
from ogkd.reports.page.logs import Curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {"loss": "loss", "acc": "accuracy in %"}
COLUMNS, ROW = 3, 150  # panels side by side, and pixels of a panel with its labels
MOST = 9  # panels


def learning_curves(seeds: Sequence[Curves]) -> Figure:
    """Loss, training accuracy and each loss term over the epochs, one panel each. Thin lines are seeds, the thick line
    is their mean."""
    from matplotlib.ticker import MaxNLocator

    names = _ordered(seeds)
    columns = min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    panel, height = WIDTH / columns, ROW * rows + 20
    with drawing():
        figure = canvas(WIDTH, height)
        for number, name in enumerate(names):
            left, above = number % columns * panel, number // columns
            axes = place(figure, left + 48, height - (above + 1) * ROW + 26, panel - 58, ROW - 50)
            curves = [of_seed[name] for of_seed in seeds if name in of_seed]
            for curve in curves:
                axes.plot(list(curve), list(curve.values()), color=tint(SERIES[0], 0.4), linewidth=0.8)
            mean = _mean(curves)
            axes.plot(list(mean), list(mean.values()), color=SERIES[0], linewidth=1.8, linestyle=DASHES[0])
            axes.set_title(short(TITLES.get(name, name), 26 if columns < 3 else 20), loc="left", fontsize=10.5)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.yaxis.set_major_formatter(_number)
            axes.tick_params(labelsize=9)
            axes.grid(axis="y")
        figure.text(0.5, 4 / height, "epoch", ha="center", va="bottom", color=MUTED, fontsize=10.5)
    return figure


def _number(value: float, _place: int) -> str:
    """A number as short text: 0.75, 4.05e-4."""
    if not value or abs(value) >= 0.001:
        return f"{value:.4g}"
    digits, _, power = f"{value:.2e}".partition("e")
    return f"{float(digits):g}e{int(power)}"


def _ordered(seeds: Sequence[Curves]) -> list[str]:
    found = dict.fromkeys(name for of_seed in seeds for name in of_seed)
    return [name for name in TITLES if name in found] + [name for name in found if name not in TITLES][: MOST - 2]


def _mean(curves: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """The mean over seeds, for the epochs that all seeds have."""
    shared = sorted(set.intersection(*(set(curve) for curve in curves)))
    return {epoch: float(np.mean([curve[epoch] for curve in curves])) for epoch in shared}
