"""How the methods of a study do on corrupted test images, for runs that `ogkd corrupt` tested."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ogkd.evaluation.corrupted import errors
from ogkd.reports.corruptions import Tested, part_tables, tested
from ogkd.reports.page.evidence import Evaluation
from ogkd.reports.page.figures import WIDTH, canvas, look, panels, style, wrapped

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

COLUMNS = 3


def shift(anchor: str, tests: Sequence[Evaluation], colours: Mapping[str, int]) -> dict[str, Any] | None:
    """The results on corrupted images of the methods that have some: a table and the error over the levels; None
    without any."""
    rows = tested([replace(test.row, runs={"": test.runs}) for test in tests], tests[0].material.unreadable)
    if not rows:
        return None
    table = next(iter(part_tables("", rows)))
    names = [(one, colours[one.row.name]) for one in rows]
    alt = "The balanced error over the level of each kind of corruption; 0 are clean images."
    curves = tests[0].material.draw(f"{anchor}-corruptions", "Corrupted images", alt, _curves(names))
    return {"table": table, "curves": curves}


@style()
def _curves(rows: Sequence[tuple[Tested, int]]) -> Figure:
    """Balanced error in percent over levels, 0 for clean images: a panel per kind, a line per method."""
    kinds = list(dict.fromkeys(kind for one, _ in rows for kind in one.kinds))
    lines = math.ceil(len(kinds) / COLUMNS)
    figure = canvas(WIDTH * 1.5, 60 + 130 * lines + 12 * len(rows))
    every = panels(figure, len(kinds), COLUMNS, sharex=True, sharey=True)
    named: dict[str, Artist] = {}
    for place, (axes, kind) in enumerate(zip(every, kinds, strict=True)):
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
    every[0].set_ylim(0, None)  # of all panels, now that they have their lines
    figure.supxlabel("level (0: clean images)", fontsize=8)
    figure.supylabel("balanced error, %", fontsize=8)
    figure.legend(list(named.values()), list(named), loc="outside upper center", ncols=3)
    return figure
