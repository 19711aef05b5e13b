"""How the methods of a study do on corrupted test images, for runs that `ogkd corrupt` tested."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ogkd.evaluation.corrupted import errors
from ogkd.reports.corruptions import Tested, part_tables
from ogkd.reports.page.evidence import Evaluation
from ogkd.reports.page.figures import WIDTH, Drawing, canvas, look, style, wrapped
from ogkd.reports.render import Table

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

COLUMNS = 3


@dataclass
class Shift:
    """tables: the methods and, of each, kinds and levels. curves: the error over the levels, a panel per kind."""

    tables: list[Table]
    curves: Drawing


def shift(anchor: str, tests: Sequence[Evaluation], colours: Mapping[str, int]) -> Shift | None:
    """The results on corrupted images of the methods that have some; None without any."""
    rows = [one for test in tests if (one := Tested.of(test.row, test.runs, test.material.unreadable))]
    tables = list(part_tables("", rows))
    if not tables:
        return None
    names = [(one, colours[one.row.name]) for one in rows]
    alt = "The balanced error over the level of each kind of corruption; 0 are clean images."
    return Shift(tables, Drawing(f"{anchor}-corruptions", "Corrupted images", alt, _curves(names)))


@style()
def _curves(rows: Sequence[tuple[Tested, int]]) -> Figure:
    """Balanced error in percent over levels, 0 for clean images: a panel per kind, a line per method."""
    kinds = list(dict.fromkeys(kind for one, _ in rows for kind in one.kinds))
    lines = math.ceil(len(kinds) / COLUMNS)
    figure = canvas(WIDTH * 1.5, 60 + 130 * lines + 12 * len(rows))
    panels = figure.subplots(lines, COLUMNS, squeeze=False, sharex=True, sharey=True).ravel()
    named: dict[str, Artist] = {}
    for place, (axes, kind) in enumerate(zip(panels, kinds, strict=False)):
        for one, colour in rows:
            if kind not in one.kinds:
                continue
            levels = sorted(set.intersection(*(set(seed.kinds[kind]) for seed in one.seeds)))
            values = [errors([seed.kinds[kind][level] for seed in one.seeds]) for level in levels]
            axes.plot(
                [0, *levels], [errors(one.clean), *values], label=wrapped(one.row.name), linewidth=1.6, **look(colour)
            )
        axes.set_title(kind.replace("_", " "), fontsize=8)
        axes.set(xlim=(-0.2, 5.2), xticks=range(6))
        axes.tick_params(labelsize=7, labelbottom=place + COLUMNS >= len(kinds))
        axes.grid(axis="y")
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))  # not every method was tested on each kind
    panels[0].set_ylim(0, None)  # of all panels, now that they have their lines
    for axes in panels[len(kinds) :]:
        axes.remove()
    figure.supxlabel("level (0: clean images)", fontsize=8)
    figure.supylabel("balanced error, %", fontsize=8)
    figure.legend(list(named.values()), list(named), loc="outside upper center", ncols=3)
    return figure
