"""Figures of the page: functions that return a Matplotlib figure in the page's style.

One palette is legible on light and on dark ground. Text is black, which the page's style sheet replaces by its
own colour, so that figures follow the reader's scheme. Text remains text: it can be selected and searched.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

import numpy as np

from ogkd.core import atomic_path
from ogkd.core.escape import plain
from ogkd.evaluation.metrics import risk_coverage
from ogkd.evaluation.predictions import Predictions
from ogkd.reports.cells import Cell
from ogkd.reports.render import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Distinguishable with any colour vision, with a contrast of 3 on both grounds (WCAG 2).
PALETTE = ("#2f86c9", "#d9651f", "#1f9573", "#b8619f", "#a4811a", "#7886a0")
GREY = "#7c8594"
MARKERS, DASHES = "os^DvP", ("-", (0, (6, 2)), (0, (2, 1.5)), "-.", (0, (4, 1, 1, 1, 1, 1)), ":")
WIDTH = 440  # CSS pixels: two figures fit side by side, one fits on a phone
PIXEL = 1 / 96  # inch
LINES, LINE = 4, 12  # at most, of a wrapped name; pixels of each
STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.titlesize": 9, "axes.labelsize": 8.5, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "legend.fontsize": 8, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.edgecolor": GREY, "xtick.color": GREY, "ytick.color": GREY, "xtick.labelcolor": "black",
    "ytick.labelcolor": "black", "grid.color": GREY, "grid.alpha": 0.25, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "legend.handlelength": 3,
    "axes.facecolor": "none", "figure.facecolor": "none", "savefig.facecolor": "none",
    "svg.fonttype": "none", "text.parse_math": False,  # names may contain dollar signs
}  # fmt: skip
BINS = 10  # of a reliability diagram
LARGEST_CELL, WITH_NUMBERS = 46, 24  # pixels of a matrix's cell; maximum number of classes with numbers in cells
POINTS = 120  # maximum number of points drawn per risk-coverage curve
PANELS = 6  # maximum number of a method's training curves
LEARNED = {"loss": "loss", "acc": "accuracy in %"}


@contextmanager
def style(**more: Any) -> Iterator[None]:
    """Matplotlib in the page's style, whatever the user's is. The page has other fonts than Matplotlib, so characters
    missing in Matplotlib's do not matter."""
    import matplotlib

    with warnings.catch_warnings(), matplotlib.rc_context():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE | more)
        yield


@dataclass
class Drawing:
    """A figure of the page. name: unique, that of its files. alt: a description in words. svg: an <svg> element for the
    page, whose texts are escaped and whose ids are unique there."""

    name: str
    title: str
    alt: str
    figure: Figure = field(repr=False)
    svg: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        buffer, undated = io.StringIO(), dict.fromkeys(("Date", "Creator", "Format", "Type"))
        with style(**{"svg.hashsalt": self.name}):
            self.figure.savefig(buffer, format="svg", metadata=undated)
        svg = buffer.getvalue()
        self.svg = re.sub(r">\s+<", "><", re.sub(r'<g id="[^"]*"', "<g", svg[svg.index("<svg") :]))

    def save(self, folder: Path) -> None:
        """Write it as PNG and PDF on white; equal figures give identical files."""
        folder.mkdir(parents=True, exist_ok=True)
        for kind, undated in (("png", None), ("pdf", {"CreationDate": None})):
            with style(**{"savefig.facecolor": "white"}), atomic_path(folder / f"{self.name}.{kind}") as temporary:
                self.figure.savefig(temporary, format=kind, dpi=300, metadata=undated)


def short(name: str, longest: int = 30) -> str:
    """A name on one line, shortened to the width of so many letters of usual width, to fit into a figure."""
    name = plain(name)
    if _width(name) <= longest:
        return name
    fitting = max(place for place in range(len(name)) if not place or _width(name[:place]) <= longest - 1)
    return f"{name[:fitting].rstrip()}…"


def wrapped(name: str, width: int = 28) -> str:
    """A name on several lines, each as wide as so many letters of usual width, so that names of variants, which begin
    alike, stay distinct."""
    for letters in range(width, 0, -1):
        lines = textwrap.wrap(plain(name), letters, max_lines=LINES, placeholder=" …" if letters > 2 else "")
        if all(_width(line) <= width for line in lines):
            break
    return "\n".join(lines)


def _width(text: str) -> float:
    """The width of a text in letters of usual width."""
    return sum(2 if east_asian_width(c) in "WF" else 1.7 if c in "MW@%" else 1.25 if c.isupper() else 1 for c in text)


def _more_lines(names: Iterable[str]) -> int:
    """The pixels that the second and further lines of names in a legend of two columns take."""
    return LINE * sum(name.count("\n") for name in names)


def canvas(width: float, height: float) -> Figure:
    """An empty figure with a size in pixels."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width * PIXEL, height * PIXEL), layout="constrained")


def panels(figure: Figure, number: int, columns: int, **shared: Any) -> list[Any]:
    """So many axes, in rows of so many columns."""
    axes = figure.subplots(math.ceil(number / columns), columns, squeeze=False, **shared).ravel()
    for surplus in axes[number:]:
        surplus.remove()
    return list(axes[:number])


@style()
def shot_curves(
    table: Table, shots: Sequence[int], colours: Mapping[str, int], floor: float | None, what: str = "accuracy"
) -> Figure:
    """A table of accuracies in percent as curves over the shots of its columns; all images (-1) are on the right.

    A method with one number of shots is a point with a bar for its interval.
    colours: {method with a colour and a band: the colour's number}; the others are thin and grey. floor: that of always
        naming the most frequent class. what: what is measured.
    """
    at = [n if n > 0 else 2 * max(*shots, 1) for n in shots]
    figure = canvas(WIDTH, 310 + 9 * len(colours) + _more_lines(map(wrapped, colours)))
    axes = figure.add_subplot(xlabel="training images per class (shots)", ylabel=f"{what} in %")
    axes.set_xscale("log", base=2)
    label = "other methods"
    for row in sorted(table.rows, key=lambda row: row.name in colours):
        points = [(n, cell.mean, *ends(cell)) for n, cell in zip(at, table.line(row).values(), strict=True) if cell]
        if not points:
            continue
        x, values, low, high = np.transpose(points)
        if row.name in colours:
            number = colours[row.name]
            if len(points) == 1:
                axes.vlines(x, low, high, color=PALETTE[number], linewidth=2)
            axes.fill_between(x, low, high, color=PALETTE[number], alpha=0.15, linewidth=0)
            axes.plot(x, values, linewidth=2, label=wrapped(row.name), **look(number))
        else:
            axes.plot(x, values, color=GREY, linewidth=1, marker=".", markersize=5, label=label)
            label = ""
    if floor is not None:
        axes.axhline(floor, color=GREY, linewidth=1, linestyle=":", label="most frequent class")
    axes.set_xticks(at, [str(n) if n > 0 else "all" for n in shots])
    axes.minorticks_off()
    axes.grid(axis="y")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def ends(cell: Cell) -> tuple[float, float]:
    """The ends of a cell's interval, NaN if it has none."""
    return (cell.interval.low, cell.interval.high) if cell.interval else (math.nan, math.nan)


@style()
def reliability_diagram(name: str, predictions: Predictions, ece: float, number: int) -> Figure:
    """Accuracy against confidence in ten equal bins, above the percentage of images in each bin.

    predictions: pooled over seeds. ece: the mean over seeds in percent. number: the number of the method's colour.
    """
    bins = np.clip(np.ceil(predictions.confidence * BINS).astype(int) - 1, 0, BINS - 1)
    images = np.bincount(bins, minlength=BINS)
    right = np.bincount(bins, predictions.correct, BINS) / np.maximum(images, 1)
    sure = np.bincount(bins, predictions.confidence, BINS) / np.maximum(images, 1)
    centres, some = (np.arange(BINS) + 0.5) * 100 / BINS, images > 0
    title = wrapped(name, 24)
    figure = canvas(236, 324 + _more_lines([title]))
    axes, below = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    axes.bar(centres[some], 100 * right[some], 9, color=PALETTE[number], alpha=0.4)
    axes.plot([0, 100], [0, 100], color=GREY, linewidth=1, linestyle="--")
    axes.plot(100 * sure[some], 100 * right[some], linewidth=1.4, **look(number))
    axes.set(xlim=(0, 100), ylim=(0, 100), ylabel="accuracy in %", title=f"{title}\n")
    axes.text(0, 102, f"ECE {ece:.1f} %", fontsize=8, va="bottom")
    below.bar(centres, 100 * images / images.sum(), 9, color=GREY, alpha=0.6)
    below.set(xlabel="confidence in %", ylabel="images, %", xticks=(0, 50, 100))
    return figure


@style()
def risk_coverage_curves(of_methods: Mapping[str, Sequence[Predictions]], colours: Mapping[str, int]) -> Figure:
    """Error rate on the most confident images against the share of images answered.

    of_methods: {method: predictions of each seed}. colours: {method: the colour's number}.
    """
    figure = canvas(WIDTH, 300 + 9 * len(of_methods) + _more_lines(map(wrapped, of_methods)))
    axes = figure.add_subplot(xlabel="images answered, the most confident first, in %", ylabel="of these wrong, in %")
    for name, seeds in of_methods.items():
        of_seeds = [risk_coverage(one) for one in seeds]
        coverage, risk = of_seeds[0][0], np.mean([risk for _, risk in of_seeds], axis=0)
        # Curves start at 2 % of the images, since the first few make them jump.
        first = max(len(coverage) // 50, 1) - 1
        rows = np.unique(np.linspace(first, len(coverage) - 1, min(POINTS, len(coverage) - first)).astype(int))
        every = (4 * colours[name], max(len(rows) // 6, 1))
        axes.plot(
            100 * coverage[rows], 100 * risk[rows], linewidth=1.8, markevery=every, label=wrapped(name),
            **look(colours[name]),
        )  # fmt: skip
    axes.set(xlim=(0, 100), ylim=(0, None))
    axes.grid()
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@style()
def matrix(title: str, shares: np.ndarray, classnames: Sequence[str], text: Callable[[float], str]) -> Figure:
    """A matrix (C, C) of shares in 0..1, true classes as rows, as colours with a text in each cell."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    size, names = len(classnames), [short(name, 24) for name in classnames]
    cell = min(LARGEST_CELL, (WIDTH - 170) / size)
    room = 6.2 * max(map(_width, names)) + 24  # pixels of the longest name
    title = wrapped(title)
    figure = canvas(max(cell * size + room, 250), cell * size + room + 24 + _more_lines([title]))
    axes = figure.add_subplot(aspect="equal")
    figure.suptitle(title, x=0.01, ha="left", fontsize=9, fontweight="bold")
    # Text is legible on the strongest colour, in light and in dark.
    blues = LinearSegmentedColormap.from_list("blues", [to_rgba(PALETTE[0], 0), to_rgba(PALETTE[0], 0.55)])
    axes.pcolormesh(shares, cmap=blues, vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        if size <= WITH_NUMBERS and text(share) != "0":
            axes.text(column + 0.5, row + 0.5, text(share), ha="center", va="center", fontsize=min(8, cell * 0.33))
    for i in range(size):
        axes.plot([i, i + 1, i + 1, i, i], [i, i, i + 1, i + 1, i], color=GREY, linewidth=1)
    axes.set(xlim=(0, size), ylim=(size, 0))
    axes.spines[:].set_visible(True)
    small = float(np.clip(0.55 * cell, 3, 8))
    axes.set_yticks(np.arange(size) + 0.5, names, fontsize=small)
    axes.set_xticks(np.arange(size) + 0.5, names, fontsize=small, rotation=90)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    return figure


@style()
def training_figure(seeds: Sequence[Mapping[str, Mapping[int, float]]]) -> Figure:
    """Loss, accuracy and loss terms, {name: {epoch: value}} of each seed, as thin lines; their mean is thick."""
    names = list(dict.fromkeys([*LEARNED, *(name for of_seed in seeds for name in of_seed)]))
    names = [name for name in names if any(name in of_seed for of_seed in seeds)][:PANELS]
    figure = canvas(WIDTH if len(names) > 1 else WIDTH / 2, 140 * math.ceil(len(names) / 3) + 20)
    for axes, name in zip(panels(figure, len(names), min(3, len(names)), sharex=True), names, strict=True):
        of_seeds = [of_seed[name] for of_seed in seeds if name in of_seed]
        for curve in of_seeds:
            point = {"marker": "o", "markersize": 4} if len(curve) == 1 else {}
            axes.plot(list(curve), list(curve.values()), color=PALETTE[0], alpha=0.4, linewidth=0.8, **point)
        shared = sorted(set.intersection(*map(set, of_seeds)))
        axes.plot(shared, [np.mean([curve[epoch] for curve in of_seeds]) for epoch in shared], color=PALETTE[0])
        axes.set_title(short(LEARNED.get(name, name), 20), fontsize=8)
        axes.locator_params(nbins=4)
        axes.locator_params(axis="x", integer=True)
        axes.ticklabel_format(axis="y", scilimits=(-3, 4))
        axes.tick_params(labelsize=7)
        axes.grid(axis="y")
    figure.supxlabel("epoch", fontsize=8)
    return figure


def look(number: int) -> dict[str, Any]:
    """How a method's line looks, also without colours."""
    return {"color": PALETTE[number], "marker": MARKERS[number], "linestyle": DASHES[number], "markersize": 5}
