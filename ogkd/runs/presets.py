"""Presets of settings: how closely a run follows the published ones, and how much time it may save.

published: the papers' settings, which some methods tune for each data set.
universal: the same, but one configuration of a method for all data sets.
search: the best of a search over validation images (ogkd/runs/search.py), on the universal or the fast settings.
fast: a few crops of each training image, encoded once, bf16 where the device has it, and a packed text tower.
"""

from __future__ import annotations

from pathlib import Path

import torch
from yacs.config import CfgNode

from ogkd.core import UserError, did_you_mean
from ogkd.core.config_files import DEFAULT, configs_in
from ogkd.core.places import HOME
from ogkd.data.catalogue import load
from ogkd.features.precision import BF16, FP32, has_bf16
from ogkd.runs.registry import is_built_here
from ogkd.runs.spec import DATASET_CONFIGS, FAST, METHOD_CONFIGS, PRESETS, PUBLISHED, SEARCH, UNIVERSAL, RunSpec

CROPS = 8


def default_preset(method: str, dataset: str, shots: int) -> str:
    """The preset of a run for which none was chosen: fast for a number of shots of one's own images on a machine
    without a GPU, else published."""
    own = load().find(dataset) is None and dataset not in configs_in(HOME / DATASET_CONFIGS)
    fast = own and shots > 0 and is_built_here(method) and not torch.cuda.is_available()
    return FAST if fast else PUBLISHED


def chosen_preset(spec: RunSpec) -> str:
    """The preset that a run's arguments or KEY VALUE pairs name. Raises UserError if there is none of that name."""
    pairs = spec.pairs
    name = dict(zip(pairs[::2], pairs[1::2], strict=False)).get("SETTINGS", spec.settings)
    if name not in PRESETS:
        raise UserError(f"There are no settings '{name}'{did_you_mean(name, PRESETS)}; there are {', '.join(PRESETS)}.")
    return name


def method_file(path: str, preset: str) -> str:
    """The configuration file of a method for a preset, given the one for the data set."""
    ours = (HOME / path).is_relative_to(HOME / METHOD_CONFIGS)
    if preset in (UNIVERSAL, SEARCH) and ours and DEFAULT in configs_in((HOME / path).parent):
        return Path(path).with_name(f"{DEFAULT}.yaml").as_posix()
    return path


def apply(cfg: CfgNode, preset: str) -> None:
    """Record the preset in a configuration, and set what it sets."""
    if preset != PUBLISHED:  # a stored configuration may name another
        cfg.SETTINGS = preset
    if cfg.SETTINGS == SEARCH and not cfg.SEARCH.SCORE:
        raise UserError("The settings 'search' are those of a search: give its --config-file, best.yaml.")
    if preset == FAST or (cfg.SETTINGS == SEARCH and cfg.SEARCH.BASE == FAST):
        on_gpu = cfg.USE_CUDA and torch.cuda.is_available()
        cfg.FEATURES.CROPS, cfg.FEATURES.PACKED_TEXT = CROPS, True
        cfg.FEATURES.PRECISION = BF16 if has_bf16(torch.device("cuda" if on_gpu else "cpu")) else FP32
