"""One HTML page over finished runs: `write(places, path)`.

The page is self-contained: no scripts, no external fonts or images. Matplotlib, pandas and Jinja are imported only when
it is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ogkd.core import UserError, atomic_path
from ogkd.core.escape import plain
from ogkd.evaluation.methods import named_among
from ogkd.reports.page.contents import contents
from ogkd.reports.page.evidence import MOST
from ogkd.reports.page.grids import grid
from ogkd.reports.page.material import gather

TITLE = "Results of prompt tuning"

__all__ = ["write"]


def write(
    places: Path | str | Iterable[Path | str],
    path: Path | str = "report.html",
    *,
    images: bool | None = None,
    plots: Path | str | None = None,
    methods: Sequence[str] | None = None,
    title: str = TITLE,
) -> Path:
    """Write a page over the finished runs in a folder, or in several, and return its path.

    Args:
        places: an output folder, or several output or run folders.
        images: whether to include images of the data sets and their names, which may identify patients. By default
            only those of synthetic data sets.
        plots: a folder to which each figure is also written as PNG and PDF.
        methods: methods in detailed figures, by class or title; by default the best, OGKD and zero-shot.

    Raises:
        UserError: no run is finished, a method was not run, or the page cannot be written.
    """
    path, material = Path(path), gather(places, images)
    if methods and len(methods) > MOST:
        raise UserError(f"{len(methods)} methods are too many for one figure: give at most {MOST}.")
    page = contents(material, title, named_among(methods, (run.method for run in material.runs)) if methods else None)
    text = _html(page)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="replace")
        if plots is not None:
            for drawing in material.drawings:
                drawing.save(Path(plots))
    except OSError as error:
        raise UserError(f"The report cannot be written ({error.strerror}: {error.filename}).") from error
    return path


def _html(page: dict[str, Any]) -> str:
    """The page. All text is escaped, except that of the templates and of the figures, which Matplotlib escapes."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("ogkd.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Names may contain control characters and lone surrogates.
        finalize=lambda value: value if isinstance(value, Markup) else plain(str(value)),
    )
    environment.filters["svg"] = lambda drawing: Markup(drawing.svg)
    environment.filters["grid"] = grid
    return environment.get_template("page.html").render(page=page)
