"""The configuration of a run: defaults, YAML files, arguments and KEY VALUE pairs, in that order."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path

import yaml
from yacs.config import CfgNode

import clip
from clip.configurations import OPENAI_SPEC, ImageSpec
from dassl.config import clean_cfg, get_cfg_default
from dassl.engine import TRAINER_REGISTRY
from dassl.modeling import BACKBONE_REGISTRY
from dassl.utils import UserError
from datasets.catalogue import load
from reports.variants import PLACES
from runs.free_keys import add_pairs, allow_new_keys, asking
from runs.registry import is_built_here, method_class, register_everything
from runs.spec import METHOD_CONFIGS, ROOT, RunSpec

OPENAI_SIZES = {
    **dict.fromkeys(("RN50", "RN101", "ViT-B/32", "ViT-B/16", "ViT-L/14"), 224),
    **{"RN50x4": 288, "ViT-L/14@336px": 336, "RN50x16": 384, "RN50x64": 448},
}
"""Side in pixels of the images that OpenAI's models take, by the names that their package gives them."""


def extend_config(cfg: CfgNode) -> None:
    """Add this project's keys, the protocol's defaults and every method's own keys."""
    cfg.MODEL.BACKBONE.NAME = "BiomedCLIP"
    cfg.FEATURES = CfgNode()
    cfg.FEATURES.CACHE_DIR = "cache"  # features of frozen towers, shared by all runs; "" keeps none
    cfg.FEATURES.IMAGES_AT_ONCE = 0  # images in one pass of the image tower; 0: 256 on a GPU, 32 on a CPU
    cfg.FEATURES.TRAIN_VIEW = "plain"  # what adapters and probes learn from: plain (as in the test) or augmented

    cfg.DATASET.NUM_SHOTS = 16
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # all, base or new
    cfg.DATASET.FOLDER = ""  # ImageFolder: the folder of the images below DATASET.ROOT
    cfg.DATASET.TEST_ON = ""  # another data set whose test images are classified, its classes being among this one's

    cfg.INPUT.SIZE = (0, 0)  # 0 and empty: what the backbone was trained with
    cfg.INPUT.PIXEL_MEAN = []
    cfg.INPUT.PIXEL_STD = []
    cfg.INPUT.INTERPOLATION = "bicubic"
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "normalize")
    cfg.INPUT.RRCROP_SCALE = (0.08, 1.0)

    cfg.DATALOADER.NUM_WORKERS = 2
    cfg.DATALOADER.TRAIN_X.BATCH_SIZE = 4
    cfg.DATALOADER.TEST.BATCH_SIZE = 64

    cfg.OPTIM.NAME = "sgd"
    cfg.OPTIM.LR = 0.0025
    cfg.OPTIM.MAX_EPOCH = 50
    cfg.OPTIM.LR_SCHEDULER = "cosine"
    cfg.OPTIM.WARMUP_EPOCH = 1
    cfg.OPTIM.WARMUP_TYPE = "constant"
    cfg.OPTIM.WARMUP_CONS_LR = 1e-5

    cfg.TRAIN.RESEED_EPOCHS = True
    cfg.TRAIN.PRINT_FREQ = 5
    cfg.TRAIN.CHECKPOINT_FREQ = 1
    cfg.TRAIN.KEEP_CHECKPOINTS = False

    for name in TRAINER_REGISTRY.registered_names():
        extend = getattr(TRAINER_REGISTRY.get(name), "extend_config", None)
        if extend is not None:
            extend(cfg)


def build_config(spec: RunSpec) -> CfgNode:
    """The whole configuration of a run, checked and frozen.

    Raises:
        UserError: an unknown key, method or data set, a value of the wrong type, a YAML file or model that is missing.
    """
    cfg = merged_config(spec)
    fill_image_spec(cfg)
    cfg.freeze()
    return cfg


def merged_config(spec: RunSpec) -> CfgNode:
    """The configuration without what the backbone decides, so that no weights are needed to plan a run."""
    register_everything()
    pairs = spec.all_pairs()
    named = dict(zip(pairs[::2], pairs[1::2], strict=False)).get("TRAINER.NAME", spec.method)
    check_trainer(named)
    cfg = get_cfg_default()
    extend_config(cfg)
    brings_keys = not hasattr(method_class(named), "extend_config")
    if brings_keys:
        cfg.TRAINER = CfgNode({"NAME": ""})  # nothing of ours stands in for what it reads and nobody gave
    if not is_built_here(named):
        cfg.TRAIN.RESEED_EPOCHS = False
    known = tuple(cfg)
    for path in (spec.dataset_config(), spec.method_file):
        if brings_keys:
            allow_new_keys(cfg, known)
        if path:
            merge_yaml(cfg, _config_path(path), spec.method)
    if brings_keys:
        allow_new_keys(cfg, known)
        add_pairs(cfg, pairs if len(pairs) % 2 == 0 else [])
    merge_fields(cfg, spec)
    merge_pairs(cfg, pairs)
    check(cfg)
    if brings_keys:
        return asking(cfg)
    clean_cfg(cfg, cfg.TRAINER.NAME)  # only the method's own options matter to it, so only they are written down
    return cfg


def changed_keys(spec: RunSpec, cfg: CfgNode, source: str = "") -> dict[str, object]:
    """What of a run's configuration is not as the benchmark has it: dotted key -> value.

    The yardstick is the method's and the data set's own configuration files for the protocol; what the run is (data,
    classes, shots, seed, backbone) and where it lies do not count. `source` is the data set that the method learned on
    where that is another one: its file is the yardstick then.
    """
    facts = load().find(source)
    source = facts.config if facts else source
    method, protocol = cfg.TRAINER.NAME, "few_shot" if cfg.DATASET.SUBSAMPLE_CLASSES == "all" else "base2new"
    standard = RunSpec(
        method=method,
        folder=spec.folder,
        dataset=spec.dataset,
        dataset_file=spec.dataset_file,
        backbone=spec.backbone,
        method_file=method_config(method, protocol, source or spec.dataset),
    )
    usual = merged_config(standard)
    usual.DATASET, usual.MODEL.BACKBONE.NAME = cfg.DATASET, cfg.MODEL.BACKBONE.NAME
    if is_built_here(method):
        fill_image_spec(usual)
    else:  # whose files alone may say what images its backbone takes
        for key in ("SIZE", "PIXEL_MEAN", "PIXEL_STD"):
            usual.INPUT[key] = cfg.INPUT[key]
    mine, theirs = dict(flat(plain(cfg))), dict(flat(plain(usual)))
    own = ("SEED", "USE_CUDA", "MODEL.BACKBONE.NAME", *PLACES)
    return {key: value for key, value in mine.items() if key not in own and theirs.get(key) != value}


def method_config(method: str, protocol: str, dataset: str) -> str:
    """The method's YAML for a data set, or its default; "" where it has none. A subclass of a method that has no files
    of its own uses those of its base."""
    for name in (method, *_bases(method)):
        folder = METHOD_CONFIGS / name / protocol
        for path in (folder / f"{dataset or 'default'}.yaml", folder / "default.yaml"):
            if (ROOT / path).is_file():
                return path.as_posix()
    return ""


def _bases(method: str) -> list[str]:
    """The names of the registered classes that a method is a subclass of, nearest first."""
    register_everything()
    names = TRAINER_REGISTRY.registered_names()
    classes = TRAINER_REGISTRY.get(method).__mro__[1:] if method in names else ()
    return [base.__name__ for base in classes if base.__name__ in names]


def _config_path(path: str) -> Path:
    return Path(path) if Path(path).is_file() else ROOT / path


def merge_yaml(cfg: CfgNode, path: Path, method: str = "") -> None:
    """Merge a YAML file; its `_BASE_`, a path relative to it, is merged first.

    Options of a class that the method is a subclass of are read as the method's own.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise UserError(f"There is no configuration file {path}.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {str(error).splitlines()[0]}.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a configuration: it must be a YAML mapping of sections to keys.")
    base = content.pop("_BASE_", None)
    if base:
        merge_yaml(cfg, path.parent / base, method)
    options, bases = content.get("TRAINER"), [name.upper() for name in _bases(method)]
    if isinstance(options, dict) and method.upper() not in options:
        content["TRAINER"] = {method.upper() if name in bases else name: node for name, node in options.items()}
    merge_plain(cfg, content, str(path))


def merge_fields(cfg: CfgNode, spec: RunSpec) -> None:
    """What the spec says by its fields."""
    cfg.SEED = spec.seed
    for node, key, value in (
        (cfg.DATASET, "ROOT", spec.data),
        (cfg, "OUTPUT_DIR", spec.folder),
        (cfg, "RESUME", spec.resume),
        (cfg.DATASET, "SOURCE_DOMAINS", spec.source_domains),
        (cfg.DATASET, "TARGET_DOMAINS", spec.target_domains),
        (cfg.INPUT, "TRANSFORMS", spec.transforms),
        (cfg.TRAINER, "NAME", spec.method),
        (cfg.MODEL.BACKBONE, "NAME", spec.backbone),
        (cfg.MODEL.HEAD, "NAME", spec.head),
    ):
        if value:
            node[key] = value


def merge_pairs(cfg: CfgNode, pairs: list[str]) -> None:
    """KEY VALUE pairs from the command line."""
    if len(pairs) % 2:
        raise UserError(f"The configuration is changed by pairs of KEY VALUE, but '{pairs[-1]}' stands alone.")
    _merge(cfg, lambda: cfg.merge_from_list(pairs), "the command line")


def merge_plain(cfg: CfgNode, values: dict, where: str) -> None:
    """Sections of a configuration as plain values, such as a stored one."""
    _merge(cfg, lambda: cfg.merge_from_other_cfg(CfgNode(values)), where)


def _merge(cfg: CfgNode, merge, where: str) -> None:
    try:
        merge()
    except (KeyError, AssertionError) as error:
        known = [key for key, _ in flat(cfg)]
        key = str(error.args[0]).split("Non-existent key: ")[-1].split("Non-existent config key: ")[-1].strip("'\"")
        near = difflib.get_close_matches(key, known, 1)
        hint = f"; did you mean {near[0]}?" if near else "; see the defaults in runs/config.py and the method's file."
        raise UserError(f"Unknown configuration key '{key}' from {where}{hint}") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"A value from {where} has the wrong type: {str(error).splitlines()[0]}") from None


def plain(value: object) -> object:
    """A configuration as JSON has it: dicts, lists and scalars."""
    return json.loads(json.dumps(value))


def flat(node: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """(dotted key, value) of a nested dict."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def check_trainer(name: str) -> None:
    """Raise UserError when there is no such trainer."""
    known = TRAINER_REGISTRY.registered_names()
    if name not in known:
        raise UserError(f"There is no trainer '{name}'; there are {', '.join(known)}.")


def check(cfg: CfgNode) -> None:
    """Values that would only fail late, or not at all."""
    check_trainer(cfg.TRAINER.NAME)
    if not cfg.OUTPUT_DIR:
        raise UserError("Give the run a folder: --output-dir FOLDER.")
    if not cfg.DATASET.NAME:
        raise UserError("Give the run a data set: --dataset-config-file configs/datasets/<name>.yaml.")
    if cfg.OPTIM.MAX_EPOCH < 1:
        raise UserError(f"OPTIM.MAX_EPOCH is {cfg.OPTIM.MAX_EPOCH}, but training takes at least 1 epoch.")
    if cfg.DATALOADER.TRAIN_X.BATCH_SIZE < 1 or cfg.DATALOADER.TEST.BATCH_SIZE < 1:
        raise UserError("DATALOADER's batch sizes must be at least 1.")
    if cfg.DATASET.TEST_ON and cfg.TEST.SPLIT != "test":
        raise UserError(
            f"DATASET.TEST_ON {cfg.DATASET.TEST_ON} tests on that data set's test images: leave out TEST.SPLIT."
        )
    if not cfg.OPTIM.LR > 0:
        raise UserError(f"OPTIM.LR is {cfg.OPTIM.LR}, but it must be greater than 0.")


def fill_image_spec(cfg: CfgNode) -> None:
    """Image size and normalisation are the backbone's unless the configuration says otherwise.

    A trainer that is not built on ours may have backbones of its own: OpenAI's names and those of Dassl's registry are
    known, and for others the configuration says all three.
    """
    given = all(cfg.INPUT.SIZE) and cfg.INPUT.PIXEL_MEAN and cfg.INPUT.PIXEL_STD
    if given and not is_built_here(cfg.TRAINER.NAME):
        return
    spec = image_spec(cfg.MODEL.BACKBONE.NAME, is_built_here(cfg.TRAINER.NAME))
    if not all(cfg.INPUT.SIZE):
        cfg.INPUT.SIZE = (spec.size, spec.size)
    cfg.INPUT.PIXEL_MEAN = list(cfg.INPUT.PIXEL_MEAN or spec.mean)
    cfg.INPUT.PIXEL_STD = list(cfg.INPUT.PIXEL_STD or spec.std)


def image_spec(backbone: str, ours: bool) -> ImageSpec:
    """What images a backbone takes; `ours`: for a method that loads it by clip.load.

    Raises UserError for a backbone that is not known.
    """
    if not ours and backbone in OPENAI_SIZES:
        return OPENAI_SPEC._replace(size=OPENAI_SIZES[backbone])
    if not ours and backbone in BACKBONE_REGISTRY.registered_names():
        size, mean, std = (get_cfg_default().INPUT[key] for key in ("SIZE", "PIXEL_MEAN", "PIXEL_STD"))
        return ImageSpec(size[0], tuple(mean), tuple(std))
    try:
        return clip.image_spec(backbone)
    except UserError as error:
        if ours:
            raise
        raise UserError(
            f"What images the backbone '{backbone}' takes is not known here: give INPUT.SIZE, INPUT.PIXEL_MEAN and "
            f'INPUT.PIXEL_STD, for example INPUT.SIZE "(224, 224)" INPUT.PIXEL_MEAN "[0.5, 0.5, 0.5]" '
            f'INPUT.PIXEL_STD "[0.5, 0.5, 0.5]".'
        ) from error
