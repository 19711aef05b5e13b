"""One HTML page over finished runs: `write(places, path)`.

The page is self-contained: no scripts, no external fonts or images. Matplotlib and Jinja are imported only when it is
written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ogkd.core import UserError, atomic_path
from ogkd.reports.page.canvas import COLOURS, Drawing
from ogkd.reports.page.chosen import check
from ogkd.reports.page.contents import Contents, contents
from ogkd.reports.page.gather import gather

TEMPLATES = Path(__file__).parents[1] / "templates"
TITLE = "Results of prompt tuning"

__all__ = ["write"]


def write(
    places: Path | str | Iterable[Path | str],
    path: Path | str = "report.html",
    *,
    images: bool = True,
    plots: Path | str | None = None,
    methods: Sequence[str] | None = None,
    title: str = TITLE,
) -> Path:
    """Write a page over the finished runs in a folder, or in several, and return its path.

    Args:
        places: an output folder, or several output or run folders.
        images: whether to include images of the data set and their names.
        plots: a folder to which each figure is also written as PNG and PDF.
        methods: methods in detailed figures, by class or title; by default the best, OGKD and zero-shot.

    Raises:
        UserError: no run is finished, a method was not run, or the page cannot be written.
    """
    path = Path(path)
    material = gather(places)
    material.notes.private = not images
    found = contents(material, title, check(methods, material.runs))
    text = _html(found)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="replace")
        if plots is not None:
            _save(found.drawings, Path(plots))
    except OSError as error:
        raise UserError(f"The report cannot be written ({error.strerror}: {error.filename}).") from error
    return path


def _save(drawings: Sequence[Drawing], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for drawing in drawings:
        drawing.save(folder)


def _html(found: Contents) -> str:
    """The page. All text is escaped, except that of the templates and of the figures, which Matplotlib escapes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from ogkd.reports.render import plain

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Names may contain control characters and lone surrogates.
        finalize=lambda value: value if isinstance(value, Markup) else plain(str(value)),
    )
    environment.filters["svg"] = lambda drawing: Markup(drawing.svg)
    colours = {scheme: {name: both[i] for name, both in COLOURS.items()} for i, scheme in enumerate(("light", "dark"))}
    return environment.get_template("page.html").render(page=found, colours=colours)
