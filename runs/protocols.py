"""The benchmark's two protocols as sequences of runs: base-to-novel and few-shot."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import train
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError

ROOT = Path(__file__).resolve().parents[1]
BASE2NEW_SHOTS = 16


@dataclass(frozen=True)
class Place:
    """Where data, results and weights are; the environment's DATA, OUTPUT and BACKBONE unless given."""

    data: Path = field(default_factory=lambda: Path(os.environ.get("DATA") or "data"))
    output: Path = field(default_factory=lambda: Path(os.environ.get("OUTPUT") or "output"))
    backbone: str = field(default_factory=lambda: os.environ.get("BACKBONE") or "")

    def backbone_for(self, dataset: str) -> str:
        return self.backbone or ("PhantomCLIP" if dataset == "phantom" else "BiomedCLIP")


def known_datasets() -> list[str]:
    """The benchmark's data sets, by the names of their configurations."""
    return sorted(path.stem for path in (ROOT / "configs" / "datasets").glob("*.yaml"))


def benchmark_methods() -> list[str]:
    """The methods that have configurations here."""
    configured = {path.name for path in (ROOT / "configs" / "trainers").iterdir() if path.is_dir()}
    return [name for name in TRAINER_REGISTRY.registered_names() if name in configured]


def backbone_folder(backbone: str) -> str:
    """The name of a backbone's level in the results' folders: its name, or the last part of its path."""
    return Path(backbone.removeprefix("hf-hub:")).name


def method_config(method: str, protocol: str, dataset: str) -> Path:
    """The method's YAML for a data set, or its default where it has none."""
    folder = ROOT / "configs" / "trainers" / method / protocol
    own = folder / f"{dataset}.yaml"
    return own if own.is_file() else folder / "default.yaml"


def dataset_arguments(dataset: str, data: Path) -> tuple[list[str], list[str]]:
    """train.py's arguments and KEY VALUE pairs that name a data set: one of the benchmark's or a folder of images.

    Raises:
        UserError: neither is there.
    """
    config = ROOT / "configs" / "datasets" / f"{dataset}.yaml"
    if config.is_file():
        return ["--dataset-config-file", str(config)], []
    if dataset and (data / dataset).is_dir():
        return [], ["DATASET.NAME", "ImageFolder", "DATASET.FOLDER", dataset]
    raise UserError(
        f"There is no data set '{dataset}': it can be {', '.join(known_datasets())}, "
        f"or a folder of your own images, {data / (dataset or 'NAME')}/<class>/*.png."
    )


def integer(text: str, what: str, least: int) -> int:
    """A whole number from the command line."""
    try:
        value = int(text)
    except ValueError:
        raise UserError(f"{what} must be a whole number, not '{text}'.") from None
    if value < least:
        raise UserError(f"{what} must be at least {least}, not {value}.")
    return value


class Protocol:
    """One method on one data set with one seed."""

    def __init__(
        self, method: str, dataset: str, shots: int, seed: int, pairs: Sequence[str] = (), place: Place | None = None
    ) -> None:
        if method not in TRAINER_REGISTRY.registered_names():
            raise UserError(f"There is no method '{method}': {', '.join(TRAINER_REGISTRY.registered_names())}.")
        self.method, self.dataset, self.shots, self.seed = method, dataset, shots, seed
        self.pairs, self.place = list(pairs), place or Place()
        self.backbone = self.place.backbone_for(dataset)

    def folder(self, *parts: str) -> Path:
        """The run folder below OUTPUT for a kind of run, such as ("base2new", "train_base")."""
        backbone = backbone_folder(self.backbone)
        tail = (self.dataset, f"shots_{self.shots}", self.method, backbone, f"seed{self.seed}")
        return self.place.output.joinpath(*parts, *tail)

    def folders(self, protocol: str) -> list[Path]:
        """The run folders of a protocol."""
        if protocol == "few_shot":
            return [self.folder("few_shot")]
        kinds = ("train_base", "test_new") if TRAINER_REGISTRY.get(self.method).has_novel_head else ("train_base",)
        return [self.folder("base2new", kind) for kind in kinds]

    def base2new(self) -> tuple[dict, dict | None]:
        """Results on the base classes, and on the novel ones (None when the method has no head for those)."""
        base_folder = self.folder("base2new", "train_base")
        base = self._train("base2new", base_folder, "base", [])
        if not base["novel"]:
            return base, None
        novel = self._train(
            "base2new",
            self.folder("base2new", "test_new"),
            "new",
            ["--eval-only", "--model-dir", str(base_folder)],
        )
        return base, novel

    def few_shot(self) -> dict:
        """Results on all classes."""
        return self._train("few_shot", self.folder("few_shot"), "all", [])

    def _train(self, protocol: str, output: Path, subsample: str, arguments: list[str]) -> dict:
        data_arguments, data_pairs = dataset_arguments(self.dataset, self.place.data)
        results = train.main(
            [
                *("--root", str(self.place.data), "--output-dir", str(output), "--seed", str(self.seed)),
                *("--trainer", self.method, "--backbone", self.backbone),
                *("--config-file", str(method_config(self.method, protocol, self.dataset))),
                *data_arguments,
                *arguments,
                *data_pairs,
                *("DATASET.NUM_SHOTS", str(self.shots), "DATASET.SUBSAMPLE_CLASSES", subsample),
                *self.pairs,
            ]
        )
        assert results is not None
        return results
