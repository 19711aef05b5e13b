"""Equal search: for each method the same number of random settings, compared on labelled images, never test images.

The space of a method is the learning rate and the number of epochs, as multiples of its own (COMMON), and each of its
options that declares `tune`, the range to draw from. A YAML file changes it: for each method, keys with a range
{from: 0.001, to: 0.1} or a list of values to choose from.

A trial is a run of its own (DATASET.TRIAL), with its own folder below OUTPUT/tune, on the images that were drawn for
the run's seed; so each seed has a search of its own, and no search sees more labelled images than its final run.
"""

from __future__ import annotations

import csv
import io
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import yaml

from ogkd.core import UserError, atomic_path
from ogkd.core.config_files import merged, nested, read_config, read_yaml
from ogkd.core.schema import Rule, mismatch
from ogkd.data.trial_images import VAL
from ogkd.evaluation.collect import runs_in
from ogkd.evaluation.methods import expanded, named
from ogkd.evaluation.metrics import METRICS, compute
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.protocol import PLACES, SCORES
from ogkd.runs.config import config_path, flat, resolve
from ogkd.runs.folder import PREDICTIONS
from ogkd.runs.presets import default_preset, method_file
from ogkd.runs.protocols import BEST, Job, Places, job, tune_folder
from ogkd.runs.registry import method_class
from ogkd.runs.spec import FAST, SEARCH, UNIVERSAL, RunSpec, shots_word

COMMON = {"OPTIM.LR": (0.1, 10.0), "OPTIM.MAX_EPOCH": (0.1, 2.0)}  # multiples of a method's own value
TRACE = "trials.csv"
WIDE = 10  # a range whose ends differ by at least this factor is drawn from on a logarithmic scale
NUMBER = Rule(lambda value: math.isfinite(float(value)), "a number")  # YAML reads 1e-4 as text
RANGE = {"from": NUMBER, "to": NUMBER}


class Range(NamedTuple):
    """A range of numbers to draw from, whole numbers if both ends are."""

    low: float
    high: float

    def draw(self, generator: random.Random) -> float:
        """A number in the range with three digits; of whole numbers that are not on the logarithmic scale, each is as
        likely as the others."""
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        if self.low > 0 and self.high >= WIDE * self.low:
            value = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = generator.uniform(self.low - whole / 2, self.high + whole / 2)
        value = round(value) if whole else float(f"{value:.3g}")
        return min(max(value, self.low), self.high)


class Choice(tuple[Any, ...]):
    """Values to choose from."""

    __slots__ = ()

    def draw(self, generator: random.Random) -> Any:
        return generator.choice(self)


Space = dict[str, Range | Choice]


@dataclass(frozen=True)
class Plan:
    """How to search. seed: of the random settings. space: a YAML file, "" for the methods' own spaces."""

    trials: int
    score: str = "accuracy"
    folds: int = 0  # of cross-validation within the shots; 0: on the validation images
    seed: int = 1
    space: str = ""


@dataclass(frozen=True)
class Search:
    """The search of a method for the run of one seed.

    spec: that run, with settings of the preset `base`. trials: the settings of each and the job that tries them.
    """

    plan: Plan
    title: str
    spec: RunSpec
    base: str
    space: Space
    trials: tuple[tuple[dict[str, Any], Job], ...]
    folder: Path

    @property
    def jobs(self) -> list[Job]:
        return [job for _, job in self.trials]

    def trace(self) -> list[dict[str, Any]]:
        """The trials in order: number, score, nll, seconds, status and settings. Scores are means over folds."""
        rows = []
        for number, (settings, tried) in enumerate(self.trials, 1):
            runs = runs_in(tried.folders(), diverged=True)
            status = "diverged" if any(run.diverged for run in runs) else "finished"
            if status == "finished" and len(runs) < len(tried.specs):
                raise UserError(f"Trial {number} of {self.spec} is not finished: repeat the command to continue.")
            score = nll = None
            if status == "finished":
                tested = [Predictions.load(run.path / PREDICTIONS) for run in runs]
                score, nll = (
                    fmean(cast(float, compute(name, one)) for one in tested)
                    for name in (SCORES[self.plan.score], "nll")
                )
            seconds = sum(run.results["seconds"] for run in runs)
            rows.append({"trial": number, "score": score, "nll": nll, "seconds": seconds, "status": status, **settings})
        return rows

    def best(self, trace: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """The best finished trial: of equal scores the one with the lower NLL, and then the earlier one. None if there
        was nothing to search.

        Raises:
            UserError: every trial diverged.
        """
        finished = [row for row in trace if row["status"] == "finished"]
        if trace and not finished:
            raise UserError(
                f"All {len(trace)} trials of {self.spec} diverged: search in a narrower space, see --space."
            )
        sign = 1 if METRICS[SCORES[self.plan.score]].lower_is_better else -1
        return min(finished, key=lambda row: (sign * row["score"], row["nll"], row["trial"]), default=None)

    def write(self) -> Outcome:
        """Write trials.csv and best.yaml, which `--settings search` reads."""
        trace = self.trace()
        outcome = Outcome(self, trace, self.best(trace))
        text = io.StringIO()
        table = csv.DictWriter(text, ["trial", "score", "nll", "seconds", "status", *self.space], lineterminator="\n")
        table.writeheader()
        table.writerows(trace)
        plan, spec = self.plan, self.spec
        record = {"TRIALS": len(trace), "SCORE": plan.score, "FOLDS": plan.folds, "SEED": plan.seed}
        record |= {"KEYS": list(self.space), "BASE": self.base}
        pairs = {key: value for key, value in zip(spec.pairs[::2], spec.pairs[1::2], strict=True) if key not in PLACES}
        settings = reduce(
            merged, [_own_settings(spec), nested(pairs | outcome.settings), {"SETTINGS": SEARCH, "SEARCH": record}]
        )
        head = f"# {self.title}, {spec.method}, seed {spec.seed}: the best of {len(trace)} trials"
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, content in ((TRACE, text.getvalue()), (BEST, f"{head}\n{yaml.safe_dump(settings)}")):
            with atomic_path(self.folder / name) as temporary:
                temporary.write_text(content, encoding="utf-8")
        return outcome


@dataclass(frozen=True)
class Outcome:
    """The result of a search; `best` is None if there was nothing to search."""

    search: Search
    trace: list[dict[str, Any]]
    best: Mapping[str, Any] | None

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the best trial."""
        return {key: self.best[key] for key in self.search.space} if self.best else {}


def searches(
    plan: Plan,
    protocol: str,
    dataset: str,
    methods: Sequence[str],
    seeds: Sequence[int],
    shots: Sequence[int],
    places: Places,
    pairs: Sequence[str] = (),
    more: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[Search]:
    """The searches of a protocol, one for each method, number of shots and seed. `more`: further pairs of methods.

    Raises:
        UserError: a method, a space or a value in it is wrong.
    """
    given = read_space(plan.space)
    if few := [number for number in shots if 0 < number < plan.folds]:
        raise UserError(f"{few[0]} shots cannot be divided into {plan.folds} folds: take fewer folds.")
    return [
        _search(plan, protocol, dataset, method, number, seed, places, (*pairs, *more.get(method, ())), given)
        for method in expanded(methods)
        for number in shots
        for seed in seeds
    ]


def _search(
    plan: Plan, protocol: str, dataset: str, method: str, shots: int, seed: int, places: Places, pairs: Sequence[str],
    given: Mapping[str, Space],
) -> Search:  # fmt: skip
    base = FAST if FAST in (places.settings, default_preset(method, dataset, shots)) else UNIVERSAL
    spec = job(protocol, method, dataset, shots, seed, replace(places, settings=base), pairs).specs[0]
    spec = replace(spec, method_file=method_file(spec.method_file, UNIVERSAL))
    folder = tune_folder(protocol, spec.method, spec.dataset, shots, seed, places)
    space = {key: values for key, values in space_of(spec, given).items() if key not in pairs[::2]}
    generator = random.Random(f"{plan.seed} {method} {seed}")
    tested = [f"{number}/{plan.folds}" for number in range(1, plan.folds + 1)] or [VAL]
    trials = []
    for number in range(1, plan.trials + 1 if space else 1):
        settings = {key: values.draw(generator) for key, values in space.items()}
        specs = [
            replace(
                spec,
                folder=str(folder / f"trial_{number:03}" / on.replace("/", "_of_")),
                pairs=(*spec.pairs, "DATASET.TRIAL", on, *words_of(settings)),
            )
            for on in tested
        ]
        trials.append((settings, Job(protocol, tuple(specs))))
    title = f"Search on {spec.dataset}, {protocol}, {shots_word(shots)} shots"
    return Search(plan, title, spec, base, space, tuple(trials), folder)


def space_of(spec: RunSpec, given: Mapping[str, Space] = {}) -> Space:
    """What is searched for a method: `given` for it, else its own space; {} for a method that learns without steps.

    Raises:
        UserError: a key or a value is wrong.
    """
    own: dict[str, Any] = dict(flat(resolve(spec).cfg))
    method = method_class(spec.method)
    space = dict(given.get(spec.method, {}))
    if spec.method not in given and method.takes_steps():
        options = {f"TRAINER.{spec.method.upper()}.{name}": option.tune for name, option in method.options.items()}
        ranges = {key: (own[key] * low, own[key] * high) for key, (low, high) in COMMON.items()}
        ranges["OPTIM.MAX_EPOCH"] = max(1, ranges["OPTIM.MAX_EPOCH"][0]), ranges["OPTIM.MAX_EPOCH"][1]
        space = {key: Range(*ends) for key, ends in (ranges | options).items() if ends}
    for key, values in space.items():
        if isinstance(values, Range):
            kind = round if isinstance(own.get(key), int) else float
            space[key] = Range(kind(values.low), kind(values.high))
    for place in range(max(map(len, space.values()), default=0)):
        ends = [(key, values[place % len(values)]) for key, values in space.items()]
        resolve(replace(spec, pairs=(*spec.pairs, *words_of(dict(ends)))))
    return space


def words_of(settings: Mapping[str, Any]) -> list[str]:
    """Settings as KEY VALUE pairs."""
    return [str(word) for pair in settings.items() for word in pair]


def read_space(path: str) -> dict[str, Space]:
    """The spaces of methods in a YAML file, {} for none; keys without a dot are options of the method.

    Raises:
        UserError: the file is missing or has another form.
    """
    content = read_yaml(Path(path), "search space") if path else {}
    spaces: dict[str, Space] = {}
    for word, keys in (content if isinstance(content, dict) else {"the file": content}).items():
        if wrong := _fault(keys):
            raise UserError(
                f"{path} is no search space ({word}: {wrong}): it has, for each method, keys with a range such as "
                "OPTIM.LR: {from: 0.001, to: 0.1} or a list of values such as N_CTX: [4, 16]."
            )
        method = named(str(word))
        method_class(method)  # raises UserError if there is none
        spaces[method] = {
            (key if "." in key else f"TRAINER.{method.upper()}.{key}"): (
                Choice(values) if isinstance(values, list) else Range(float(values["from"]), float(values["to"]))
            )
            for key, values in keys.items()
        }
    return spaces


def _fault(keys: object) -> str:
    """What is wrong with a method's keys in a file; "" if nothing is."""
    if not isinstance(keys, dict) or not keys:
        return "it has no keys"
    shapes = {key: [(float, str, bool)] if isinstance(of, list) else RANGE for key, of in keys.items()}
    if wrong := mismatch(keys, shapes):
        return wrong
    empty = [
        key for key, of in keys.items() if not of or (isinstance(of, dict) and float(of["from"]) > float(of["to"]))
    ]
    return f"its {empty[0]} has no values" if empty else ""


def space_text(planned: Sequence[Search]) -> str:
    """The spaces of searches as a YAML file that `read_space` reads."""
    spaces = {
        one.spec.method: {
            key: list(values) if isinstance(values, Choice) else {"from": values.low, "to": values.high}
            for key, values in one.space.items()
        }
        for one in planned
        if one.space
    }
    return yaml.safe_dump(spaces, sort_keys=False, default_flow_style=None)


def _own_settings(spec: RunSpec) -> dict[str, Any]:
    """The content of a method's configuration file, its options under the method's own name."""
    content = dict(read_config(config_path(spec.method_file))) if spec.method_file else {}
    sections = content.pop("TRAINER", None) or {}
    options: dict[str, Any] = reduce(merged, sections.values(), {})
    return merged(content, {"TRAINER": {spec.method.upper(): options}}) if options else content
