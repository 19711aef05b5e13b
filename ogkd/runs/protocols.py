"""The protocols as sequences of runs: base-to-novel and few-shot (the benchmark) and transfer."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ogkd.core import UserError, did_you_mean, expanded
from ogkd.core.config_files import PROTOCOLS as PROTOCOLS
from ogkd.core.config_files import configs_in
from ogkd.core.places import HOME, command, work_folder
from ogkd.data.catalogue import DEFAULT_BACKBONE, OWN, Facts, config_name, load, name_of_folder, own_folder
from ogkd.data.folders import own_classes
from ogkd.data.listing import shown
from ogkd.data.same_classes import places as places_of
from ogkd.data.splits import class_names, read_split
from ogkd.evaluation.methods import named
from ogkd.models import model_named
from ogkd.runs.spec import DATASET_CONFIGS, SEARCH, UNIVERSAL, RunSpec, is_name, place_and_name, shots_word

if TYPE_CHECKING:
    from ogkd.runs.config import Configuration

TRANSFER = "transfer"
MOST_SEEDS = 10_000  # in one range
BEST = "best.yaml"  # the result of a search for settings


def _place(variable: str, default: str) -> Path:
    """A folder from the environment; as an absolute path, unless the current folder is the repository."""
    path = Path(expanded(os.environ.get(variable) or default))
    return path if Path.cwd() == work_folder() else path.absolute()


@dataclass(frozen=True)
class Places:
    """The locations of data, results and weights, and the preset of settings, "" for the data set's default; by default
    DATA, OUTPUT, BACKBONE and SETTINGS from the environment."""

    data: Path = field(default_factory=lambda: _place("DATA", "data"))
    output: Path = field(default_factory=lambda: _place("OUTPUT", "output"))
    backbone: str = field(default_factory=lambda: os.environ.get("BACKBONE") or "")
    settings: str = field(default_factory=lambda: os.environ.get("SETTINGS") or "")

    def backbone_for(self, dataset: str) -> str:
        """The requested backbone, else the data set's default."""
        facts = load().find(dataset)
        return model_named(self.backbone) or (facts.backbone if facts else DEFAULT_BACKBONE)


@dataclass(frozen=True)
class Job:
    """One protocol of one method on one data set with one seed: its runs, each of which may depend on earlier ones.

    `configuration` is the first run's, if planning the others needed it. It stays in this process: whoever else
    executes the job has the commands, which say the same.
    """

    protocol: str
    specs: tuple[RunSpec, ...]
    configuration: Configuration | None = field(default=None, compare=False, repr=False)

    def __reduce__(self) -> tuple:
        return type(self), (self.protocol, self.specs)

    def folders(self) -> list[Path]:
        return [Path(spec.folder) for spec in self.specs]

    def waiting(self) -> list[RunSpec]:
        """The runs that are left: those without results, and those that start again."""
        return [spec for spec in self.specs if spec.rerun or not (Path(spec.folder) / "results.json").is_file()]

    def with_rerun(self, rerun: bool = True) -> Job:
        """The same job, whose runs remove their earlier files and start again."""
        return replace(self, specs=tuple(replace(spec, rerun=rerun) for spec in self.specs))

    def __call__(self) -> list[dict]:
        """Execute all runs. Returns their results."""
        from ogkd.runs.execute import execute

        configurations = self.configuration, *(None for _ in self.specs[1:])
        return [cast(dict, execute(*run)) for run in zip(self.specs, configurations, strict=True)]

    def __str__(self) -> str:
        first = self.specs[0]
        shots = shots_word(cast(int, first.shots))
        words = self.protocol, first.dataset, first.method, shots, "shots seed", first.seed, *first.pairs
        return " ".join(map(str, words))


def job(
    protocol: str,
    method: str,
    dataset: str,
    shots: int,
    seed: int,
    places: Places,
    pairs: Sequence[str] = (),
    targets: Sequence[str] = (),
) -> Job:
    """The runs of a protocol.

    Base-to-novel trains on the base classes and, if what was learned applies to unseen classes, also tests on the novel
    ones. Transfer trains as few-shot does, in the same folder, and tests what was learned on each of the `targets` with
    the target's class names. A method that does not apply to unseen classes is tested by its logits for the target's
    classes, which must be a subset of the data set's.

    `method` and the data sets may be in any case, see `methods.named` and `catalogue.config_name`.

    Raises:
        UserError: the method or data set is unknown, the method does not apply to a target's classes, or the
            configuration is invalid.
    """
    from ogkd.runs.config import method_config, names_novel_classes, resolve
    from ogkd.runs.presets import default_preset
    from ogkd.runs.registry import trainer_class

    method = named(method)
    trainer_class(method)  # raises UserError if there is none
    if "MODEL.BACKBONE.NAME" in pairs[::2]:  # the folder's name would be another's
        raise UserError("MODEL.BACKBONE.NAME cannot be a pair of a protocol: use BACKBONE=NAME, or --backbone NAME.")
    for name in (dataset, *targets):
        check_dataset(name, places.data)
    dataset, *targets = map(config_name, (dataset, *targets))
    backbone = places.backbone_for(dataset)
    settings = places.settings or default_preset(method, dataset, shots)
    kind = "few_shot" if protocol == TRANSFER else protocol
    chosen = method_config(method, kind, dataset)
    if settings == SEARCH:
        best = tune_folder(kind, method, dataset, shots, seed, places) / BEST
        if not best.is_file():
            words = dataset, "--protocol", kind, "--methods", method, "--seeds", seed, "--shots", shots_word(shots)
            raise UserError(
                f"There is no finished search for {method} in {best.parent}: "
                f"`{command('tune', *words, '--trials', 8)}` makes one."
            )
        chosen = str(best)
    if settings in (UNIVERSAL, SEARCH):  # beside the published runs
        places = replace(places, output=places.output / settings)

    def folder(*kind: str) -> str:
        return str(run_folder(kind, method, dataset, shots, seed, places))

    def spec(*kind: str, **more: Any) -> RunSpec:
        return RunSpec(
            method=method,
            folder=folder(*kind, dataset),
            dataset=dataset,
            shots=shots,
            seed=seed,
            backbone=backbone,
            data=str(places.data),
            method_file=chosen,
            settings=settings,
            pairs=tuple(pairs),
            **more,
        )

    if protocol == "few_shot":
        return Job(protocol, (spec("few_shot", subsample="all"),))
    if protocol == TRANSFER:
        learned, tests = spec("few_shot", subsample="all"), []
        configuration = resolve(learned)
        names_any_class = names_novel_classes(configuration.cfg)
        for target in targets:
            reason = "" if names_any_class else cannot_transfer(learned, target)
            if reason:
                raise UserError(reason)
            test = replace(learned, folder=folder(TRANSFER, dataset, target), eval_only=True, model_dir=learned.folder)
            own = {"dataset": target} if names_any_class else {"pairs": (*pairs, "DATASET.TEST_ON", target)}
            tests.append(replace(test, **own))
        return Job(protocol, (learned, *tests), configuration)
    base = spec("base2new", "train_base", subsample="base")
    configuration = resolve(base)
    if not names_novel_classes(configuration.cfg):
        return Job(protocol, (base,), configuration)
    novel = spec("base2new", "test_new", subsample="new", eval_only=True, model_dir=base.folder)
    return Job(protocol, (base, novel), configuration)


def run_folder(kind: Sequence[str], method: str, dataset: str, shots: int, seed: int, places: Places) -> Path:
    """The folder of a run of a kind, such as ("few_shot", dataset)."""
    level = Path(places.backbone_for(dataset).removeprefix("hf-hub:")).name
    parts = [part.replace(":", "_") for part in kind]  # Windows has no colon in a name
    return places.output.joinpath(*parts, f"shots_{shots_word(shots)}", method, level, f"seed{seed}")


def tune_folder(protocol: str, method: str, dataset: str, shots: int, seed: int, places: Places) -> Path:
    """The folder of the search for the settings of a run."""
    return run_folder(("tune", protocol, dataset), method, dataset, shots, seed, places)


def cannot_transfer(learned: RunSpec, target: str) -> str:
    """Why a run that does not apply to unseen classes cannot be tested on `target`, as a sentence; "" if it can, or if
    the data needed to decide are not there yet."""
    source = learned.dataset
    known, wanted = (classes_of(name, Path(learned.data)) for name in (source, target))
    missing = [name for name in wanted if name not in places_of(wanted, known)] if known else []
    if not missing:
        return ""
    return (
        f"{learned.method} only learns to distinguish the classes of {source}, and '{missing[0]}' of {target} is not "
        f"one of them: it is left out of {source} -> {target}."
    )


def classes_of(dataset: str, data: Path) -> list[str]:
    """The class names of a data set; [] if neither the catalogue nor a split file lists them."""
    facts = load().find(dataset)
    if facts and facts.classes:
        return list(facts.classes)
    split = facts.split_file(data) if facts else data / own_folder(dataset) / f"split_{own_folder(dataset)}.json"
    return class_names(read_split(split)) if split.is_file() else []


def is_there(dataset: str, data: Path) -> bool:
    """Whether a data set is in the data folder, or can be generated there."""
    facts = load().find(dataset)
    if facts is None:
        return (data / own_folder(dataset)).is_dir()
    return bool(facts.generator) or (facts.split_file(data).is_file() and facts.image_folder(data).is_dir())


def known_datasets() -> list[str]:
    """Data sets known by name, without a folder of images: those of configs/datasets/ and the catalogue."""
    catalogue = load()
    configured = configs_in(HOME / DATASET_CONFIGS)
    return sorted(
        configured | {facts.config for facts in (*catalogue.datasets.values(), *catalogue.generated.values())}
    )


def locate(dataset: str, places: Places) -> tuple[str, Places]:
    """A data set's name, and the places with its parent folder as data folder.

    A name is returned as `ogkd.data.catalogue.config_name` has it. A path, such as `moles/`, `../pics` or `.`, means a
    folder of images relative to the current folder, else to the data folder; its last part is the name. If it has the
    name of a published data set but not its files, `folder:` is put before the name.

    Raises:
        UserError: there is no such folder.
    """
    word = expanded(own_folder(dataset))
    if is_name(word):
        if dataset.startswith(OWN):
            return name_of_folder(word), places
        return dataset if own_classes(dataset, places.data) else config_name(dataset), places
    folders = [path for path in (Path(word), places.data / word) if path.is_dir()]
    if not word or not folders:
        raise UserError(
            f"There is no data set '{dataset}': neither {Path(word).absolute()} nor {places.data / word} is a folder."
        )
    data, name = place_and_name(folders[0])
    if not name:
        raise UserError(f"'{dataset}' is the folder {data}, which has no name: give a folder below it.")
    own = dataset.startswith(OWN) or own_classes(name, data)
    return name_of_folder(name) if own else name, replace(places, data=data)


def check_dataset(dataset: str, data: Path) -> None:
    """Raise UserError unless a data set is known or is a folder of images, and it is clear which one is meant."""
    known = dataset in known_datasets() or load().find(dataset) or (data / own_folder(dataset)).is_dir()
    if not is_name(dataset) or not known:
        folders = sorted(path.name for path in data.glob("*/") if shown(path.name))
        folder, near = own_folder(dataset) or "NAME", did_you_mean(dataset, [*known_datasets(), *folders])
        raise UserError(
            f"There is no data set '{dataset}'{near}: it can be {', '.join(known_datasets())}, "
            f"or a folder of your own images, {data / folder}/<class>/*.png."
        )
    if own_classes(dataset, data):
        facts = cast(Facts, load().find(dataset))
        raise UserError(
            f"'{dataset}' is the data set {facts.name} of the catalogue, which is not in {data}, and the folder "
            f"{data / dataset} has classes of your own: give {OWN}{dataset} for your images; for {facts.name}, "
            f"{facts.remedy(data)}."
        )


def ensure_generated(dataset: str, data: Path) -> None:
    """Generate a synthetic data set unless it is there."""
    facts = load().find(dataset)
    if facts is not None and facts.generator:
        importlib.import_module(facts.generator).ensure_dataset(data, name=facts.config)


def takes_part(protocol: str, dataset: str) -> bool:
    """Whether a data set is part of the benchmark for a protocol."""
    facts = load().find(dataset)
    return protocol != "base2new" or facts is None or facts.base2new


def shots_of(text: str, what: str = "SHOTS") -> int:
    """Images per class from the command line: a whole number, or `all`, which is -1."""
    return -1 if text.lower() == "all" else integer(text, what, 1, "a whole number or all")


def seeds_of(words: Iterable[str], what: str = "--seeds") -> list[int]:
    """Seeds from the command line, each once: whole numbers and ranges of them, such as 1-20."""
    seeds: dict[int, None] = {}
    for word in words:
        ends = re.fullmatch("([0-9]{1,9})(?:-([0-9]{1,9}))?", word)
        if not ends:
            raise UserError(f"{what} must be a whole number or a range such as 1-20, not '{word}'.")
        low, high = int(ends[1]), int(ends[2] or ends[1])
        if not low <= high < low + MOST_SEEDS:
            raise UserError(
                f"{what} {word} is no range of up to {MOST_SEEDS:,} seeds: give the lowest, then the highest."
            )
        seeds |= dict.fromkeys(range(low, high + 1))
    return list(seeds)


def integer(text: str, what: str, least: int, kind: str = "a whole number") -> int:
    """A whole number from the command line."""
    try:
        value = int(text)
    except ValueError:
        raise UserError(f"{what} must be {kind}, not '{text}'.") from None
    if value < least:
        raise UserError(f"{what} must be at least {least}, not {value}.")
    return value
