"""BiomedCoOp's released prompts: where they are, their published accuracies, and the runs that test them.

A prompt that reproduces its published accuracy shows, without any training, that the data, the image transforms, both
towers and the path from a context to its logits match the published runs.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ogkd.core import UserError
from ogkd.core.network import trouble
from ogkd.core.places import PACKAGE
from ogkd.runs.config import method_config
from ogkd.runs.protocols import Places
from ogkd.runs.spec import RunSpec

REPOSITORY = "TahaKoleilat/BiomedCoOp"  # a model repository on the Hugging Face hub
METHOD = "BiomedCoOp"
EPOCHS = {"few_shot": 100, "base2new": 50}
TOLERANCE = 0.5  # points of accuracy; image decoding and resizing differ between library versions
_CONNECT_SECONDS = 5


@dataclass(frozen=True)
class Released:
    """A released prompt and its accuracies in percent: on all classes (few_shot), or on base and novel (base2new)."""

    protocol: str
    dataset: str
    shots: int
    seed: int
    accuracies: tuple[float, ...]

    @property
    def file(self) -> str:
        """Its path in the repository."""
        folder = "few_shot" if self.protocol == "few_shot" else "base2new/train_base"
        return (
            f"{folder}/{self.dataset}/shots_{self.shots}/BiomedCoOp_BiomedCLIP/nctx4_cscFalse_ctpend/seed{self.seed}/"
            f"prompt_learner/model.pth.tar-{EPOCHS[self.protocol]}"
        )

    @property
    def subsets(self) -> tuple[str, ...]:
        """The values of DATASET.SUBSAMPLE_CLASSES that `accuracies` refer to."""
        return ("all",) if self.protocol == "few_shot" else ("base", "new")

    def specs(self, file: Path, places: Places) -> list[RunSpec]:
        """The runs that test the prompt in `file`, in the order of `accuracies`."""
        backbone = places.backbone_for(self.dataset)
        level = Path(backbone.removeprefix("hf-hub:")).name
        return [
            RunSpec(
                method=METHOD,
                folder=str(
                    places.output / "verify" / self.protocol / subset / self.dataset / f"shots_{self.shots}" / level
                    / f"seed{self.seed}"
                ),
                dataset=self.dataset,
                shots=self.shots,
                subsample=subset,
                seed=self.seed,
                backbone=backbone,
                data=str(places.data),
                method_file=method_config(METHOD, self.protocol, self.dataset),
                eval_only=True,
                model_dir=str(file.parents[1]),
                load_epoch=EPOCHS[self.protocol],
            )
            for subset in self.subsets
        ]  # fmt: skip


def released_accuracies() -> list[Released]:
    """The released prompts whose accuracy is known (`released_checkpoints` in ogkd/evaluation/published.json)."""
    path = PACKAGE / "evaluation" / "published.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["released_checkpoints"]["rows"]
    return [
        Released(protocol, dataset, shots, seed, tuple(accuracies))
        for protocol, dataset, shots, seed, *accuracies in rows
    ]


def agrees(ours: float, published: float) -> bool:
    """Whether two accuracies in percent differ by at most TOLERANCE, rounded to two digits as published."""
    return abs(round(ours - published, 2)) <= TOLERANCE


def chosen(
    datasets: Collection[str], protocols: Collection[str], shots: Collection[int], seeds: Collection[int]
) -> list[Released]:
    """The released prompts for the given values; an empty list selects everything.

    Raises:
        UserError: no prompt was released for these values.
    """
    everything = released_accuracies()
    selected = everything
    for what, name, wanted in (
        ("data set", "dataset", datasets),
        ("protocol", "protocol", protocols),
        ("number of shots", "shots", shots),
        ("seed", "seed", seeds),
    ):
        there = sorted({getattr(one, name) for one in everything})
        for value in wanted:
            if value not in there:
                raise UserError(f"No prompt is released for {what} {value}: there are {', '.join(map(str, there))}.")
        selected = [one for one in selected if not wanted or getattr(one, name) in wanted]
    if not selected:
        raise UserError("No prompt is released for that choice: base2new has 16 shots, and busi is not part of it.")
    return selected


def fetch(released: Released, endpoint: str | None = None) -> Path:
    """The prompt's file in the hub's cache, downloaded if necessary.

    Raises:
        UserError: it is not cached and cannot be downloaded.
    """
    from huggingface_hub import constants, get_session, hf_hub_download, try_to_load_from_cache

    from ogkd.core.transfer import quiet_hub_client

    cache = constants.HF_HUB_CACHE
    cached = try_to_load_from_cache(REPOSITORY, released.file, cache_dir=cache)
    if isinstance(cached, str):
        return Path(cached)
    quiet_hub_client()
    try:
        # The hub's own client retries for half a minute before it gives up on a machine without a network.
        get_session().head(endpoint or constants.ENDPOINT, timeout=_CONNECT_SECONDS)
        return Path(hf_hub_download(REPOSITORY, released.file, cache_dir=cache, endpoint=endpoint))
    except Exception as error:  # the client passes on errors of its HTTP library, which depend on the version
        reason, mend = trouble(error, "run this with a network connection")
        raise UserError(
            f"The released prompt {released.file} could not be fetched from {REPOSITORY} ({reason}): "
            f"{mend}, or give a folder with the repository's files by --from."
        ) from error
