"""RunSpec: the single description of a run, which determines its command, its configuration and its folder."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ogkd.core.config_files import configs_in
from ogkd.core.places import HOME, IN_CHECKOUT, command
from ogkd.data.catalogue import Facts, config_name, load, name_of_folder, own_folder
from ogkd.evaluation.methods import known_methods, named, order
from ogkd.models import available_models, model_named

DATASET_CONFIGS = Path("configs/datasets")
METHOD_CONFIGS = Path("configs/trainers")
SUBSETS = ("all", "base", "new")


@dataclass(frozen=True)
class RunSpec:
    """One run: everything that `python train.py` accepts.

    `RunSpec.parse(spec.arguments())` gives the same spec, so whatever can start a command can start a run. Empty values
    and None leave a setting to the configuration files. Relative paths are relative to the current folder; those of
    configuration files also to the repository, if the current folder has no such file. The method, the data set and the
    backbone may be in any case, see `methods.named`, `catalogue.config_name` and `models.model_named`.
    """

    method: str
    folder: str  # where the run writes: --output-dir
    dataset: str = ""  # a name in configs/datasets/ or the catalogue, or [folder:]NAME, a folder of images in `data`
    shots: int | None = None  # images per class; -1: all of them
    subsample: str = ""  # classes: all, base or new
    seed: int = -1  # below 0: not seeded
    backbone: str = ""
    data: str = ""  # where data sets are: --root
    method_file: str = ""  # --config-file
    dataset_file: str = ""  # --dataset-config-file, if `dataset` does not imply it
    pairs: tuple[str, ...] = ()  # further KEY VALUE pairs
    eval_only: bool = False
    model_dir: str = ""  # run folder from which --eval-only loads the prompt
    load_epoch: int | None = None
    no_train: bool = False
    resume: str = ""
    transforms: tuple[str, ...] = ()
    source_domains: tuple[str, ...] = ()
    target_domains: tuple[str, ...] = ()
    head: str = ""
    rerun: bool = field(default=False, compare=False)  # start afresh; describes how to execute the run, not what it is

    def __post_init__(self) -> None:
        for name, meant in (("method", named), ("dataset", config_name), ("backbone", model_named)):
            object.__setattr__(self, name, meant(getattr(self, name)))

    # Conversion to a command and back

    def arguments(self) -> list[str]:
        """The arguments of `python train.py` for this run."""
        words = []
        for option, values in (  # these take any number of words, so they precede other options
            ("--transforms", self.transforms),
            ("--source-domains", self.source_domains),
            ("--target-domains", self.target_domains),
        ):
            words += [option, *values] if values else []
        for option, value in (
            ("--trainer", self.method),
            ("--output-dir", self.folder),
            ("--root", self.data),
            ("--seed", "" if self.seed < 0 else str(self.seed)),
            ("--backbone", self.backbone),
            ("--config-file", self.method_file),
            ("--dataset-config-file", self.dataset_config()),
            ("--model-dir", self.model_dir),
            ("--load-epoch", "" if self.load_epoch is None else str(self.load_epoch)),
            ("--resume", self.resume),
            ("--head", self.head),
        ):
            words += [option, value] if value else []
        words += ["--eval-only"] if self.eval_only else []
        words += ["--no-train"] if self.no_train else []
        words += ["--rerun"] if self.rerun else []
        return [*words, *self.all_pairs()]

    def command(self) -> str:
        """The shell command that executes this run from the repository's folder."""
        return shlex.join([*(("python", "train.py") if IN_CHECKOUT else ("ogkd", "train")), *self.arguments()])

    def again(self) -> RunSpec:
        """The same run, resuming instead of starting afresh."""
        return replace(self, rerun=False)

    @classmethod
    def parse(cls, words: Sequence[str]) -> RunSpec:
        """The run described by train.py's arguments; argparse exits if they are invalid."""
        args = parser().parse_args(words)
        dataset_file, dataset = args.dataset_config_file, ""
        if dataset_file and _place(dataset_file).parent == HOME / DATASET_CONFIGS:
            dataset, dataset_file = Path(dataset_file).stem, ""
        shots, subsample, pairs = None, "", list(args.opts)
        named_so = pairs[:3] == ["DATASET.NAME", "ImageFolder", "DATASET.FOLDER"] and is_name("".join(pairs[3:4]))
        if named_so and not dataset and not dataset_file:
            dataset, pairs = name_of_folder(pairs[3]), pairs[4:]
        if pairs[:1] == ["DATASET.NUM_SHOTS"] and _is_integer(pairs[1:2]):
            shots, pairs = int(pairs[1]), pairs[2:]
        if pairs[:1] == ["DATASET.SUBSAMPLE_CLASSES"] and pairs[1:2] and pairs[1] in SUBSETS:
            subsample, pairs = pairs[1], pairs[2:]
        return cls(
            method=args.trainer,
            folder=args.output_dir,
            dataset=dataset,
            shots=shots,
            subsample=subsample,
            seed=max(args.seed, -1),
            backbone=args.backbone,
            data=args.root,
            method_file=args.config_file,
            dataset_file=dataset_file,
            pairs=tuple(pairs),
            eval_only=args.eval_only,
            model_dir=args.model_dir,
            load_epoch=args.load_epoch,
            no_train=args.no_train,
            resume=args.resume,
            transforms=tuple(args.transforms or ()),
            source_domains=tuple(args.source_domains or ()),
            target_domains=tuple(args.target_domains or ()),
            head=args.head,
            rerun=args.rerun,
        )

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
        """All KEY VALUE pairs: those for the typed fields, then `pairs`."""
        words = []
        if self.dataset and not self.dataset_config():
            words += ["DATASET.NAME", "ImageFolder", "DATASET.FOLDER", own_folder(self.dataset)]
        if self.shots is not None:
            words += ["DATASET.NUM_SHOTS", str(self.shots)]
        if self.subsample:
            words += ["DATASET.SUBSAMPLE_CLASSES", self.subsample]
        return [*words, *self.pairs]

    def __str__(self) -> str:
        shots = "" if self.shots is None else f"{shots_word(self.shots)} shots"
        parts = [self.method, self.dataset, shots, self.subsample]
        return " ".join([part for part in parts if part] + ([f"seed {self.seed}"] if self.seed >= 0 else []))


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


def parser() -> argparse.ArgumentParser:
    """CoOp's command line."""
    p = argparse.ArgumentParser(
        prog=command("train"),
        description="Train or test one method on one data set. Writes log.txt, config.yaml, split.json, "
        "predictions.npz, results.json and the learned parameters to the run's folder. A finished run is not repeated; "
        "an unfinished one resumes after its last epoch.",
    )
    p.add_argument("--root", default="", help="folder of the data sets")
    p.add_argument("--output-dir", default="", help="folder of this run")
    p.add_argument("--resume", default="", help="run folder to resume from (default: --output-dir itself)")
    p.add_argument("--seed", type=int, default=-1, help="random seed; negative: not seeded")
    p.add_argument("--source-domains", nargs="+", help="for trainers written for Dassl")
    p.add_argument("--target-domains", nargs="+", help="for trainers written for Dassl")
    p.add_argument("--transforms", nargs="+", help="names of the training transforms")
    p.add_argument("--config-file", default="", help="YAML of the method")
    p.add_argument("--dataset-config-file", default="", help="YAML of the data set")
    p.add_argument("--trainer", default="", help=f"one of {', '.join(sorted(known_methods(), key=order))}")
    p.add_argument("--backbone", default="", help=f"{', '.join(available_models())}, a folder, or hf-hub:org/name")
    p.add_argument("--head", default="", help="for trainers written for Dassl")
    p.add_argument("--eval-only", action="store_true", help="test only")
    p.add_argument("--model-dir", default="", help="run folder whose parameters --eval-only loads")
    p.add_argument(
        "--load-epoch",
        type=int,
        help="epoch to load (default: the best by validation if the run kept it, else the newest)",
    )
    p.add_argument("--no-train", action="store_true", help="build everything, train nothing")
    p.add_argument("--rerun", action="store_true", help="remove the run's earlier files and start afresh")
    p.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs that change the configuration")
    return p


def _place(file: str) -> Path:
    """A configuration file's path: in the current folder, such as another checkout, if it is there, else in ours."""
    path = Path(file)
    return path.resolve() if path.is_file() else HOME / path


def _is_integer(words: Sequence[str]) -> bool:
    return bool(words) and (words[0].removeprefix("-").isdecimal()) and str(int(words[0])) == words[0]
