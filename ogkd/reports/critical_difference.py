"""The critical-difference diagram of methods by their mean ranks (Demsar, JMLR 2006)."""

from __future__ import annotations

from pathlib import Path

from ogkd.core import atomic_path
from ogkd.evaluation.statistics import Friedman

ROW = 0.28  # inches between two names
BAR = 0.12  # inches between two bars


def critical_difference_diagram(test: Friedman, path: Path, title: str = "") -> None:
    """Draw the mean ranks on a line, 1 on the left, with a bar over each group of indistinguishable methods.

    Without a significant Friedman test one bar covers all methods. The file's suffix determines its format: .svg, .pdf
    or .png.
    """
    from matplotlib.figure import Figure

    names, ranks = list(test.ranks), list(test.ranks.values())
    cliques = test.cliques if test.p < test.alpha else (tuple(names),)
    rows = (len(names) + 1) // 2
    bars = 0.15 + BAR * len(cliques)
    height = 0.9 + bars + ROW * rows
    figure = Figure(figsize=(7, height))
    axes = figure.add_axes((0.27, 0, 0.46, 1))
    axes.set_xlim(1, len(names))
    axes.set_ylim(-(bars + ROW * rows + 0.15), height - bars - ROW * rows - 0.15)  # in inches, the line at 0
    axes.axis("off")
    axes.hlines(0, 1, len(names), color="black", linewidth=1)
    rank: float
    for rank in range(1, len(names) + 1):
        axes.vlines(rank, 0, 0.06, color="black", linewidth=1)
        axes.text(rank, 0.1, str(rank), ha="center", va="bottom", fontsize=8)
    for place, (name, rank) in enumerate(zip(names, ranks, strict=True)):
        left = place < rows
        y = -(bars + ROW * (place if left else len(names) - 1 - place))
        end = 1 if left else len(names)
        axes.plot([rank, rank, end], [0, y, y], color="0.5", linewidth=0.8, clip_on=False)
        axes.annotate(
            f"{name} ({rank:.2f})", (end, y), (-4 if left else 4, 0), textcoords="offset points",
            ha="right" if left else "left", va="center", fontsize=9, annotation_clip=False,
        )  # fmt: skip
    for number, clique in enumerate(cliques):
        y = -(0.12 + BAR * number)
        axes.hlines(y, test.ranks[clique[0]] - 0.04, test.ranks[clique[-1]] + 0.04, color="black", linewidth=3)
    distance = min(test.critical_difference, len(names) - 1)
    axes.plot([1, 1 + distance], [0.42, 0.42], color="black", linewidth=1.5)
    axes.text(1, 0.46, f"critical difference {test.critical_difference:.2f}", fontsize=8, va="bottom")
    if title:
        axes.text(1, 0.6, title, fontsize=9, va="bottom")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix(".") or "svg")
