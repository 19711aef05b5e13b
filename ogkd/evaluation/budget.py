"""What a run was given: how its settings were chosen and on how many labelled images per class, in words for tables."""

from __future__ import annotations

from collections.abc import Sequence

from ogkd.core.words import counted, listed
from ogkd.evaluation.collect import Run


def settings(run: Run) -> str:
    """The run's settings and what was chosen for its data set: "published, 6 values tuned for the data set"."""
    config, tuned = run.results["config"], run.results.get("tuned") or []
    name, search = run.results.get("settings") or config.get("SETTINGS") or "", config.get("SEARCH")
    if name == "search" and isinstance(search, dict):
        if not search.get("TRIALS"):
            return "search, with nothing to search"
        where = f"{search.get('FOLDS')} folds" if search.get("FOLDS") else "validation images"
        score = str(search.get("SCORE")).replace("_", " ")
        return f"search, best of {search['TRIALS']} trials by {score} on {where}"
    return f"{name}, {counted(len(tuned), 'value')} tuned for the data set" if tuned else str(name)


def labelled(run: Run) -> str:
    """The labelled images per class that the run used: "16", or "16 + 4 (alpha)" with those that alpha was chosen on;
    "" if the run did not record them."""
    used = run.results.get("labelled")
    if not used:
        return ""
    chosen = used["chosen"]
    return _span(used["train"]) + (f" + {_span(used['val'])} ({listed(chosen, len(chosen))})" if chosen else "")


def _span(ends: Sequence[int]) -> str:
    """The fewest and the most of a class: "16", or "3 to 16"."""
    return " to ".join(dict.fromkeys(map(str, ends)))
