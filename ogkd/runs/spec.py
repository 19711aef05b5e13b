"""RunSpec: the single description of a run, which determines its command, its configuration and its folder."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from ogkd.core.config_files import configs_in
from ogkd.core.places import HOME, command
from ogkd.data.catalogue import Facts, config_name, load, name_of_folder, own_folder
from ogkd.evaluation.methods import known_methods, named, order
from ogkd.models import available_models, model_named

DATASET_CONFIGS = Path("configs/datasets")
METHOD_CONFIGS = Path("configs/trainers")
SUBSETS = ("all", "base", "new")
FAST, PUBLISHED, UNIVERSAL, SEARCH = PRESETS = ("fast", "published", "universal", "search")  # see presets.py


def _argument(option: str, help: str, default: Any = "", compare: bool = True, **more: Any) -> Any:
    """A field that is an argument of train.py, in the order of the fields; `more` is for argparse."""
    return field(default=default, compare=compare, metadata={"option": option, "help": help, **more})


@dataclass(frozen=True)
class RunSpec:
    """One run: everything that `python train.py` accepts.

    `RunSpec.parse(spec.arguments()) == spec`, so whatever can start a command can start a run. Empty values and None
    leave a setting to the configuration files. Relative paths are relative to the current folder; those of
    configuration files also to the repository, if the current folder has no such file. The method, the data set and the
    backbone may be in any case, see `methods.named`, `catalogue.config_name` and `models.model_named`.

    dataset: a name in the catalogue, or [folder:]NAME, a folder of images in `data`.
    shots: images per class; -1: all of them.
    subsample: the classes: all, base or new.
    pairs: further KEY VALUE pairs.
    rerun: start again from nothing; it describes how to execute the run, not what it is.
    """

    method: str = _argument("--trainer", "one of {methods}; with --help: its options", MISSING)
    folder: str = _argument("--output-dir", "folder of this run", MISSING)
    dataset: str = ""
    shots: int | None = None
    subsample: str = ""
    data: str = _argument("--root", "folder of the data sets")
    seed: int = _argument("--seed", "random seed; negative: not seeded", -1, type=int)
    backbone: str = _argument("--backbone", "{models}, a folder, or hf-hub:org/name")
    method_file: str = _argument("--config-file", "YAML of the method")
    dataset_file: str = _argument("--dataset-config-file", "YAML of the data set")
    pairs: tuple[str, ...] = ()
    model_dir: str = _argument("--model-dir", "run folder whose parameters --eval-only loads")
    load_epoch: int | None = _argument(
        "--load-epoch", "epoch to load (default: the best by validation if the run kept it, else the newest)",
        None, type=int,
    )  # fmt: skip
    settings: str = _argument(
        "--settings", "published, universal (one configuration for all data sets), search (the best of a search, with "
        "its --config-file best.yaml) or fast (crops encoded once, bf16)",
        PUBLISHED,
    )  # fmt: skip
    resume: str = _argument("--resume", "run folder to resume from (default: --output-dir itself)")
    head: str = _argument("--head", "for trainers written for Dassl")
    eval_only: bool = _argument("--eval-only", "test only", False, action="store_true")
    no_train: bool = _argument("--no-train", "build everything, train nothing", False, action="store_true")
    transforms: tuple[str, ...] = _argument("--transforms", "names of the training transforms", (), nargs="+")
    source_domains: tuple[str, ...] = _argument("--source-domains", "for trainers written for Dassl", (), nargs="+")
    target_domains: tuple[str, ...] = _argument("--target-domains", "for trainers written for Dassl", (), nargs="+")
    rerun: bool = _argument(
        "--rerun", "remove the run's earlier files and start afresh", False, compare=False, action="store_true"
    )

    def __post_init__(self) -> None:
        for name, meant in (("method", named), ("dataset", config_name), ("backbone", model_named)):
            object.__setattr__(self, name, meant(getattr(self, name)))

    # Conversion to a command and back

    def arguments(self) -> list[str]:
        """The arguments of `python train.py` for this run."""
        words = []
        for one in sorted(_arguments(), key=lambda one: "nargs" not in one.metadata):  # first those of several words
            value = self.dataset_config() if one.name == "dataset_file" else getattr(self, one.name)
            if value != one.default and value != "":
                words.append(one.metadata["option"])
                words += [] if value is True else value if isinstance(value, tuple) else [str(value)]
        return [*words, *self.all_pairs()]

    def command(self) -> str:
        """The shell command that executes this run from the repository's folder."""
        return f"{command('train')} {shlex.join(self.arguments())}"

    @classmethod
    def parse(cls, words: Sequence[str]) -> RunSpec:
        """The run described by train.py's arguments; argparse exits if they are invalid."""
        given = vars(parser().parse_args(words))
        pairs, file = given.pop("opts"), given["dataset_file"]
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
        given["seed"] = max(given["seed"], -1)
        if file and _place(file).parent == HOME / DATASET_CONFIGS:
            given |= {"dataset": Path(file).stem, "dataset_file": ""}
        elif not file and pairs[:1] == ["DATASET.NAME"]:
            given["dataset"], pairs = _named_by(pairs)
        if pairs[:1] == ["DATASET.NUM_SHOTS"] and re.fullmatch("0|-?[1-9][0-9]*", "".join(pairs[1:2])):
            given["shots"], pairs = int(pairs[1]), pairs[2:]
        if pairs[:1] == ["DATASET.SUBSAMPLE_CLASSES"] and pairs[1:2] and pairs[1] in SUBSETS:
            given["subsample"], pairs = pairs[1], pairs[2:]
        return cls(**given, pairs=tuple(pairs))

    # The data set

    @property
    def facts(self) -> Facts | None:
        """The data set's entry in the catalogue; None if it has none."""
        return load().find(self.dataset) if self.dataset else None

    def dataset_config(self) -> str:
        """The data set's YAML; "" if it has none."""
        if self.dataset_file:
            return self.dataset_file
        known = self.dataset in configs_in(HOME / DATASET_CONFIGS)
        return (DATASET_CONFIGS / f"{self.dataset}.yaml").as_posix() if known else ""

    def all_pairs(self) -> list[str]:
        """All KEY VALUE pairs: those for the fields that are not arguments, then `pairs`."""
        words = []
        if self.dataset and not self.dataset_config():
            facts = self.facts
            words += ["DATASET.NAME", facts.name if facts else "ImageFolder"]
            words += [] if facts else ["DATASET.FOLDER", own_folder(self.dataset)]
        if self.shots is not None:
            words += ["DATASET.NUM_SHOTS", str(self.shots)]
        if self.subsample:
            words += ["DATASET.SUBSAMPLE_CLASSES", self.subsample]
        return [*words, *self.pairs]

    def __str__(self) -> str:
        shots = "" if self.shots is None else f"{shots_word(self.shots)} shots"
        parts = [self.method, self.dataset, shots, self.subsample]
        return " ".join([part for part in parts if part] + ([f"seed {self.seed}"] if self.seed >= 0 else []))


def _arguments() -> list[Field]:
    return [one for one in fields(RunSpec) if one.metadata]


def parser() -> argparse.ArgumentParser:
    """CoOp's command line."""
    p = argparse.ArgumentParser(
        prog=command("train"),
        description="Train or test one method on one data set. Writes log.txt, config.yaml, split.json, "
        "predictions.npz, results.json and the learned parameters to the run's folder. A finished run is not repeated; "
        "an unfinished one resumes after its last epoch.",
    )
    known = {"methods": ", ".join(sorted(known_methods(), key=order)), "models": ", ".join(available_models())}
    for one in _arguments():
        default, more = "" if one.default is MISSING else one.default, dict(one.metadata)
        help = more.pop("help").format(**known)
        p.add_argument(more.pop("option"), dest=one.name, default=default, help=help, **more)
    p.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs that change the configuration")
    return p


def is_name(word: str) -> bool:
    """Whether a word is the name of a data set or its folder, not a path."""
    return word not in ("", ".", "..") and not {"/", os.sep, "\0"} & set(word)


def place_and_name(path: Path) -> tuple[Path, str]:
    """A path's parent folder, resolved, and its last part; if that is a link, it is not followed."""
    path = path.resolve() if path.name == ".." else path.absolute()
    return path.parent.resolve(), path.name


def shots_word(shots: int) -> str:
    """A number of images per class as written in commands and folder names: `all` for -1."""
    return "all" if shots < 0 else str(shots)


def _place(file: str) -> Path:
    """A configuration file's path: in the current folder, such as another checkout, if it is there, else in ours."""
    path = Path(file)
    return path.resolve() if path.is_file() else HOME / path


def _named_by(pairs: list[str]) -> tuple[str, list[str]]:
    """The data set that `all_pairs` names at the front of the pairs, and the others; "" and all pairs without one."""
    facts = load().find("".join(pairs[1:2]))
    if facts and facts.name == pairs[1] and facts.config not in configs_in(HOME / DATASET_CONFIGS):
        return facts.config, pairs[2:]
    if pairs[1:3] == ["ImageFolder", "DATASET.FOLDER"] and is_name("".join(pairs[3:4])):
        return name_of_folder(pairs[3]), pairs[4:]
    return "", pairs
