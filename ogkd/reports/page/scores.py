"""Figures of accuracy: base, novel and HM as bars, and few-shot curves with bands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ogkd.reports.page.canvas import (
    DASHES,
    GRID,
    HATCHES,
    INK,
    MARKERS,
    MUTED,
    SERIES,
    SMALL,
    WIDTH,
    canvas,
    drawing,
    place,
    room,
    short,
    tint,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = ("base", "novel", "HM")
FILLS = (0.85, 0.3, 0.12)  # opacity of their bars
BAR, GAP = 13, 12  # pixels per bar, and between two methods
LEGEND = 24  # pixels per line of the legend


class Score(NamedTuple):
    """A value with the ends of its interval, NaN if it has none."""

    value: float
    low: float = math.nan
    high: float = math.nan


def base_novel_bars(scores: Mapping[str, Mapping[str, Score | None]]) -> Figure:
    """Horizontal bars: {method: {"base" | "novel" | "HM": score in percent}}, the first on top."""
    group = len(PARTS) * BAR + GAP
    left, top, bottom = room(list(scores)) + 14, 34, 44
    height = group * len(scores)
    with drawing():
        figure = canvas(WIDTH, height + top + bottom)
        axes = place(figure, left, bottom, WIDTH - left - 44, height)
        for place_of_method, of_method in enumerate(scores.values()):
            for number, part in enumerate(PARTS):
                score = of_method.get(part)
                if score is None:
                    continue
                y = place_of_method * group + GAP / 2 + (number + 0.5) * BAR
                for look in _looks(number):
                    axes.barh(y, score.value, BAR - 2, **look)
                end = score.value
                if not math.isnan(score.low):
                    axes.plot([score.low, score.high], [y, y], color=INK, linewidth=1.3, solid_capstyle="butt")
                    end = max(end, score.high)
                axes.text(end + 1.5, y, f"{score.value:.1f}", va="center", fontsize=SMALL - 1, color=INK)
        axes.set_yticks([(i + 0.5) * group for i in range(len(scores))], [short(name) for name in scores])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(height, 0)
        axes.set_xlim(0, 100)
        axes.grid(axis="x")
        axes.set_xlabel("accuracy in %")
        _legend_of_parts(figure)
    return figure


def few_shot_curves(
    curves: Mapping[str, Sequence[tuple[int, Score]]], emphasised: Mapping[str, int], floor: float | None = None
) -> Figure:
    """Accuracy in percent over the number of shots: {method: [(shots, score)]}; all images (-1) are on the right.

    emphasised: {method with a colour and a band: number of its colour}; others are grey. floor: accuracy of always
        answering with the most frequent class.
    """
    from matplotlib.ticker import FixedLocator, NullLocator

    numbers = sorted({n for points in curves.values() for n, _ in points if n > 0})
    everything = 2 * numbers[-1] if numbers else 1
    curves = {name: [(n if n > 0 else everything, score) for n, score in points] for name, points in curves.items()}
    rows = math.ceil((len(curves) + (floor is not None)) / 2)
    bottom, height = 50 + LEGEND * 0.8 * rows, 270
    strong = [name for name in curves if name in emphasised]
    weak = [name for name in curves if name not in strong]
    with drawing():
        figure = canvas(WIDTH, bottom + height + 12)
        axes = place(figure, 52, bottom, WIDTH - 66, height)
        for number, name in enumerate(weak):
            points = curves[name]
            axes.plot(
                [n for n, _ in points], [score.value for _, score in points], color=MUTED, alpha=0.75, linewidth=1,
                marker=f"${_letter(number)}$", markersize=6,
                linestyle=DASHES[number % len(DASHES)], label=short(name, 26),
            )  # fmt: skip
        for name in strong:
            number, points = emphasised[name], curves[name]
            colour = SERIES[number]
            shots, values = [n for n, _ in points], [score.value for _, score in points]
            low, high = ([getattr(score, end) for _, score in points] for end in ("low", "high"))
            axes.fill_between(shots, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(
                shots, values, color=colour, linewidth=2, marker=MARKERS[number], markersize=6,
                linestyle=DASHES[number], label=short(name, 26),
            )  # fmt: skip
        if floor is not None:
            axes.axhline(floor, color=MUTED, linewidth=1, linestyle=(0, (1, 2)), label="most frequent class")
        every = sorted({n for points in curves.values() for n, _ in points})
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(every))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([str(n) if n in numbers else "all" for n in every])
        if len(every) == 1:
            axes.set_xlim(every[0] / 2, every[0] * 2)
        axes.grid(axis="y", color=GRID)
        axes.set_xlabel("training images per class (shots)")
        axes.set_ylabel("accuracy in %")
        handles, labels = axes.get_legend_handles_labels()
        first = len(weak)
        handles, labels = handles[first:] + handles[:first], labels[first:] + labels[:first]
        figure.legend(handles, labels, loc="lower center", ncols=2, handlelength=3, columnspacing=1.4, borderpad=0)
    return figure


def _letter(number: int) -> str:
    return "abcdefghijklmnopqrstuvwxyz"[number % 26]


def _legend_of_parts(figure: Figure) -> None:
    from matplotlib.patches import Patch

    handles: list[Any] = [tuple(Patch(**look) for look in _looks(number)) for number in range(len(PARTS))]
    figure.legend(handles, PARTS, loc="upper center", ncols=3, borderpad=0.2)


def _looks(number: int) -> list[dict[str, Any]]:
    """Style of a part's bars: the fill and, drawn over it, the hatch, since in SVG a hatch fades with its own fill."""
    colour = SERIES[number]
    return [
        {"facecolor": tint(colour, FILLS[number]), "edgecolor": "none"},
        {"facecolor": "none", "edgecolor": colour, "hatch": HATCHES[number], "linewidth": 0.9},
    ]
