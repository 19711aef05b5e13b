"""Weights that come alone, as a training wrote them: what the file does not say about the model, and how its tensors
are named in open_clip's format.

Sizes are read from the tensors. The sources of the rest:
UniMed-CLIP: mbzuai-oryx/UniMed-CLIP, src/open_clip/model.py and README (quick_gelu, BiomedBERT, 256 tokens).
BMC-CLIP: started from ViT-L-14 commonpool_xl_clip_s13b_b90k of open_clip, which has no quick_gelu.
PathGen-CLIP: PathFoundation/PathGen-1.6M, README (ViT-B-16 of open_clip, no quick_gelu).
CheXzero: rajpurkarlab/CheXzero, zero_shot.py and data_process.py (OpenAI's model; mean and deviation of its own, images
padded to a square; that it resizes to 320 pixels before is not followed).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ogkd.core.files import did_you_mean
from ogkd.models.configurations import ImageSpec, image_spec_of
from ogkd.models.errors import ModelError
from ogkd.models.named import named_models, spelling

if TYPE_CHECKING:
    from torch import Tensor

_BIOMEDBERT = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"


class Checkpoint(NamedTuple):
    """What weights do not say. `rules` are patterns and replacements for the names of tensors, in order; `text_cfg`
    replaces that of CLIP's own text tower; `preprocess_cfg` is open_clip's."""

    quick_gelu: bool = False
    rules: tuple[tuple[str, str], ...] = ()
    text_cfg: Mapping[str, Any] = {}
    preprocess_cfg: Mapping[str, Any] = {}

    def renamed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors under open_clip's names."""
        names = {name: name for name in state}
        for pattern, replacement in self.rules:
            names = {old: re.sub(pattern, replacement, new) for old, new in names.items()}
        return {names[old]: tensor for old, tensor in state.items()}


CHECKPOINTS = {
    "UniMed-CLIP": Checkpoint(
        quick_gelu=True,
        rules=((r"^text_encoder\.", "text."),),
        text_cfg={
            "hf_model_name": _BIOMEDBERT,
            "hf_tokenizer_name": _BIOMEDBERT,
            "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler",
            "context_length": 256,
        },
    ),
    "BMC-CLIP": Checkpoint(),
    "PathGen-CLIP": Checkpoint(),
    "CheXzero": Checkpoint(
        quick_gelu=True,
        preprocess_cfg={"mean": [101.48761 / 255] * 3, "std": [83.43944 / 255] * 3, "resize_mode": "longest"},
    ),
}
"""By the name of the family, of which named models differ in sizes."""


def family_of(name: str) -> str:
    """The entry of CHECKPOINTS that is meant by a family's name, or that of a model of it. Raises ModelError if there
    is none."""
    for family in CHECKPOINTS:
        if spelling(name).startswith(spelling(family)):
            return family
    known = [*(one.name for one in named_models().values() if one.format == "checkpoint"), *CHECKPOINTS]
    raise ModelError(
        f"There are no key rules for {name!r}{did_you_mean(name, known)}: choose one of {', '.join(CHECKPOINTS)}."
    )


def sizes(state: Mapping[str, Tensor], text_cfg: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """open_clip's model_cfg, without quick_gelu, of a state dict in its names, whose image tower is CLIP's ViT or
    ResNet; `text_cfg` is that of a text tower other than CLIP's. Raises KeyError with the name of a missing tensor."""

    def count(prefix: str) -> int:
        return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})

    def side(positions: str) -> int:
        return math.isqrt(len(state[positions]) - 1)

    vision: dict[str, Any]
    if "visual.layer1.0.conv1.weight" not in state:
        width, _, patch, _ = state["visual.conv1.weight"].shape
        size = side("visual.positional_embedding") * patch
        vision = {"layers": count("visual.transformer.resblocks."), "patch_size": patch, "image_size": size}
    else:
        width = len(state["visual.layer1.0.conv1.weight"])
        stages = tuple(count(f"visual.layer{stage}.") for stage in (1, 2, 3, 4))
        vision = {"layers": stages, "image_size": side("visual.attnpool.positional_embedding") * 32}
    if text_cfg:
        embed_dim = state["visual.proj"].shape[1]
    else:
        text_width = len(state["ln_final.weight"])
        embed_dim = state["text_projection"].shape[1]
        text_cfg = {
            "context_length": len(state["positional_embedding"]),
            "vocab_size": len(state["token_embedding.weight"]),
            "width": text_width,
            "heads": text_width // 64,
            "layers": count("transformer.resblocks."),
        }
    return {"embed_dim": embed_dim, "vision_cfg": {**vision, "width": width}, "text_cfg": dict(text_cfg)}


def read(path: Path, name: str) -> dict[str, Tensor]:
    """The tensors of a model's published file, in fp32 under open_clip's names. Raises ModelError as weights.read."""
    from ogkd.models import weights  # with PyTorch

    return CHECKPOINTS[family_of(name)].renamed(weights.read(path, beside_others=True))


def config(name: str, state: Mapping[str, Tensor], origin: object) -> dict[str, Any]:
    """open_clip_config.json for the renamed tensors of a model; `origin` is their file. Raises ModelError if they are
    not such a model's."""
    checkpoint = CHECKPOINTS[family_of(name)]
    try:
        model_cfg = sizes(state, checkpoint.text_cfg)
    except KeyError as error:
        raise ModelError(
            f"The tensors in {origin} are not weights of {name}: {error.args[0]} is missing; give the file that it was "
            "published in, or the name of another model."
        ) from None
    return {
        "model_cfg": {**model_cfg, "quick_gelu": checkpoint.quick_gelu},
        "preprocess_cfg": dict(checkpoint.preprocess_cfg),
    }


def image_spec(name: str) -> ImageSpec:
    """How images are prepared for a named model."""
    images = {"model_cfg": {"vision_cfg": {"image_size": named_models()[name].pixels}}}
    return image_spec_of(images | {"preprocess_cfg": CHECKPOINTS[family_of(name)].preprocess_cfg}, Path(name))
