"""Figures for the page (light, dark and print) and for papers (PNG and PDF).

Matplotlib draws a figure once, in the colours of COLOURS. In the page these become CSS variables, so that figures
follow the reader's colour scheme. Text remains text in the page's font, so that it can be selected and searched.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ogkd.core import atomic_path
from ogkd.reports.render import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

# For light and dark. Series colours are distinguishable with any colour vision and have contrast on both backgrounds.
COLOURS = {
    "ink": ("#1d2430", "#e8ebf0"),
    "muted": ("#5b6473", "#a3adbb"),
    "grid": ("#dde1e7", "#363f4c"),
    "ground": ("#fdfdfe", "#171c24"),
    "series0": ("#0b6fb8", "#62b4f0"),
    "series1": ("#c2500a", "#f58f52"),
    "series2": ("#13805e", "#4fc79f"),
    "series3": ("#99487f", "#dd93c6"),
    "series4": ("#8a6800", "#dfb53c"),
    "series5": ("#4c5870", "#aab6c8"),
}
INK, MUTED, GRID, GROUND = (COLOURS[name][0] for name in ("ink", "muted", "grid", "ground"))
SERIES = [light for name, (light, _) in COLOURS.items() if name.startswith("series")]
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)), (0, (4, 1, 1, 1, 1, 1)), (0, (1, 1)))
HATCHES = ("", "////", "....", "xxxx", "----", "oo")
WIDTH = 440  # pixels of a figure: two fit side by side, one fits on a phone
PIXEL = 1 / 72  # inch: a figure's inch has 72 units in SVG
TEXT, SMALL = 12, 10.5  # pixels
LONGEST_NAME = 30
RESOLUTION = 300  # dots per inch of a PNG; 72 of a figure's pixels are an inch on paper
STYLE: dict[Any, Any] = {
    "font.size": TEXT,
    "font.family": ["DejaVu Sans"],
    "text.color": INK,
    "text.parse_math": False,  # names may contain dollar signs
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "axes.titlesize": TEXT,
    "axes.titleweight": "bold",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": SMALL,
    "hatch.linewidth": 0.7,
    "svg.fonttype": "none",
}


@dataclass
class Drawing:
    """A figure of the page.

    name: unique; used for its files and its ids in the page. alt: alternative text that describes it.
    """

    name: str
    title: str
    alt: str
    figure: Figure = field(repr=False)

    @property
    def width(self) -> int:
        """Maximum width in the page, in pixels."""
        return round(self.figure.get_figwidth() / PIXEL)

    @cached_property
    def svg(self) -> str:
        """An <svg> element for the page, with CSS variables for colours; all text in it is escaped."""
        buffer = io.StringIO()
        with drawing():
            self.figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
        return _inline(buffer.getvalue(), self.name)

    def save(self, folder: Path) -> list[Path]:
        """Write it as PNG and PDF on white, each atomically. Returns the two files."""
        files = [folder / f"{self.name}.{kind}" for kind in ("png", "pdf")]
        for file in files:
            kind = file.suffix.removeprefix(".")
            undated = {"CreationDate": None} if kind == "pdf" else None  # equal figures give identical files
            with drawing(), atomic_path(file) as temporary:
                self.figure.savefig(temporary, format=kind, dpi=RESOLUTION, facecolor="white", metadata=undated)
        return files


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib in the page's style, independent of the user's style. Characters missing in its font are ignored,
    since the page uses the reader's font."""
    import matplotlib

    with warnings.catch_warnings(), matplotlib.rc_context():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def canvas(width: float, height: float) -> Figure:
    """An empty figure with a size in pixels."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width * PIXEL, height * PIXEL), dpi=72)


def place(figure: Figure, left: float, bottom: float, width: float, height: float):
    """Axes in a figure, placed in pixels from its lower left corner."""
    across, up = figure.get_figwidth() / PIXEL, figure.get_figheight() / PIXEL
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def short(name: str, longest: int = LONGEST_NAME) -> str:
    """A name on one line, shortened to fit into a figure."""
    name = plain(name)
    return name if len(name) <= longest else f"{name[: longest - 1].rstrip()}…"


def room(names: Sequence[str], size: float = SMALL, longest: int = LONGEST_NAME) -> float:
    """Width in pixels of the widest name in Matplotlib's font, which is wider than browsers' fonts."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    with drawing():
        font = FontProperties(size=size)
        widths = [text_to_path.get_text_width_height_descent(short(name, longest), font, False)[0] for name in names]
    return max(widths, default=0.0)


def tint(colour: str, share: float) -> tuple[str, float]:
    """A colour with an opacity in 0..1, as Matplotlib accepts it; it works on any background."""
    return colour, min(max(share, 0.0), 1.0)


def _inline(svg: str, name: str) -> str:
    """Matplotlib's SVG as an element of the page: without prologue, with unique ids and CSS variables as colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"url\(#([^)]+)\)", svg)) | set(re.findall(r'xlink:href="#([^"]+)"', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg).replace('xlink:href="#', f'xlink:href="#{name}-')
    svg = re.sub(r"font: (?:(\d+|bold) )?([\d.]+)px [^;\"]*", _font, svg)
    for role, (light, _) in COLOURS.items():
        svg = svg.replace(light, f"var(--{role})")
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    return re.sub(r">\s+<", "><", svg).strip().replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)


def _font(found: re.Match) -> str:
    weight = f"; font-weight: {found[1]}" if found[1] else ""
    return f"font-size: {found[2]}px{weight}"
