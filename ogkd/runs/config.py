"""The configuration of a run: defaults, YAML files, arguments and KEY VALUE pairs, in that order."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.config import clean_cfg, get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.evaluation import EVALUATOR_REGISTRY
from dassl.modeling import BACKBONE_REGISTRY
from ogkd import models
from ogkd.core import UserError, check_availability, expanded
from ogkd.core.config_files import DEFAULT, PROTOCOLS, configs_in, read_config, tuned_in
from ogkd.core.places import HOME
from ogkd.core.schema import shown
from ogkd.data.biomedical import BiomedicalDataset
from ogkd.data.catalogue import config_name, load, name_of_folder
from ogkd.data.sampling import BALANCED
from ogkd.evaluation.collect import ELSEWHERE
from ogkd.evaluation.methods import known_methods, named
from ogkd.evaluation.protocol import PLACES
from ogkd.features.settings import feature_settings
from ogkd.models.configurations import OPENAI_SIZES, OPENAI_SPEC, ImageSpec
from ogkd.runs import presets
from ogkd.runs.foreign_settings import TRAIN, ForeignSettings, settings_of
from ogkd.runs.free_keys import allow_new_keys, free_node, is_allowed
from ogkd.runs.ranges import RANGES
from ogkd.runs.records import CONFIG, run_config
from ogkd.runs.registry import check_imported, is_built_here, method_class, register_everything, trainer_class
from ogkd.runs.spec import METHOD_CONFIGS, PUBLISHED, SEARCH, RunSpec, is_name, place_and_name
from ogkd.runs.typed import typed
from ogkd.tuning.distillation import distilled_with


def extend_config(cfg: CfgNode) -> None:
    """Add this project's keys, the protocol's defaults and every method's own keys."""
    cfg.MODEL.BACKBONE.NAME = "BiomedCLIP"
    cfg.SETTINGS = PUBLISHED
    cfg.SEARCH = CfgNode({"TRIALS": 0, "SCORE": "", "FOLDS": 0, "SEED": 0, "KEYS": [], "BASE": ""})  # runs/search.py
    cfg.FEATURES = feature_settings()

    cfg.DATASET.NUM_SHOTS = 16
    cfg.DATASET.DRAW = BALANCED  # or NUM_SHOTS x classes images by label share, see ogkd/data/sampling.py
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # all, base or new
    cfg.DATASET.FOLDER = ""  # ImageFolder: the folder of the images below DATASET.ROOT
    cfg.DATASET.TRIAL = ""  # "val" or "2/5": what a trial of a search is tested on, see ogkd/data/trial_images.py
    cfg.DATASET.TEST_ON = ""  # another data set to test on; its classes must be among this one's

    cfg.INPUT.SIZE = (0, 0)  # 0 and empty: the values that the backbone was trained with
    cfg.INPUT.PIXEL_MEAN = []
    cfg.INPUT.PIXEL_STD = []
    cfg.INPUT.INTERPOLATION = ""
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

    cfg.TEST.CALIBRATE_ON = "auto"  # validation images for temperature and thresholds, see ogkd/data/biomedical.py

    cfg.TRAIN.RESEED_EPOCHS = True
    cfg.TRAIN.PRINT_FREQ = 5
    cfg.TRAIN.CHECKPOINT_FREQ = 1
    cfg.TRAIN.KEEP_CHECKPOINTS = False

    for name in TRAINER_REGISTRY.registered_names():
        extend = getattr(TRAINER_REGISTRY.get(name), "extend_config", None)
        if extend is not None:
            extend(cfg)


def defaults() -> dict:
    """The default of every key, as plain values."""
    cfg = get_cfg_default()
    extend_config(cfg)
    return in_json(cfg)


@dataclass(frozen=True)
class Configuration:
    """The configuration of a run, resolved once; everything that a run asks about its settings is here.

    cfg: the run's own; frozen by `complete`.
    source: the data set on which the parameters that a test loads were trained, "" for a run that trains, `ELSEWHERE`
        if they are not from a run of this project.
    """

    spec: RunSpec
    cfg: CfgNode
    source: str
    _ground: _Ground

    def complete(self) -> Configuration:
        """Fill in what depends on the backbone, whose settings must be on this machine, and freeze it all."""
        if not self.cfg.is_frozen():
            fill_image_spec(self.cfg)
            self.cfg.freeze()
        return self

    @cached_property
    def values(self) -> dict:
        """The configuration as JSON holds it."""
        return in_json(self.cfg)

    @cached_property
    def changed(self) -> dict[str, object]:
        """The settings that differ from the benchmark's: dotted key -> value.

        The benchmark's settings are those of the method's and the data set's configuration files for the protocol; if
        the method was trained on another data set, `source`, that one's. The run's identity (data, classes, shots,
        seed, backbone) and its paths do not count.
        """
        spec, cfg, method = self.spec, self.cfg, self.cfg.TRAINER.NAME
        source = "" if self.source == ELSEWHERE else config_name(self.source)
        protocol = "few_shot" if cfg.DATASET.SUBSAMPLE_CLASSES == "all" else "base2new"
        standard = RunSpec(
            method=method,
            folder=spec.folder,
            dataset=spec.dataset,
            dataset_file=spec.dataset_file,
            method_file=method_config(method, protocol, source or spec.dataset),
            settings=cfg.SEARCH.BASE if cfg.SETTINGS == SEARCH else cfg.SETTINGS,
            pairs=() if spec.dataset or spec.dataset_file else ("DATASET.NAME", cfg.DATASET.NAME),
        )
        usual = self._ground.configured(standard)
        if distilled_with(cfg) is not None:
            key = f"TRAINER.{method.upper()}.DISTIL"
            with_terms = replace(standard, pairs=(*standard.pairs, key, cfg.TRAINER[method.upper()].DISTIL))
            usual.TRAINER.OGKD = self._ground.configured(with_terms).TRAINER.OGKD
        usual.DATASET, usual.MODEL.BACKBONE.NAME = cfg.DATASET, cfg.MODEL.BACKBONE.NAME
        if is_built_here(method):
            fill_image_spec(usual)
        else:  # only its own files may specify its input images
            for key in ("SIZE", "RESIZE", "PIXEL_MEAN", "PIXEL_STD"):
                usual.INPUT[key] = cfg.INPUT[key]
        usual.SETTINGS, usual.SEARCH = PUBLISHED, cfg.SEARCH
        theirs, own = dict(flat(in_json(usual))), ("SEED", "USE_CUDA", "MODEL.BACKBONE.NAME", *PLACES, *cfg.SEARCH.KEYS)
        return {key: value for key, value in flat(in_json(cfg)) if key not in own and theirs.get(key) != value}

    def differences(self, theirs: dict) -> list[str]:
        """Keys that affect what a run computes and differ from those of a stored configuration, as "KEY theirs ->
        mine". A key that an older version did not write down had its default. What the method does not read does not
        count: Zero-shot has no epochs."""
        mine, stored = dict(flat(self.values)), dict(flat(in_json(self._ground.cfg))) | dict(flat(theirs))
        keys = sorted((mine.keys() & stored.keys()) - set(PLACES), key=lambda key: (key != "SETTINGS", key))
        method = known_methods().get(self.cfg.TRAINER.NAME)
        keys = [key for key in keys if method is None or method.reads(key)]
        return [f"{key} {stored[key]!r} -> {mine[key]!r}" for key in keys if mine[key] != stored[key]]

    @cached_property
    def tuned(self) -> list[str]:
        """The keys whose values a paper tuned for the run's data set and the user did not change."""
        file = presets.method_file(self.spec.method_file, presets.chosen_preset(self.spec))
        return [key for key in (tuned_in(HOME / file) if file else ()) if key not in self.changed]

    def notes(self) -> list[str]:
        """What a trainer's own code base sets and this project does not read."""
        return self._ground.theirs.notes()


def resolve(spec: RunSpec) -> Configuration:
    """The configuration of a run, from the defaults, configuration files, fields and pairs; it needs no weights yet.

    Raises:
        UserError: a key, method or data set is unknown, a value has the wrong type, or a file is missing.
    """
    ground = _Ground.of(spec)
    cfg = ground.configured(spec)
    return Configuration(spec, cfg, source_of(spec, cfg), ground)


def build_config(spec: RunSpec) -> CfgNode:
    """The complete configuration of a run, checked and frozen, see `resolve`; its backbone must be at hand."""
    return resolve(spec).complete().cfg


@dataclass(frozen=True)
class _Ground:
    """What the configurations of a method are merged into: every default, and what the method's code base brings.

    brings_keys: whether the method was written for CoOp's code base, whose trainers read keys that no default names.
    """

    method: str
    cfg: CfgNode
    brings_keys: bool
    theirs: ForeignSettings
    known: tuple[str, ...]

    @classmethod
    def of(cls, spec: RunSpec) -> _Ground:
        register_everything()
        pairs = spec.all_pairs()
        given = dict(zip(pairs[::2], pairs[1::2], strict=False)).get("TRAINER.NAME", spec.method)
        method = named(given or _method_in(spec.method_file))
        trainer_class(method)  # raises UserError if there is none
        cfg, theirs = get_cfg_default(), ForeignSettings(frozenset())
        extend_config(cfg)
        brings_keys = not is_built_here(method)
        if brings_keys:
            cfg.TRAINER = CfgNode({"NAME": ""})  # no default of ours may replace a key that nobody set
            cfg.TRAIN.RESEED_EPOCHS, cfg.INPUT.INTERPOLATION = False, "bicubic"
            theirs = settings_of(method_class(method))
        ground = cls(method, cfg, brings_keys, theirs, tuple(cfg))
        for key, value in theirs.defaults.items():
            _set(ground.open(cfg), key, value, f"{TRAIN} of {theirs.checkout}")
        return ground

    def open(self, cfg: CfgNode) -> CfgNode:
        """The configuration, with new keys allowed if the method brings some."""
        if self.brings_keys:
            allow_new_keys(cfg, self.known, self.theirs.words)
        return cfg

    def configured(self, spec: RunSpec) -> CfgNode:
        """A run's configuration without the settings that depend on the backbone, checked."""
        cfg, method, preset = self.cfg.clone(), self.method, presets.chosen_preset(spec)
        if self.brings_keys and preset != PUBLISHED:
            raise UserError(f"{method} was written for CoOp's code base, for which there are no settings '{preset}'.")
        self._merge_distillation(cfg, spec, preset)
        for path in (spec.dataset_config(), presets.method_file(spec.method_file, preset)):
            if path:
                ours = path == spec.dataset_config() and not spec.dataset_file  # whatever the current folder has there
                merge_yaml(self.open(cfg), HOME / path if ours else config_path(path), method)
        merge_fields(self.open(cfg), spec)
        presets.apply(cfg, preset)
        merge_pairs(cfg, spec.all_pairs())
        cfg.TRAINER.NAME, cfg.MODEL.BACKBONE.NAME = method, models.model_named(cfg.MODEL.BACKBONE.NAME)
        if self.brings_keys and cfg.DATASET.NUM_SHOTS == 0:
            cfg.DATASET.NUM_SHOTS = -1  # all images, as CoOp's data sets read it
        resolve_places(cfg)
        check(cfg, self.theirs.words)
        if self.brings_keys:
            return free_node(cfg)
        distillation = distilled_with(cfg)
        clean_cfg(cfg, method)  # options of other methods have no effect, so they are not recorded
        if distillation is not None:
            cfg.TRAINER.OGKD = distillation
        return cfg

    def _merge_distillation(self, cfg: CfgNode, spec: RunSpec, preset: str) -> None:
        """Give OGKD's section the values that its own runs have, for a method that may take its terms (DISTIL)."""
        if "DISTIL" not in cfg.TRAINER.get(self.method.upper(), ()):
            return
        protocol = Path(spec.method_file).parent.name
        if protocol not in PROTOCOLS:
            protocol = "few_shot" if spec.subsample in ("", "all") else "base2new"
        path = presets.method_file(method_config("OGKD", protocol, spec.dataset), preset)
        merge_plain(cfg, {"TRAINER": {"OGKD": read_config(HOME / path)["TRAINER"]["OGKD"]}}, path)


def source_of(spec: RunSpec, cfg: CfgNode) -> str:
    """The data set on which the parameters that a run tests were trained, see `Configuration.source`."""
    if cfg.DATASET.TEST_ON:
        return trained_on(cfg)
    if not spec.eval_only or not spec.model_dir:
        return ""
    return trained_on(run_config(spec.model_dir)) if (Path(spec.model_dir) / CONFIG).is_file() else ELSEWHERE


def trained_on(config: dict) -> str:
    """The data set of a configuration by its name in the catalogue; a folder of images by a name that distinguishes it
    from data sets of the catalogue."""
    folder = config["DATASET"]["FOLDER"]
    return name_of_folder(folder) if folder else config["DATASET"]["NAME"]


def tested_on(config: dict) -> str:
    """The data set whose images a run of a configuration tests."""
    name = config["DATASET"]["TEST_ON"]
    facts = load().find(name) if name else None
    return facts.name if facts else name or trained_on(config)


def names_novel_classes(cfg: CfgNode) -> bool:
    """Whether what a run of this configuration learns applies to classes that it was not trained on."""
    method = method_class(cfg.TRAINER.NAME)
    if not hasattr(method, "can_name_novel_classes"):
        return getattr(method, "has_novel_head", True)
    return method.can_name_novel_classes(cfg.TRAINER[cfg.TRAINER.NAME.upper()])


def method_config(method: str, protocol: str, dataset: str) -> str:
    """The method's configuration for a data set, else its default, else "". A subclass of a method that has none uses
    those of its base class."""
    for name in (named(method), *_bases(named(method))):
        folder = METHOD_CONFIGS / name / protocol
        there = configs_in(HOME / folder)
        if there & {dataset, DEFAULT}:
            return (folder / f"{dataset if dataset in there else DEFAULT}.yaml").as_posix()
    return ""


def _bases(method: str) -> list[str]:
    """The names of a method's registered base classes, nearest first."""
    register_everything()
    names = TRAINER_REGISTRY.registered_names()
    classes = method_class(method).__mro__[1:] if method in names else ()
    return [base.__name__ for base in classes if base.__name__ in names]


def _method_in(path: str) -> str:
    """The method that a configuration file names as TRAINER.NAME; "" if it names none."""
    section = read_config(config_path(path)).get("TRAINER") if path else None
    name = section.get("NAME") if isinstance(section, dict) else None
    return name if isinstance(name, str) else ""


def config_path(path: str) -> Path:
    return Path(path) if Path(path).is_file() else HOME / path


def merge_yaml(cfg: CfgNode, path: Path, method: str = "", above: Sequence[Path] = ()) -> None:
    """Merge a YAML file after its `_BASE_`, a path relative to the file. `above` are the files that are based on it.

    Options of a base class of the method are read as the method's own.
    """
    content = dict(read_config(path))
    if "common" in content:
        where = path.with_suffix("") / PROTOCOLS[0] / f"{DEFAULT}.yaml"
        raise UserError(f"{path} has a method's settings for every protocol: give those of one, such as {where}.")
    base, above = content.pop("_BASE_", ""), (*above, path.resolve())
    if not isinstance(base, str):
        raise UserError(f"{path} has {shown(base)} as _BASE_, but it must be the path of another configuration.")
    if base and (path.parent / base).resolve() in above:
        raise UserError(f"{path} is based on itself: set _BASE_ to another configuration, or remove it.")
    if base:
        merge_yaml(cfg, path.parent / base, method, above)
    options, bases = content.get("TRAINER"), [name.upper() for name in _bases(method)]
    if isinstance(options, dict) and method.upper() not in options:
        content["TRAINER"] = {method.upper() if name in bases else name: node for name, node in options.items()}
    merge_plain(cfg, content, str(path))


def merge_fields(cfg: CfgNode, spec: RunSpec) -> None:
    """Merge the settings from the spec's fields."""
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


def merge_pairs(cfg: CfgNode, pairs: Sequence[str]) -> None:
    """Merge KEY VALUE pairs from the command line."""
    if len(pairs) % 2:
        raise UserError(f"The configuration is changed by KEY VALUE pairs, but the last word, '{pairs[-1]}', is alone.")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        _set(cfg, key, value, "the command line")


def merge_plain(cfg: CfgNode, values: dict, where: str) -> None:
    """Merge sections of a configuration given as plain values, such as a stored one."""
    for key, value in flat(values):
        _set(cfg, key, value, where)


def _set(cfg: CfgNode, key: str, value: object, where: str) -> None:
    """Change the value of a dotted key, which must exist and have the value's type."""
    *sections, name = key.split(".")
    node: object = cfg
    for section in sections:
        if isinstance(node, CfgNode) and section not in node and is_allowed(node, section):
            node[section] = CfgNode(new_allowed=True)
        node = node.get(section) if isinstance(node, CfgNode) else None
    if not isinstance(node, CfgNode) or not (name in node or is_allowed(node, name)):
        near = difflib.get_close_matches(key, [known for known, _ in flat(cfg)], 1)
        hint = (
            f"; did you mean {near[0]}?" if near else "; see the defaults in ogkd/runs/config.py and the method's file."
        )
        raise UserError(f"Unknown configuration key {shown(key)} from {where}{hint}")
    if isinstance(node.get(name), CfgNode):
        raise UserError(f"{key} is {shown(value)} in {where}, but it is a section: give one of the keys in it.")
    default = None if node.is_new_allowed() else node.get(name)  # the type of a new key is not known
    node[name] = typed(value, default, key, where)


def in_json(value: Any) -> Any:
    """A configuration as JSON types: dicts, lists and scalars. Numbers that are not finite, which JSON lacks, become
    text."""
    return json.loads(json.dumps(value), parse_constant=lambda name: str(float(name)))


def flat(node: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """(dotted key, value) of a nested dict."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def resolve_places(cfg: CfgNode) -> None:
    """Expand `~`, and split DATASET.FOLDER given as a path into its parent, DATASET.ROOT, and its name."""
    for node, key in ((cfg.DATASET, "ROOT"), (cfg, "OUTPUT_DIR"), (cfg, "RESUME")):
        node[key] = expanded(node[key])
    folder = expanded(cfg.DATASET.FOLDER)
    if folder and not is_name(folder):
        root, cfg.DATASET.FOLDER = place_and_name(Path(cfg.DATASET.ROOT or ".", folder))
        cfg.DATASET.ROOT = str(root)
    if cfg.DATASET.TEST_ON and not is_name(cfg.DATASET.TEST_ON):
        raise UserError(f"DATASET.TEST_ON is {cfg.DATASET.TEST_ON}: give the name of a data set in DATASET.ROOT.")


def check(cfg: CfgNode, own: Collection[str] = ()) -> None:
    """Raise UserError for mistakes that would otherwise fail late or not at all: a missing folder or data set,
    values that are out of range or contradict each other. `own`: names that the trainer may define itself."""
    if not cfg.OUTPUT_DIR:
        raise UserError("Give the run a folder: --output-dir FOLDER.")
    if not cfg.DATASET.NAME:
        raise UserError("Give the run a data set: --dataset-config-file configs/datasets/<name>.yaml.")
    check_imported("DATASET", cfg.DATASET.NAME)
    check_values(cfg, own)
    check_availability(cfg.TEST.EVALUATOR, EVALUATOR_REGISTRY.registered_names())
    if cfg.OPTIM.NAME == "sgd" and cfg.OPTIM.SGD_NESTEROV and not cfg.OPTIM.MOMENTUM > cfg.OPTIM.SGD_DAMPNING == 0:
        raise UserError("OPTIM.SGD_NESTEROV needs an OPTIM.MOMENTUM greater than 0 and an OPTIM.SGD_DAMPNING of 0.")
    draws_itself = _draws_itself(cfg.DATASET.NAME)
    if cfg.DATASET.DRAW != BALANCED and (cfg.DATASET.NUM_SHOTS < 0 or draws_itself):
        why = f"the data set {cfg.DATASET.NAME} draws its images itself" if draws_itself else "all images are taken"
        raise UserError(f"DATASET.DRAW {cfg.DATASET.DRAW} is for a number of shots, but {why}: leave it out.")
    if cfg.DATASET.TRIAL and draws_itself:
        raise UserError(
            f"The data set {cfg.DATASET.NAME} draws its images itself, so a search cannot be sure that it sees no test "
            "images: search on another data set."
        )
    if cfg.DATASET.TRIAL and (cfg.DATASET.TEST_ON or cfg.TEST.SPLIT != "test"):
        raise UserError("DATASET.TRIAL says what is tested on: leave out DATASET.TEST_ON and TEST.SPLIT.")
    if cfg.DATASET.TEST_ON and cfg.TEST.SPLIT != "test":
        raise UserError(
            f"DATASET.TEST_ON {cfg.DATASET.TEST_ON} tests on that data set's test images: leave out TEST.SPLIT."
        )


def _draws_itself(name: str) -> bool:
    """Whether a data set is not one of this project's kind, which read DATASET.DRAW and DATASET.TRIAL."""
    return name in DATASET_REGISTRY.registered_names() and not issubclass(DATASET_REGISTRY.get(name), BiomedicalDataset)


def check_values(cfg: CfgNode, own: Collection[str] = ()) -> None:
    """Check the range of every value, including the method's own options; names in `own` are allowed.

    Raises:
        UserError: a value is out of range; the message has the key, its value and the range.
    """
    for key, value in flat(cfg):
        if key in RANGES and not (isinstance(value, str) and value in own):
            RANGES[key].check(key, value)
    if is_built_here(cfg.TRAINER.NAME):
        method_class(cfg.TRAINER.NAME).options.check(cfg.TRAINER[cfg.TRAINER.NAME.upper()])


def fill_image_spec(cfg: CfgNode) -> None:
    """Fill in the backbone's image size, resizing and normalisation where the configuration leaves them open.

    A trainer that is not built on ClipTrainer may use other backbones. OpenAI's models and those in Dassl's registry
    are known; for all others the configuration must give size, mean and standard deviation.
    """
    given = all(cfg.INPUT.SIZE) and cfg.INPUT.PIXEL_MEAN and cfg.INPUT.PIXEL_STD
    if given and not is_built_here(cfg.TRAINER.NAME):
        return
    spec = image_spec(cfg.MODEL.BACKBONE.NAME, is_built_here(cfg.TRAINER.NAME))
    if not all(cfg.INPUT.SIZE):
        cfg.INPUT.SIZE = (spec.size, spec.size)
    cfg.INPUT.PIXEL_MEAN = list(cfg.INPUT.PIXEL_MEAN or spec.mean)
    cfg.INPUT.PIXEL_STD = list(cfg.INPUT.PIXEL_STD or spec.std)
    cfg.INPUT.INTERPOLATION = cfg.INPUT.INTERPOLATION or spec.interpolation
    cfg.INPUT.RESIZE = cfg.INPUT.RESIZE or spec.resize


def image_spec(backbone: str, ours: bool) -> ImageSpec:
    """The image size and normalisation of a backbone; `ours`: the method loads it with models.load.

    Raises UserError for an unknown backbone.
    """
    if not ours and backbone in OPENAI_SIZES:
        return OPENAI_SPEC._replace(size=OPENAI_SIZES[backbone])
    if not ours and backbone in BACKBONE_REGISTRY.registered_names():
        size, mean, std = (get_cfg_default().INPUT[key] for key in ("SIZE", "PIXEL_MEAN", "PIXEL_STD"))
        return ImageSpec(size[0], tuple(mean), tuple(std))
    try:
        return models.image_spec(backbone)
    except UserError as error:
        if ours:
            raise
        raise UserError(
            f"The image size and normalisation of the backbone '{backbone}' are unknown: give INPUT.SIZE, "
            f"INPUT.PIXEL_MEAN and INPUT.PIXEL_STD, "
            f'for example INPUT.SIZE "(224, 224)" INPUT.PIXEL_MEAN "[0.5, 0.5, 0.5]" '
            f'INPUT.PIXEL_STD "[0.5, 0.5, 0.5]".'
        ) from error
