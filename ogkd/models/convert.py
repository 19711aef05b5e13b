"""Writes a model folder in open_clip's format from weights that a training wrote (see checkpoints.py)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors.torch import save_file

from ogkd.core import UserError, atomic_path, sweep, write_json
from ogkd.core.transfer import require_space, writing
from ogkd.models import checkpoints
from ogkd.models.configurations import OPEN_CLIP_CONFIG
from ogkd.models.fetching import source_record
from ogkd.models.named import (
    OPEN_CLIP_WEIGHTS,
    SOURCE,
    TOKENIZER_FILES,
    TRANSFORMERS_WEIGHTS,
    VOCABULARIES,
    Repository,
    named_model,
    named_models,
)
from ogkd.models.open_clip_models import IGNORED, of_state
from ogkd.models.sources import first_file, tokenizer_folder


def convert(file: Path, name: str, target: Path, tokenizer: Path | None = None, revision: str | None = None) -> None:
    """Write the weights in `file` as the open_clip folder `target`: safetensors, configuration, tokenizer, and a record
    of where they come from; the weights last.

    `name` is a model or family of checkpoints.py. A tokenizer made of files comes from the folder `tokenizer`, by
    default from the hub (its cache first). The model is built once, so that a folder that is written can be loaded.

    Raises UserError if the file is missing, corrupt or not such a model's, if `target` has a model already, or if the
    tokenizer is missing.
    """
    family = checkpoints.family_of(name)
    if not file.is_file():
        raise UserError(f"There is no file {file}: give the weights that were downloaded.")
    if model := first_file(target, (OPEN_CLIP_CONFIG, *OPEN_CLIP_WEIGHTS, *TRANSFORMERS_WEIGHTS)):
        raise UserError(f"The folder {target} has a model already ({model.name}): give --to an empty or new folder.")
    state = checkpoints.read(file, name)
    config = checkpoints.config(name, state, file)
    published = config["model_cfg"]["text_cfg"].get("hf_tokenizer_name")
    source = _tokenizer_in(tokenizer, published) if published else None
    with writing("the model", target):
        target.mkdir(parents=True, exist_ok=True)
        sweep(target)
        for path in [source / name for name in TOKENIZER_FILES if (source / name).is_file()] if source else []:
            with atomic_path(target / path.name) as temporary:
                shutil.copyfile(path, temporary)
    of_state(name, target, file, config, state)  # raises where tensors are missing or unexpected
    own = {key: value.contiguous().clone() for key, value in sorted(state.items()) if key not in IGNORED}
    require_space(target, sum(t.numel() * t.element_size() for t in own.values()), name, "give --to another folder")
    # a family's models were trained on the same data
    facts = named_model(name) or next(one for one in named_models().values() if one.name.startswith(family))
    with writing("the model", target):
        with atomic_path(target / OPEN_CLIP_CONFIG) as temporary:
            temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        write_json(source_record(facts, revision), target / SOURCE)
        with atomic_path(target / OPEN_CLIP_WEIGHTS[0]) as temporary:
            save_file(own, temporary)


def _tokenizer_in(folder: Path | None, published: str) -> Path:
    """The folder with the tokenizer's files. Raises UserError if the one that is given has none."""
    if folder is None:
        return tokenizer_folder(Repository(published, (), VOCABULARIES))
    if first_file(folder, VOCABULARIES) is None:
        raise UserError(
            f"The folder {folder} has no tokenizer: put tokenizer.json or vocab.txt of {published} into it."
        )
    return folder
