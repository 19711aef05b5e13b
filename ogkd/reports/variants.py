"""Which runs may be averaged, and labels for the others.

The runs of one method on one data set are grouped into variants with equal configuration, data and weights, apart from
the seed and file locations. Each variant is a separate row, labelled by its differences: "OGKD, GAMMA 0.6".
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

from ogkd.core.config_files import DEFAULT, configs_in, merged, read_config
from ogkd.core.places import HOME
from ogkd.evaluation.collect import ELSEWHERE, Run
from ogkd.evaluation.methods import known_methods, order
from ogkd.evaluation.metrics import METRICS
from ogkd.evaluation.protocol import BASE2NEW_SHOTS, PLACES

# Keys that tables group by, or compare by a fingerprint.
GROUPED = ("SEED", "DATASET.NAME", "DATASET.FOLDER", "DATASET.NUM_SHOTS", "DATASET.SUBSAMPLE_CLASSES",
           "MODEL.BACKBONE.NAME", "TRAINER.NAME")  # fmt: skip
Key = TypeVar("Key", bound=Hashable)
IGNORED = frozenset(PLACES + GROUPED)
LONGEST_VALUE = 40


@dataclass(frozen=True)
class Variant:
    """The runs of one row on one data set.

    label: the differences from the configuration files as text; empty for the method as configured.
    key: the same without loss of information, used to join rows of different data sets.
    """

    method: str
    title: str
    label: str
    key: str
    dataset: str
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        return f"{self.title}, {self.label}" if self.label else self.title

    def of(self, kind: str, shots: int | None = None) -> list[Run]:
        """The runs of a kind (and shot count), one per seed, including those that diverged if they were passed in."""
        return [run for run in self.runs if run.kind == kind and shots in (None, run.shots)]


@dataclass
class _Group:
    """Runs that may be averaged, while their label is determined. `facts`: everything that they share (configuration
    keys, "data" and "weights"); `told`: the facts in the label."""

    runs: list[Run]
    facts: dict[str, object]
    told: dict[str, object] = field(default_factory=dict)

    def tell(self, names: Iterable[str]) -> None:
        self.told.update((name, self.facts.get(name, "not recorded")) for name in names)


def variants(runs: Sequence[Run]) -> tuple[list[Variant], list[str]]:
    """The variants among the runs of one protocol and one backbone, in table order, and sentences on what was left out.

    Labels are consistent over data sets, so that rows of different data sets can be joined by method and key.
    """
    found, notes = [], []
    for method, of_method in _grouped(runs, lambda run: run.method):
        groups = [
            (dataset, group)
            for dataset, of_dataset in _grouped(of_method, lambda run: run.dataset)
            for group in _split(of_dataset)
        ]
        _tell_apart(groups)
        short = _short_names({name for _, group in groups for name in group.told})
        for dataset, group in groups:
            label = ", ".join(_words(short[name], value) for name, value in sorted(group.told.items()))
            kept, conflicts = _one_per_seed(group.runs)
            found.append(Variant(method, _title(group.runs[0]), label, _key(group.told), dataset, tuple(kept)))
            notes += conflicts + _of_changed_data(kept)
    found.sort(key=lambda variant: (*order(variant.method), variant.label, variant.dataset))
    return _told_by_class(found), notes


def _split(runs: Sequence[Run]) -> Iterator[_Group]:
    """Groups of equal facts among the runs of one method on one data set."""
    configs = _filled([(run, dict(_flat(run.results["config"]))) for run in runs])
    facts = [config | _fingerprints(run) for run, config in zip(runs, configs, strict=True)]
    numbered = _grouped(range(len(runs)), lambda i: _key(facts[i]))
    for _, same in numbered:
        group = _Group([runs[i] for i in same], facts[same[0]])
        group.tell(_changed(group.runs, group.facts))
        yield group


def _fingerprints(run: Run) -> dict[str, object]:
    """Facts other than the configuration that must be equal."""
    prints = run.results["fingerprints"]
    facts = {"data": prints.get("dataset"), "weights": prints.get("weights")}
    if "graph" in prints:
        facts["graph"] = prints["graph"]
    if run.kind not in ("few_shot", "transfer") and run.shots != BASE2NEW_SHOTS:
        facts["shots"] = run.shots
    tested_only = run.kind == "few_shot" and run.results.get("trained") is False and prints.get("checkpoint")
    if tested_only or run.results.get("source") == ELSEWHERE:
        facts["tested only"] = True
    return facts


def _filled(runs: list[tuple[Run, dict[str, object]]]) -> list[dict[str, object]]:
    """Configurations in which a key missing from runs of another version gets the value of the runs that did not change
    it, if that value is unique."""
    keys = {key for _, config in runs for key in config}
    filled = [dict(config) for _, config in runs]
    for key in sorted(keys):
        if all(key in config for config in filled):
            continue
        unchanged = {
            repr(config[key]): config[key] for run, config in runs if key in config and key not in (run.changed or {})
        }
        if len(unchanged) == 1:
            for config in filled:
                config.setdefault(key, *unchanged.values())
    return filled


def _changed(runs: Sequence[Run], facts: dict[str, object]) -> list[str]:
    """Keys in which the runs differ from the method's files: as recorded, else compared with the current files."""
    always = [name for name in ("shots", "tested only") if name in facts]
    recorded = next((run.changed for run in runs if run.changed is not None), None)
    if recorded is not None:
        return always + [key for key in recorded if key not in IGNORED and key in facts]
    protocol = "few_shot" if runs[0].kind == "few_shot" else "base2new"
    expected = method_file(runs[0].method, protocol, runs[0].dataset)
    return always + [key for key, value in expected.items() if key in facts and repr(facts[key]) != repr(value)]


def _tell_apart(groups: Sequence[tuple[str, _Group]]) -> None:
    """Make equal labels on one data set distinct by what the groups differ in: configuration, else weights, else data.

    What distinguishes two groups on one data set is added on the others too, except for data, which always differ.
    """
    for names in (lambda group: group.facts.keys() - {"weights", "data"}, lambda group: {"weights"}):
        for _, same in _grouped(groups, lambda pair: _key(pair[1].told)):
            telling = set()
            for _, clash in _grouped(same, lambda pair: pair[0]):
                telling |= _differing([group for _, group in clash], names)
            for _, group in same:
                group.tell(telling)
    for _, clash in _grouped(groups, lambda pair: (pair[0], _key(pair[1].told))):
        for _, group in clash if len(clash) > 1 else ():
            group.tell(["data"])


def _differing(groups: Sequence[_Group], names: Callable[[_Group], Iterable[str]]) -> set[str]:
    of_any = {name for group in groups for name in names(group)}
    return {name for name in of_any if len({repr(group.facts.get(name)) for group in groups}) > 1}


def _one_per_seed(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """One run per kind, shot count and seed. Of copies, one with predictions is kept; if their results disagree, it is
    unknown which is right, so the seed is left out."""
    kept, notes = [], []
    for _, same in _grouped(runs, lambda run: (run.kind, run.shots, run.seed)):
        if all(_agree(same[0].results, run.results) for run in same[1:]):
            kept.append(min(same, key=lambda run: (not (run.path / "predictions.npz").is_file(), str(run.path))))
        else:
            folders = " and ".join(str(run.path) for run in same)
            notes.append(
                f"{folders} are runs of one configuration and seed with different results, so seed {same[0].seed} is "
                f"left out: remove all but one."
            )
    return kept, notes


def _of_changed_data(runs: Sequence[Run]) -> list[str]:
    """Sentences on data that changed between runs whose seeds are averaged."""
    notes = []
    for _, same in _grouped(runs, lambda run: (run.kind, run.shots)):
        for name, words in (("test_images", "test images"), ("sentences", "teacher sentences")):
            recorded = [run for run in same if run.results["fingerprints"].get(name)]
            of_each = _grouped(recorded, lambda run, name=name: str(run.results["fingerprints"][name]))
            if len(of_each) > 1:
                folders = " and ".join(str(of_one[0].path) for _, of_one in of_each)
                notes.append(f"{folders} have different {words}, as they changed in between: repeat one with --rerun.")
    return notes


def _agree(mine: dict, theirs: dict) -> bool:
    """Whether two results come from equal predictions; the last digits may depend on library versions."""
    numbers = all(
        abs(mine[name] - theirs[name]) < 1e-6
        for name in METRICS
        if isinstance(mine.get(name), int | float) and isinstance(theirs.get(name), int | float)
    )
    return numbers and mine.get("confusion_matrix") == theirs.get("confusion_matrix")


# Names


def _title(run: Run) -> str:
    known = known_methods().get(run.method)
    return known.title if known else run.results.get("title") or run.method


def _told_by_class(found: Sequence[Variant]) -> list[Variant]:
    """Variants whose method shares its title with another also get the class name in their title."""
    methods: dict[str, set[str]] = {}
    for variant in found:
        methods.setdefault(variant.title, set()).add(variant.method)
    return [replace(v, title=f"{v.title} ({v.method})") if len(methods[v.title]) > 1 else v for v in found]


def _short_names(keys: Iterable[str]) -> dict[str, str]:
    """Each key's shortest unambiguous ending in whole parts: GAMMA for TRAINER.OGKD.GAMMA."""
    ends = {key: [".".join(key.split(".")[start:]) for start in range(key.count("."), -1, -1)] for key in keys}
    taken = [end for of_key in ends.values() for end in of_key]
    return {key: next((end for end in of_key if taken.count(end) == 1), key) for key, of_key in ends.items()}


def shots_name(number: int) -> str:
    """A shot count as text, also the header of its column."""
    return "all images" if number < 0 else f"{number} shot{'s' if number != 1 else ''}"


def by_shots(number: int) -> float:
    """A sort key for shot counts: all images (-1) come last."""
    return number if number >= 0 else math.inf


def _words(name: str, value: object) -> str:
    """A fact as part of a label."""
    if name in ("data", "weights", "graph"):
        return f"{name} {str(value)[:6] if value else 'unknown'}"
    if name == "shots":
        return shots_name(cast(int, value))
    if name == "tested only":
        return name
    text = repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
    if len(text) > LONGEST_VALUE:  # the hash keeps different values distinct
        text = f"{text[:LONGEST_VALUE]}… {hashlib.sha256(text.encode(errors='replace')).hexdigest()[:6]}"
    return f"{name} {text or repr(text)}"


# Configurations


@cache
def method_file(method: str, protocol: str, dataset: str, root: Path = HOME) -> dict[str, object]:
    """The keys of a method's configuration for a data set, or of its default, including `_BASE_`; {} without one."""
    trainers = root / "configs" / "trainers"
    if method not in {path.stem for path in trainers.glob("*")}:
        return {}
    there = configs_in(trainers / method / protocol)
    name = dataset if dataset in there else DEFAULT
    return dict(_flat(_settings(trainers / method / protocol / f"{name}.yaml"))) if name in there else {}


def _settings(path: Path) -> dict:
    content = dict(read_config(path))
    base = content.pop("_BASE_", None)
    return merged(_settings(path.parent / base), content) if base else content


def _flat(node: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """(dotted key, value) of the relevant keys in a nested configuration; equal values have equal repr."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif f"{prefix}{key}" not in IGNORED:
            yield f"{prefix}{key}", _plain(value)


def _plain(value: object) -> object:
    """A value normalised across YAML and JSON: 1 becomes 1.0, 1e-5 a number, a tuple a list."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return value
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return value
    return number if not isinstance(value, int) or int(number) == value else value


def _key(facts: dict[str, object]) -> str:
    """Equal for equal facts, empty without facts."""
    return repr(sorted(facts.items(), key=lambda item: item[0])) if facts else ""


def _grouped(items: Iterable, key: Callable[..., Key]) -> list[tuple[Key, list]]:
    """(key, its items) in the order in which keys appear."""
    groups: dict[Key, list] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.items())
