"""Figures of confidence: reliability diagrams and risk-coverage curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ogkd.evaluation.metrics import risk_coverage
from ogkd.evaluation.predictions import Predictions
from ogkd.reports.page.canvas import DASHES, MARKERS, MUTED, SERIES, TEXT, WIDTH, canvas, drawing, place, short, tint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 10
PANEL = 236  # pixels
POINTS = 120  # number of points drawn per curve


def reliability_diagram(name: str, predictions: Predictions, ece: float, number: int) -> Figure:
    """Accuracy against confidence in ten equal bins, above the percentage of images in each bin.

    predictions: pooled over seeds. ece: the mean over seeds in percent. number: the number of the method's colour.
    """
    colour = SERIES[number]
    place_of = np.clip(np.ceil(predictions.confidence * BINS).astype(int) - 1, 0, BINS - 1)
    images = np.bincount(place_of, minlength=BINS)
    accuracy = np.bincount(place_of, weights=predictions.correct, minlength=BINS) / np.maximum(images, 1)
    confidence = np.bincount(place_of, weights=predictions.confidence, minlength=BINS) / np.maximum(images, 1)
    centres, held = (np.arange(BINS) + 0.5) * 100 / BINS, images > 0
    with drawing():
        figure = canvas(PANEL, 324)
        axes = place(figure, 46, 112, PANEL - 58, 170)
        axes.bar(
            centres[held], 100 * accuracy[held], 92 / BINS, facecolor=tint(colour, 0.3), edgecolor=colour, linewidth=1
        )
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=1, linestyle=DASHES[1])
        axes.plot(
            100 * confidence[held], 100 * accuracy[held], color=colour, marker=MARKERS[number],
            markersize=5, linewidth=1.4,
        )  # fmt: skip
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
        axes.set_ylabel("accuracy in %")
        axes.set_xticks([0, 50, 100], [])
        axes.set_title(short(name, 28), loc="left", pad=22)
        axes.text(0, 104, f"ECE {ece:.1f} %", fontsize=TEXT - 1, va="bottom", color=MUTED)
        below = place(figure, 46, 44, PANEL - 58, 56)
        below.bar(centres, 100 * images / images.sum(), 92 / BINS, facecolor=tint(MUTED, 0.5), edgecolor=MUTED)
        below.set_xlim(0, 100)
        below.set_xticks([0, 50, 100])
        below.set_xlabel("confidence in %")
        below.set_ylabel("images, %", fontsize=9)
        below.yaxis.get_major_locator().set_params(nbins=2)
    return figure


def risk_coverage_curves(of_methods: Mapping[str, Sequence[Predictions]], styles: Mapping[str, int]) -> Figure:
    """Error rate on the most confident images against the share of images kept. of_methods: {method: one per seed}.

    styles: {method: number of its colour, marker and dashes}.
    """
    rows = (len(of_methods) + 1) // 2
    bottom, height = 50 + 19 * rows, 236
    with drawing():
        figure = canvas(WIDTH, bottom + height + 14)
        axes = place(figure, 52, bottom, WIDTH - 66, height)
        for name, seeds in of_methods.items():
            number = styles[name]
            curves = [risk_coverage(one) for one in seeds]
            coverage, risk = curves[0][0], np.mean([risk for _, risk in curves], axis=0)
            # Curves start at 2 % of the images, since the first few make them jump.
            first = max(len(coverage) // 50, 1) - 1
            kept = np.unique(np.linspace(first, len(coverage) - 1, min(POINTS, len(coverage) - first)).astype(int))
            axes.plot(
                100 * coverage[kept], 100 * risk[kept], color=SERIES[number], linewidth=1.8,
                linestyle=DASHES[number], marker=MARKERS[number], markersize=5,
                markevery=(number * 4, max(len(kept) // 6, 1)), label=short(name, 26),
            )  # fmt: skip
        axes.set_xlim(0, 100)
        axes.set_ylim(bottom=0)
        axes.grid()
        axes.set_xlabel("images answered, the most confident first, in %")
        axes.set_ylabel("of these wrong, in %")
        figure.legend(loc="lower center", ncols=2, handlelength=3, columnspacing=1.4, borderpad=0)
    return figure
