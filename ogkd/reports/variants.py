"""Which runs may be averaged, and labels for the others.

The runs of one method on one data set are grouped into variants with equal configuration, data and weights, apart from
the seed and file locations. Each variant is a separate row, labelled by what it changed: "OGKD, GAMMA 0.6".
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import TypeVar, cast

from ogkd.evaluation.budget import searched
from ogkd.evaluation.collect import ELSEWHERE, Run
from ogkd.evaluation.methods import known_methods, order
from ogkd.evaluation.metrics import METRICS
from ogkd.evaluation.protocol import BASE2NEW_SHOTS, PLACES

KINDS = {"base2new": ("train_base", "test_new"), "few_shot": ("few_shot",)}  # of a protocol's runs
PARTS = {"train_base": "base", "test_new": "novel"}
ON_TRAINED_CLASSES = ("train_base", "few_shot")
# Keys that tables group by, or compare by a fingerprint.
GROUPED = ("SEED", "DATASET.NAME", "DATASET.FOLDER", "DATASET.NUM_SHOTS", "DATASET.SUBSAMPLE_CLASSES",
           "MODEL.BACKBONE.NAME", "TRAINER.NAME")  # fmt: skip
IGNORED = frozenset(PLACES + GROUPED)
CONTEXT = ("SETTINGS", ".PROMPT_BANK")  # ends of keys that are in a label only where runs of a method differ in them
IN_LABEL = ("shots", "tested only")  # facts that are in the label wherever a run has them
LONGEST_VALUE = 40
Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Variant:
    """The runs of one row on one data set.

    label: what was changed, as text; empty for the method as configured.
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

    def in_column(self, column: str) -> list[Run]:
        """The runs in a column, one per seed, including those that diverged if they were passed in."""
        return [run for run in self.runs if column_of(run) == column]


@dataclass
class _Group:
    """Runs on one data set that share all facts: configuration keys, "data", "weights". label: the facts to show."""

    dataset: str
    runs: list[Run]
    facts: dict[str, object]
    label: dict[str, object]

    def show(self, names: Iterable[str]) -> None:
        self.label |= {name: self.facts.get(name, "not recorded") for name in names}


def variants(runs: Sequence[Run]) -> tuple[list[Variant], list[str]]:
    """The variants among the runs of one protocol and one backbone, in table order, and sentences on what was left out.

    Labels are consistent over data sets, so that rows of different data sets can be joined by method and key.
    """
    result: list[Variant] = []
    notes: list[str] = []
    for method, of_method in _grouped(runs, lambda run: run.method):
        groups = list(chain.from_iterable(_split(same) for _, same in _grouped(of_method, lambda run: run.dataset)))
        _leave_out_context(groups)
        _distinguish(groups)
        short = _short_names({name for group in groups for name in group.label})
        for group in groups:
            label = ", ".join(_words(short[name], value) for name, value in sorted(group.label.items()))
            one_per_seed, conflicts = _one_per_seed(group.runs)
            title, key = _title(group.runs[0]), _key(group.label)
            result.append(Variant(method, title, label, key, group.dataset, tuple(one_per_seed)))
            notes += conflicts + _of_changed_data(one_per_seed)
    result.sort(key=lambda variant: (*order(variant.method), variant.label, variant.dataset))
    return _with_class_names(result), notes


Places = dict[tuple[str, str], list[tuple[Variant, list[Run]]]]


def by_place(runs: Sequence[Run]) -> tuple[Places, list[str]]:
    """For each data set and column of its protocol's table the rows with their runs there, of the runs that were tested
    on the classes that they were trained on, and sentences on what was left out."""
    places, notes = Places(), list[str]()
    for kind in ON_TRAINED_CLASSES:
        rows, conflicts = variants([run for run in runs if run.kind == kind])
        notes += conflicts
        for dataset, column in dict.fromkeys((row.dataset, column_of(run)) for row in rows for run in row.runs):
            chosen = [(row, row.in_column(column)) for row in rows if row.dataset == dataset]
            places[dataset, column] = [(row, of_row) for row, of_row in chosen if of_row]
    return places, notes


def _split(runs: Sequence[Run]) -> Iterator[_Group]:
    """Groups of equal facts among the runs of one method on one data set."""
    known = known_methods().get(runs[0].method)
    configs = []
    for run in runs:
        config = dict(_flat(run.results["config"])) | dict.fromkeys(searched(run), "searched")
        configs.append({key: value for key, value in config.items() if known is None or known.reads(key)})
    _fill(runs, configs)
    facts = [config | _other_facts(run) for run, config in zip(runs, configs, strict=True)]
    for _, same in _grouped(zip(runs, facts, strict=True), lambda pair: _key(pair[1])):
        of_group, shared = [run for run, _ in same], same[0][1]
        changed = next((run.changed for run in of_group if run.changed is not None), {})
        shown = {name: shared[name] for name in (*IN_LABEL, *changed) if name in shared}  # not what it does not read
        yield _Group(runs[0].dataset, of_group, shared, shown)


def _fill(runs: Sequence[Run], configs: list[dict[str, object]]) -> None:
    """Give a key that runs of another version lack the value of the runs that did not change it, if it is unique."""
    for key in sorted(set().union(*configs)):
        if not all(key in config for config in configs):
            usual = {
                repr(config[key]): config[key]
                for run, config in zip(runs, configs, strict=True)
                if key in config and key not in (run.changed or {})
            }
            for config in configs if len(usual) == 1 else ():
                config.setdefault(key, *usual.values())


def _other_facts(run: Run) -> dict[str, object]:
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


def _leave_out_context(groups: Sequence[_Group]) -> None:
    """Leave settings and bank out of the labels if all runs of the method have the same; tables say them elsewhere."""
    for name in {name for group in groups for name in group.label if name.endswith(CONTEXT)}:
        if len({repr(group.facts.get(name)) for group in groups}) == 1:
            for group in groups:
                group.label.pop(name, None)


def _distinguish(groups: Sequence[_Group]) -> None:
    """Make equal labels on one data set distinct by what the groups differ in: configuration, else weights, else data.

    What distinguishes two groups on one data set is added on the others too, except for data, which always differ.
    """
    for weights in (False, True):
        for _, same in _grouped(groups, lambda group: _key(group.label)):
            names = set[str]()
            for _, clash in _grouped(same, lambda group: group.dataset):
                of_any = set().union(*(group.facts for group in clash)) - {"data"}
                names |= {
                    name
                    for name in of_any
                    if (name == "weights") is weights and len({repr(group.facts.get(name)) for group in clash}) > 1
                }
            for group in same:
                group.show(names)
    for _, clash in _grouped(groups, lambda group: (group.dataset, _key(group.label))):
        for group in clash if len(clash) > 1 else ():
            group.show(["data"])


def _one_per_seed(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """One run per kind, shot count and seed. Of copies, one with predictions is taken; if their results disagree, it is
    unknown which is right, so the seed is left out."""
    chosen, notes = [], []
    for _, same in _grouped(runs, lambda run: (run.kind, run.shots, run.seed)):
        if all(_agree(same[0].results, run.results) for run in same[1:]):
            chosen.append(min(same, key=lambda run: (not (run.path / "predictions.npz").is_file(), str(run.path))))
        else:
            folders = " and ".join(str(run.path) for run in same)
            notes.append(
                f"{folders} are runs of one configuration and seed with different results, so seed {same[0].seed} is "
                f"left out: remove all but one."
            )
    return chosen, notes


def _of_changed_data(runs: Sequence[Run]) -> list[str]:
    """Sentences on data that changed between runs whose seeds are averaged."""
    notes = []
    for _, same in _grouped(runs, lambda run: (run.kind, run.shots)):
        for name, words in (("test_images", "test images"), ("sentences", "teacher sentences")):
            recorded = [run for run in same if run.results["fingerprints"].get(name)]
            of_each = _grouped(recorded, partial(_print_of, name))
            if len(of_each) > 1:
                folders = " and ".join(str(of_one[0].path) for _, of_one in of_each)
                notes.append(f"{folders} have different {words}, as they changed in between: repeat one with --rerun.")
    return notes


def _print_of(name: str, run: Run) -> str:
    return str(run.results["fingerprints"][name])


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


def _with_class_names(of_rows: Sequence[Variant]) -> list[Variant]:
    """Variants whose method shares its title with another also get the class name in their title."""
    methods: dict[str, set[str]] = {}
    for variant in of_rows:
        methods.setdefault(variant.title, set()).add(variant.method)
    return [replace(v, title=f"{v.title} ({v.method})") if len(methods[v.title]) > 1 else v for v in of_rows]


def _short_names(keys: Iterable[str]) -> dict[str, str]:
    """Each key's shortest unambiguous ending in whole parts: GAMMA for TRAINER.OGKD.GAMMA."""
    ends = {key: [".".join(key.split(".")[start:]) for start in range(key.count("."), -1, -1)] for key in keys}
    taken = [end for of_key in ends.values() for end in of_key]
    return {key: next((end for end in of_key if taken.count(end) == 1), key) for key, of_key in ends.items()}


def column_of(run: Run) -> str:
    """The column of its protocol's table that a run is in: base, novel or its number of shots."""
    return PARTS.get(run.kind) or shots_name(run.shots)


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
    if name == "SETTINGS":
        return f"{value} settings"
    text = repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
    if len(text) > LONGEST_VALUE:  # the hash keeps different values distinct
        text = f"{text[:LONGEST_VALUE]}… {hashlib.sha256(text.encode(errors='replace')).hexdigest()[:6]}"
    return f"{name} {text or repr(text)}"


# Configurations


def _flat(node: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """(dotted key, value) of the keys in a nested configuration that must be equal."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif f"{prefix}{key}" not in IGNORED:
            yield f"{prefix}{key}", _plain(value)


def _plain(value: object) -> object:
    """A value whose text is equal for equal numbers, also for those written as text: 1 becomes 1.0."""
    if isinstance(value, list):
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
    return json.dumps(facts, sort_keys=True) if facts else ""


def _grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> list[tuple[Key, list[Item]]]:
    """(key, its items) in the order in which keys appear."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.items())
