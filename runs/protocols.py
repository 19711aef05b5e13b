"""The benchmark's two protocols as sequences of runs: base-to-novel and few-shot."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dassl.utils import UserError
from datasets.catalogue import DEFAULT_BACKBONE, load
from runs.spec import DATASET_CONFIGS, ROOT, RunSpec

PROTOCOLS = ("base2new", "few_shot")


@dataclass(frozen=True)
class Places:
    """Where data, results and weights are; the environment's DATA, OUTPUT and BACKBONE unless given."""

    data: Path = field(default_factory=lambda: Path(os.environ.get("DATA") or "data"))
    output: Path = field(default_factory=lambda: Path(os.environ.get("OUTPUT") or "output"))
    backbone: str = field(default_factory=lambda: os.environ.get("BACKBONE") or "")

    def backbone_for(self, dataset: str) -> str:
        """The backbone that was asked for, or the data set's own."""
        facts = load().find(dataset)
        return self.backbone or (facts.backbone if facts else DEFAULT_BACKBONE)


@dataclass(frozen=True)
class Job:
    """One protocol of one method on one data set with one seed: its runs, each of which may need those before it."""

    protocol: str
    specs: tuple[RunSpec, ...]

    def folders(self) -> list[Path]:
        return [Path(spec.folder) for spec in self.specs]

    def waiting(self) -> list[RunSpec]:
        """The runs whose folders hold no results yet."""
        return [spec for spec in self.specs if not (Path(spec.folder) / "results.json").is_file()]

    def __call__(self) -> list[dict]:
        """Do all runs; their results."""
        from runs.execute import execute

        return [execute(spec) for spec in self.specs]

    def __str__(self) -> str:
        first = self.specs[0]
        words = self.protocol, first.dataset, first.method, first.shots, "shots seed", first.seed, *first.pairs
        return " ".join(map(str, words))


def job(
    protocol: str, method: str, dataset: str, shots: int, seed: int, places: Places, pairs: Sequence[str] = ()
) -> Job:
    """The runs of a protocol. Base-to-novel trains on the base classes and, where what was learned can name classes
    that it never saw, tests on the novel ones too.

    Raises:
        UserError: no such method or data set, or a configuration that cannot be.
    """
    from runs.config import merged_config, method_config
    from runs.folder import names_novel_classes

    check_dataset(dataset, places.data)
    backbone = places.backbone_for(dataset)

    def spec(*kind: str, **more: object) -> RunSpec:
        level = Path(backbone.removeprefix("hf-hub:")).name
        folder = places.output.joinpath(*kind, dataset, f"shots_{shots}", method, level, f"seed{seed}")
        return RunSpec(
            method=method,
            folder=str(folder),
            dataset=dataset,
            shots=shots,
            seed=seed,
            backbone=backbone,
            data=str(places.data),
            method_file=method_config(method, protocol, dataset),
            pairs=tuple(pairs),
            **more,
        )

    if protocol == "few_shot":
        return Job(protocol, (spec("few_shot", subsample="all"),))
    base = spec("base2new", "train_base", subsample="base")
    if not names_novel_classes(merged_config(base)):
        return Job(protocol, (base,))
    novel = spec("base2new", "test_new", subsample="new", eval_only=True, model_dir=base.folder)
    return Job(protocol, (base, novel))


def known_datasets() -> list[str]:
    """The data sets that can be named without a folder of images: those of configs/datasets/ and of the catalogue."""
    catalogue = load()
    configured = {path.stem for path in (ROOT / DATASET_CONFIGS).glob("*.yaml")}
    return sorted(
        configured | {facts.config for facts in (*catalogue.datasets.values(), *catalogue.generated.values())}
    )


def check_dataset(dataset: str, data: Path) -> None:
    """Raise UserError unless a data set is known or there is a folder of images of that name."""
    if not dataset or not (dataset in known_datasets() or load().find(dataset) or (data / dataset).is_dir()):
        raise UserError(
            f"There is no data set '{dataset}': it can be {', '.join(known_datasets())}, "
            f"or a folder of your own images, {data / (dataset or 'NAME')}/<class>/*.png."
        )


def ensure_generated(dataset: str, data: Path) -> None:
    """Draw a data set that is made rather than published, unless it is there."""
    facts = load().find(dataset)
    if facts is not None and facts.generator:
        importlib.import_module(facts.generator).ensure_dataset(data)


def takes_part(protocol: str, dataset: str) -> bool:
    """Whether the benchmark runs a protocol on a data set."""
    facts = load().find(dataset)
    return protocol != "base2new" or facts is None or facts.base2new


def integer(text: str, what: str, least: int) -> int:
    """A whole number from the command line."""
    try:
        value = int(text)
    except ValueError:
        raise UserError(f"{what} must be a whole number, not '{text}'.") from None
    if value < least:
        raise UserError(f"{what} must be at least {least}, not {value}.")
    return value
