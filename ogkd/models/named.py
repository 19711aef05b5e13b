"""The models that have a name here, with the facts of named.json: where they come from, their size and licence, and
what their authors say they were trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ogkd.core.places import command
from ogkd.models.configurations import OPEN_CLIP_CONFIG, PROCESSORS, TRANSFORMERS_CONFIG
from ogkd.models.errors import ModelError

PMC_WEIGHTS = "checkpoint.pt"
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
TRANSFORMERS_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model")
"""Files that define a tokenizer; any one of them is enough."""
TOKENIZER_FILES = (*VOCABULARIES, "tokenizer_config.json", "merges.txt", "special_tokens_map.json")
SOURCE = "ogkd_source.json"
"""Beside exported or converted weights: the model's name, repository and revision."""
HUB = "https://huggingface.co/"

SEEN, NOT_SEEN, UNKNOWN = "seen", "not seen", "unknown"
"""Whether a model was pre-trained on images of a data set: its authors list them or what they were compiled from; they
test on the set as one that was held out; or they do neither."""


class Repository(NamedTuple):
    """A repository of the hub and the files to take from it.

    These are all of `required`, the first of `weights` and of each of `choices` that exists, and those of `optional`
    that exist. `revision` pins one commit, so that the weights cannot change unnoticed. `kind` is the hub's repo_type.
    `tokenizer` is the repository to use if this one has no tokenizer; by default this one itself. `checkpoint` names
    the architecture and key rules (checkpoints.py) of weights that come without a configuration.
    """

    name: str
    required: tuple[str, ...]
    weights: tuple[str, ...]
    optional: tuple[str, ...] = ()
    revision: str | None = None
    kind: str | None = None
    tokenizer: str | None = None
    choices: tuple[tuple[str, ...], ...] = ()
    checkpoint: str | None = None


@dataclass(frozen=True)
class NamedModel:
    """The facts about one model. `pixels` and `patch` are sides, `width` that of its features, `texts` tokens."""

    name: str
    format: str  # open_clip, transformers, pmc_clip, keep; weights alone: openai, checkpoint; "" if unsupported
    licence: str
    known_from: str  # how the licence is known
    towers: str
    pixels: int
    patch: int
    width: int
    texts: int
    data: str  # what its authors say it was trained on
    source: str  # where they say so
    repository: str = ""  # on the hub
    page: str = ""  # where its weights are, if not on the hub
    revision: str | None = None  # None if no source names one: then the newest is taken, and recorded
    kind: str | None = None
    tokenizer: str | None = None
    weights: str = ""  # the file, where the format does not say it
    gated: bool = False
    unsupported: str = ""
    sets: dict[str, tuple[str, str]] = field(default_factory=dict)  # data set -> (SEEN or NOT_SEEN, why)

    @property
    def card(self) -> str:
        """The address of its page."""
        return self.page or f"{HUB}{f'{self.kind}s/' if self.kind else ''}{self.repository}"

    def exposure(self, dataset: str) -> tuple[str, str]:
        """Whether it was pre-trained on a data set's images, see SEEN, and why one can say so."""
        status, why = self.sets.get(dataset, (UNKNOWN, ""))
        return status, why

    @property
    def has_vocabulary(self) -> bool:
        """Whether its tokenizer is made of files; the others use CLIP's own, which open_clip has."""
        return self.tokenizer is not None or self.format in ("transformers", "keep")

    @property
    def bytes_per_image(self) -> int:
        """Bytes of one image's features with patches in fp32, as methods with patches hold them during an epoch."""
        return 4 * self.width * (1 + (self.pixels // self.patch) ** 2)

    def on_hub(self) -> Repository:
        """Its repository. Raises ModelError if it cannot be used here or is not on the hub."""
        if self.unsupported:
            raise ModelError(
                f"{self.name} cannot be used here: {self.unsupported} (see {self.card}); choose another model."
            )
        if not self.repository:
            raise ModelError(
                f"{self.name} is not on the hub: download its file as {self.page} says, run `{command('convert')} FILE "
                f"--as {self.name} --to FOLDER`, and give that folder instead of the name."
            )
        files = {
            "open_clip": ((OPEN_CLIP_CONFIG,), OPEN_CLIP_WEIGHTS, (*TOKENIZER_FILES, TRANSFORMERS_CONFIG)),
            "transformers": ((TRANSFORMERS_CONFIG,), TRANSFORMERS_WEIGHTS, TOKENIZER_FILES),
            "keep": ((TRANSFORMERS_CONFIG,), TRANSFORMERS_WEIGHTS, TOKENIZER_FILES),
            "pmc_clip": ((), (PMC_WEIGHTS,), ()),
            "openai": ((), OPEN_CLIP_WEIGHTS, ()),
            "checkpoint": ((), (self.weights,), ()),
        }
        return Repository(
            self.repository,
            *files[self.format],
            revision=self.revision,
            kind=self.kind,
            tokenizer=self.tokenizer,
            choices=(PROCESSORS,) if self.format == "transformers" else (),
            checkpoint=self.name if self.format == "checkpoint" else None,
        )


@cache
def named_models() -> dict[str, NamedModel]:
    """The models of named.json, by name."""
    entries = json.loads(Path(__file__).with_name("named.json").read_text(encoding="utf-8"))
    return {name: NamedModel(name, **facts) for name, facts in entries.items()}


def named_model(word: str) -> NamedModel | None:
    """The model of a name in any spelling, or that comes from a repository "org/name"."""
    names = ((spelling(name), one) for one in named_models().values() for name in (one.name, one.repository) if name)
    return dict(names).get(spelling(word))


def spelling(name: str) -> str:
    """A name without case, blanks, hyphens and slashes: "DermLIP ViT-B/16" is DermLIP-ViT-B-16."""
    return "".join(letter for letter in name if letter.isalnum()).casefold()
