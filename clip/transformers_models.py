"""Models in transformers' CLIPModel format: PubMedCLIP and any folder whose config.json has model_type clip."""

from __future__ import annotations

from pathlib import Path

from . import weights
from .errors import ModelError
from .image_towers import TransformersViT
from .interface import FrozenCLIP, ImageSpec, Report
from .sources import TRANSFORMERS_CONFIG, TRANSFORMERS_WEIGHTS, read_json, weights_in
from .text_towers import TransformersCLIPText
from .tokenizers import transformers_tokenizer

_PREPROCESSOR = "preprocessor_config.json"
_IGNORED = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")


def folder_spec(folder: Path) -> ImageSpec:
    """Image size, mean and standard deviation from the folder's configuration; CLIP's own where it is silent."""
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    vision = read_json(folder / TRANSFORMERS_CONFIG).get("vision_config") or {}
    preprocess = read_json(folder / _PREPROCESSOR) if (folder / _PREPROCESSOR).is_file() else {}
    mean, std = preprocess.get("image_mean", OPENAI_DATASET_MEAN), preprocess.get("image_std", OPENAI_DATASET_STD)
    return ImageSpec(int(vision.get("image_size", 224)), tuple(map(float, mean)), tuple(map(float, std)))


def load_folder(name: str, folder: Path, report: Report | None = None) -> FrozenCLIP:
    """The model of a folder with config.json, weights and tokenizer, on the CPU.

    Raises ModelError for files that are missing, damaged or do not belong together.
    """
    from transformers import CLIPConfig, CLIPModel

    content = read_json(folder / TRANSFORMERS_CONFIG)
    path = weights_in(folder, TRANSFORMERS_WEIGHTS)
    fingerprint = weights.fingerprint(path, content, report)
    state = weights.read(path, report)
    try:
        config = CLIPConfig(**content)
        with weights.no_initialisation():
            model = CLIPModel(config)
    except (TypeError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(
            f"transformers cannot build the model that {folder / TRANSFORMERS_CONFIG} describes ({error}): replace "
            "it by a complete copy."
        ) from error
    weights.fill(model, state, path, name, ignored=_IGNORED)
    return FrozenCLIP(
        name=name,
        image=TransformersViT(model.vision_model, model.visual_projection),
        text=TransformersCLIPText(model.text_model, model.text_projection),
        tokenizer=transformers_tokenizer(folder),
        spec=folder_spec(folder),
        embed_dim=config.projection_dim,
        context_length=config.text_config.max_position_embeddings,
        log_logit_scale=float(model.logit_scale),
        fingerprint=fingerprint,
    )
