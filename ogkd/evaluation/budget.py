"""What a run was given, in words for tables: values chosen for its data set, a search, labelled images per class."""

from __future__ import annotations

from collections.abc import Sequence

from ogkd.core.words import counted, listed
from ogkd.evaluation.collect import Run

UNKNOWN = "not recorded"  # of runs by former versions and trainers of others


def searched(run: Run) -> list[str]:
    """The keys whose values a search chose for the run, for each seed another."""
    keys = _search(run).get("KEYS")
    return keys if isinstance(keys, list) else []


def tuned(run: Run) -> str:
    """How many values were chosen for the run's data set, by its paper or by a search."""
    recorded = run.results.get("tuned")
    return UNKNOWN if recorded is None else str(len(recorded) + len(searched(run)))


def search(run: Run) -> str:
    """The search that chose a run's settings: "8 trials by accuracy on validation images"; "" without one."""
    facts = _search(run)
    if not facts.get("TRIALS"):
        return ""
    where = f"in {facts['FOLDS']} folds of the shots" if facts.get("FOLDS") else "on validation images"
    return f"{counted(facts['TRIALS'], 'trial')} by {str(facts.get('SCORE')).replace('_', ' ')} {where}"


def labelled(run: Run) -> str:
    """The labelled images per class that the run used: "16", or "16 + 4 (alpha)" with those that alpha was chosen on;
    "" if it learned nothing, as
    a test of another run's prompt."""
    used = run.results.get("labelled")
    if used is None:
        return "" if run.kind in ("test_new", "transfer") else UNKNOWN
    if not any(used["train"]):
        return ""
    chosen = used["chosen"]
    return _span(used["train"]) + (f" + {_span(used['val'])} ({listed(chosen, len(chosen))})" if chosen else "")


def _search(run: Run) -> dict:
    facts = run.results["config"].get("SEARCH")
    return facts if isinstance(facts, dict) and run.results.get("settings") == "search" else {}


def _span(ends: Sequence[int]) -> str:
    """The fewest and the most of a class: "16", or "3 to 16"."""
    return " to ".join(dict.fromkeys(map(str, ends)))
