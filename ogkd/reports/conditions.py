"""What a row's numbers are means of: its seeds, data sets, shots, epochs, backbone, sentences, settings and budget.

A caption names what all rows have in common; what differs between them has a column. CSV and spreadsheets have a column
for everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ogkd.core.words import ranges, sentence
from ogkd.evaluation import budget
from ogkd.evaluation.collect import Run
from ogkd.evaluation.methods import known_methods

OWN, TEMPLATES = "this project's", "templates"  # banks
WORDS: dict[str, Callable[[str], str]] = {
    "seeds": lambda value: f"seeds {value}" if {*value} & {*",-("} else f"seed {value}",
    "shots": lambda value: f"{value} shot{'s' if value != '1' else ''}" if value != "all" else "all images",
    "epochs": lambda value: f"{value} epoch{'s' if value != '1' else ''}",
    "backbone": str,
    "bank": lambda value: f"teacher sentences: {value}",
    "settings": lambda value: f"{value} settings",
    "tuned per data set": lambda value: (
        f"{value if value != '0' else 'no'} value{'s' * (value != '1')} tuned per data set"
    ),
    "search": lambda value: f"best of {value}",
    "labelled images per class": lambda value: f"{value} labelled image{'s' * (value != '1')} per class",
}
COLUMNS = ("n", "seeds", "data sets", *list(WORDS)[1:])  # of a CSV

Conditions = Mapping[str, str]


def conditions(runs: Iterable[Run]) -> dict[str, str]:
    """The conditions of a row with these runs; those that diverged do not count."""
    runs, seeds = [run for run in runs if not run.diverged], dict[tuple, set[int]]()
    for run in runs:
        seeds.setdefault((run.dataset, run.kind, run.shots), set()).add(run.seed)  # a cell of a data set
    if not runs:
        return {}
    every = set().union(*seeds.values())
    uneven = "" if all(one == every for one in seeds.values()) else " (not in every cell)"
    return {
        "n": ranges(map(len, seeds.values())),
        "seeds": ranges(every) + uneven,
        "data sets": " ".join(sorted({run.dataset for run in runs})),
        "shots": ranges(run.shots for run in runs if run.shots > 0) or "all",
        **{name: ", ".join(dict.fromkeys(filter(None, map(of, runs)))) for name, of in _OF_RUN.items()},
    }


def common(rows: Sequence[Conditions]) -> str:
    """What all rows that have it have in common, as a sentence; "" without any."""
    shared = {name: values[0] for name in WORDS if len(values := _values(rows, name)) == 1}
    phrases = [WORDS[name](value) for name, value in shared.items() if value != budget.UNKNOWN]
    return sentence("; ".join(phrases)) if phrases else ""


def columns(rows: Sequence[Conditions]) -> list[str]:
    """What differs between rows, and so has a column."""
    return [name for name in WORDS if len(_values(rows, name)) > 1]


def sentences(rows: Mapping[str, Conditions]) -> list[str]:
    """The conditions of rows by name, for tables whose rows are pairs of these: what they share, and what differs."""
    differing = [
        sentence(f"{name}: " + "; ".join(f"{row} {of[name]}" for row, of in rows.items() if of.get(name)))
        for name in columns([*rows.values()])
    ]
    return [*filter(None, [common([*rows.values()])]), *differing]


def _values(rows: Sequence[Conditions], name: str) -> list[str]:
    return list(dict.fromkeys(row[name] for row in rows if row.get(name)))


def _epochs(run: Run) -> str:
    """The number of epochs; "" of a method that does not learn in steps."""
    method, optim = known_methods().get(run.method), run.results["config"].get("OPTIM")
    if "OPTIM.MAX_EPOCH" in budget.searched(run):
        return "searched"
    epochs = optim.get("MAX_EPOCH") if isinstance(optim, dict) else None
    if not isinstance(epochs, int) or (method and not method.steps):
        return ""
    return f"at most {epochs}" if method and method.ends_early else str(epochs)


def bank(run: Run) -> str:
    """Whose teacher sentences a run used, those of OGKD's terms (DISTIL) too; "" without a teacher."""
    sections = run.results["config"].get("TRAINER")
    sections = {name: of for name, of in sections.items() if isinstance(of, dict)} if isinstance(sections, dict) else {}
    own = sections.get(run.method.upper(), {})
    used = [own, *([sections.get("OGKD", {})] if own.get("DISTIL") == "ogkd" else [])]
    banks = [
        str(of.get("PROMPT_BANK") or OWN) if of["PROMPTS"] == "bank" else TEMPLATES for of in used if "PROMPTS" in of
    ]
    return ", ".join(dict.fromkeys(Path(name).name for name in banks))


def _settings(run: Run) -> str:
    return str(run.results.get("settings") or run.results["config"].get("SETTINGS") or "")


_OF_RUN: dict[str, Callable[[Run], str]] = {
    "epochs": _epochs,
    "backbone": lambda run: run.backbone,
    "bank": bank,
    "settings": _settings,
    "tuned per data set": budget.tuned,
    "search": budget.search,
    "labelled images per class": budget.labelled,
}
