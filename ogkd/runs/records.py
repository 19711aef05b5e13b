"""What a run records besides its results: its configuration and the images sampled for it."""

from __future__ import annotations

from pathlib import Path

from ogkd.core import UserError
from ogkd.core.config_files import read_config
from ogkd.core.schema import REMEDY, Rule, mismatch, read_record, whole

CONFIG, SPLIT = "config.yaml", "split.json"

_ITEM = Rule(
    lambda item: len(item) == 3 and isinstance(item[0], str) and whole(item[1]) and isinstance(item[2], str),
    "[image, label, class name]",
)
_SAMPLED = {"train": [_ITEM], "val": [_ITEM]}
_CONFIG = {
    "TRAINER": {"NAME": str},
    "DATASET": {"NAME": str, "FOLDER": str},
    "MODEL": {"BACKBONE": {"NAME": str}},
    "INPUT": dict,
}


def run_config(folder: str | Path) -> dict[str, dict]:
    """The configuration that the run in a folder was started with, as plain values.

    Raises:
        UserError: its config.yaml is missing or corrupt.
    """
    path = Path(folder) / CONFIG
    config = read_config(path)
    if wrong := mismatch(config, _CONFIG):
        raise UserError(f"{path} is corrupt ({wrong}): {REMEDY}.")
    return config


def sampled_images(folder: str | Path) -> dict[str, list[tuple[str, int, str]]]:
    """The training and validation images of a run, "train" and "val": path, label and class name of each.

    Raises:
        UserError: its split.json is missing or corrupt.
    """
    sampled = read_record(Path(folder) / SPLIT, _SAMPLED)
    return {part: [tuple(item) for item in sampled[part]] for part in _SAMPLED}
