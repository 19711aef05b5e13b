"""The methods in a checkout of CoOp's family, beside the checkout's own trainers.

Two lines in its train.py add them: `import ogkd.trainers` and, after its own extend_cfg(cfg), `ogkd.extend_cfg(cfg)`.
"""

from __future__ import annotations

import importlib.util
from importlib.metadata import distribution
from pathlib import Path

from yacs.config import CfgNode

import ogkd.trainers  # noqa: F401  fills METHODS
from ogkd.features.settings import feature_settings
from ogkd.tuning.registration import register_methods


def extend_cfg(cfg: CfgNode) -> None:
    """Register every method with Dassl and add their options, as TRAINER.<NAME IN CAPITALS>, and the other keys that
    they read. Nothing that `cfg` has already changes.

    Call it after the code base's own extend_cfg.
    """
    _complete_open_clip()
    for method in register_methods(cfg.TRAINER):
        if method.__name__.upper() not in cfg.TRAINER:
            method.extend_config(cfg)
    cfg.setdefault("FEATURES", feature_settings())
    for section, key, value in (
        (cfg.INPUT, "FRAME", 0),
        (cfg.INPUT, "RRCROP_SCALE", (0.08, 1.0)),
        (cfg.DATASET, "NUM_SHOTS", -1),
        (cfg.DATASET, "FOLDER", ""),
        (cfg.DATASET, "SUBSAMPLE_CLASSES", "all"),
        (cfg.OPTIM, "ADAM_EPS", 1e-8),
        (cfg.TRAIN, "RESEED_EPOCHS", True),
        (cfg.TRAIN, "KEEP_CHECKPOINTS", True),
    ):
        section.setdefault(key, value)


def _complete_open_clip() -> None:
    """Give a checkout's folder open_clip, which hides the library of that name from everyone, the library's modules
    and names; the folder's own stay first."""
    library = Path(str(distribution("open_clip_torch").locate_file("open_clip")))
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin == str(library / "__init__.py"):
        return
    module = importlib.import_module("open_clip")
    if str(library) not in module.__path__:
        module.__path__.append(str(library))
        exec(compile((library / "__init__.py").read_bytes(), spec.origin or "open_clip", "exec"), vars(module))
