"""Exporting a trained prompt: a folder of three small files that contain nothing of the training images.

prompt.safetensors   what was learned; mean features of the classes' validation images, to recognise unlike images
config.json          method, options, classes, backbone, image preparation, temperature, thresholds, versions
README.md            a model card
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ogkd.core import UserError, atomic_path, first_line, models_in, read_json, write_json
from ogkd.core.dicom import MIDDLE
from ogkd.core.network import trouble
from ogkd.core.places import command
from ogkd.core.schema import TEXTS, Rule, mismatch, number, one_of, read_record, whole
from ogkd.data.sampling import BALANCED, DRAWS
from ogkd.evaluation.clinical import SHAPE as OPERATING_POINT
from ogkd.evaluation.clinical import OperatingPoint
from ogkd.evaluation.sets import SHAPE as SET_RULE
from ogkd.evaluation.sets import SetRule
from ogkd.evaluation.unlike import SHAPE as UNLIKE_SHAPE
from ogkd.evaluation.unlike import reference
from ogkd.features.precision import FP32, PRECISIONS
from ogkd.models.sources import Repository, from_hub, revision_of
from ogkd.predict.operating import SetWish, Wish
from ogkd.predict.trained import TrainedPrompt, from_run
from ogkd.runs.config import defaults
from ogkd.runs.folder import RESULTS, versions
from ogkd.runs.ranges import MOST_SHOTS
from ogkd.runs.registry import method_class

TENSORS, CONFIG, CARD = FILES = ("prompt.safetensors", "config.json", "README.md")
MEANS = "unlike.means"  # the tensor of mean features of classes (ogkd/evaluation/unlike.py)
KIND, FORMAT = "trained prompt", 1
HUB = "hf-hub:"
IMAGE_KEYS = ("FRAME", "RESIZE", "SIZE", "INTERPOLATION", "TRANSFORMS", "PIXEL_MEAN", "PIXEL_STD", "NO_TRANSFORM")
_CLASSES = Rule(lambda names: TEXTS.allows(names) and len(set(names)) == len(names), "a list of names")
_SENTENCES = Rule(lambda bank: all(map(TEXTS.allows, bank.values())), "{class name: [sentences]}")
SHAPE = {
    "method": str,
    "options": dict,
    "classes": _CLASSES,
    "training_images": [Rule(lambda count: whole(count) and 0 <= count <= MOST_SHOTS, "a number of images")],
    "dataset": str,
    "backbone": {"name": str, "fingerprint": str},
    "images": dict.fromkeys(IMAGE_KEYS[2:], (str, bool, list)) | {"FRAME?": number(0), "RESIZE?": str},
    "temperature": (number(above=0), None),
    "validation_images": int,
    "operating_points?": [OPERATING_POINT],
    "prediction_sets?": [SET_RULE],
    "sentences": (_SENTENCES, None),
    "unlike?": (UNLIKE_SHAPE, None),
    "shots?": int,
    "draw?": one_of(*DRAWS),
    "precision?": one_of(*PRECISIONS),
    "seed?": int,
}
"""The shape of config.json, besides kind and format."""
PLACES = ("PROMPT_BANK", "GRAPH")  # options that may be a path on the machine where the prompt was trained


def load_prompt(source: str | Path) -> TrainedPrompt:
    """The trained prompt of a run's folder, an exported folder or "hf-hub:org/name".

    Raises:
        UserError: there is no prompt, or its files are corrupt or cannot be fetched.
    """
    if str(source).startswith(HUB):
        name = str(source).removeprefix(HUB)
        return read_prompt(from_hub(Repository(name, (CONFIG, TENSORS), ()), weights=False), source)
    folder = Path(source)
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}: give a run's folder, an exported folder or {HUB}org/name.")
    if (folder / CONFIG).is_file() and not (folder / RESULTS).is_file():
        return read_prompt(folder)
    return from_run(folder)


# The files


def write_prompt(prompt: TrainedPrompt, folder: Path, estimator: Mapping[str, object] | None = None) -> None:
    """Write prompt.safetensors and config.json; `estimator` holds the parameters of a PromptClassifier.

    Raises:
        UserError: what the method learned includes a feature of each training image.
    """
    refuse_training_images(prompt)
    method = method_class(prompt.method)
    options = prompt.config["TRAINER"][prompt.method.upper()]
    sentences = prompt.sentences
    if sentences is None and getattr(method, "needs_sentences", False):
        from ogkd.tuning.teacher import teacher_sentences

        chosen = prompt.configuration().TRAINER[prompt.method.upper()]
        texts = teacher_sentences(prompt.prompts_name, list(prompt.classnames), chosen, prompt.method)
        sentences = dict(zip(prompt.classnames, texts, strict=True))
    backbone = _nameable(prompt.backbone)
    precision = prompt.config.get("FEATURES", {}).get("PRECISION", FP32)
    config = {
        "kind": KIND,
        "format": FORMAT,
        "method": prompt.method,
        "options": options | {key: method.options[key].default for key in PLACES if _is_file(options.get(key, ""))},
        "classes": list(prompt.classnames),
        "training_images": [prompt.labels.count(label) for label in range(len(prompt.classnames))],
        "dataset": prompt.dataset,
        "backbone": {
            "name": backbone,
            "revision": revision_of(prompt.backbone),
            "fingerprint": prompt.fingerprint,
        },
        "images": {key: (defaults()["INPUT"] | prompt.config["INPUT"])[key] for key in IMAGE_KEYS},
        "temperature": prompt.temperature,
        "validation_images": prompt.validation_images,
        "operating_points": [point.as_json() for point in prompt.operating_points],
        "prediction_sets": [rule.as_json() for rule in prompt.set_rules],
        "unlike": prompt.reference and prompt.reference.numbers,
        "sentences": sentences,
        "shots": prompt.shots,
        **({} if prompt.draw == BALANCED else {"draw": prompt.draw}),
        **({} if precision == FP32 else {"precision": precision}),  # thresholds are of its probabilities
        "seed": prompt.seed,
        "versions": versions(),
    }
    if estimator is not None:
        config["estimator"] = dict(estimator)
    tensors = prompt.tensors()
    if prompt.reference is not None:
        tensors[MEANS] = torch.from_numpy(prompt.reference.means)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / TENSORS) as temporary:
        temporary.write_bytes(save(tensors, metadata={"format": "pt"}))
    write_json(config, folder / CONFIG)


def refuse_training_images(prompt: TrainedPrompt) -> None:
    """Raise UserError if what the method learned includes a feature of each training image."""
    options = prompt.config["TRAINER"][prompt.method.upper()]
    if method_class(prompt.method).saves_training_images(options):
        raise UserError(
            f"What {prompt.method} learns includes a feature of each training image, so it is not exported: use a "
            "method that learns a prompt or a probe."
        )


def _is_file(value: str) -> bool:
    return any(sign in value for sign in "/\\:")


def _nameable(backbone: str) -> str:
    """A backbone's name; for a folder only the last part, since the rest of the path is private."""
    return backbone if backbone.startswith(HUB) else Path(backbone).name


def read_prompt(folder: Path, origin: str | Path | None = None) -> TrainedPrompt:
    """The prompt in an exported folder.

    Raises:
        UserError: a file is missing, corrupt or not part of an exported prompt.
    """
    path = folder / CONFIG
    config = read_record(path, {"kind": one_of(KIND)}, f"give a folder that {command('export')} made")
    if config.get("format") != FORMAT:
        raise UserError(f"{path} has the format {config.get('format')}, this version reads {FORMAT}: update it.")
    wrong = mismatch(config, SHAPE)
    points, rules = ([] if wrong else config.get(key, []) for key in ("operating_points", "prediction_sets"))
    if not wrong and len(config["classes"]) != len(config["training_images"]):
        wrong = "classes and training_images differ in length"
    if not wrong and not {point["classname"] for point in points} <= {*config["classes"]}:
        wrong = "operating_points are of other classes"
    if not wrong and any(
        not (rule["classnames"] == config["classes"] and len(rule["thresholds"]) == len(config["classes"]))
        for rule in rules
    ):
        wrong = "prediction_sets are of other classes"
    if wrong:
        raise UserError(f"{path} is corrupt ({wrong}): fetch or export it again.")
    try:
        with safe_open(folder / TENSORS, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        means = tensors.pop(MEANS, None)
        learned: dict[str, dict] = {}
        for name, value in tensors.items():
            model, _, rest = name.partition(".")
            learned.setdefault(model, {})[rest] = value
        method = config["method"]
        images = {"FRAME": MIDDLE, "RESIZE": ""} | config["images"]  # older folders lack these keys
        return TrainedPrompt(
            config={
                "TRAINER": {"NAME": method, method.upper(): config["options"]},
                "INPUT": {key: images[key] for key in IMAGE_KEYS},
                "FEATURES": {"PRECISION": config.get("precision", FP32)},
                "DATASET": {
                    "NUM_SHOTS": config.get("shots", max(config["training_images"])),
                    "DRAW": config.get("draw", BALANCED),
                },
                "SEED": config.get("seed", -1),
                "MODEL": {"BACKBONE": {"NAME": config["backbone"]["name"]}},
            },
            classnames=tuple(config["classes"]),
            labels=tuple(label for label, count in enumerate(config["training_images"]) for _ in range(count)),
            learned=learned,
            fingerprint=config["backbone"]["fingerprint"],
            stored_temperature=config["temperature"],
            validation=None,
            validation_images=config["validation_images"],
            dataset=config["dataset"],
            prompts_name=config["dataset"],
            sentences=config["sentences"],
            stored_points=tuple(map(OperatingPoint.from_json, points)),
            stored_rules=tuple(map(SetRule.from_json, rules)),
            origin=Path(origin) if origin is not None and not str(origin).startswith(HUB) else folder,
            reference=reference(means.numpy(), config["unlike"])
            if config.get("unlike") and means is not None
            else None,
        )
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{folder / TENSORS} cannot be read ({first_line(error)}): fetch or export it again.") from None


# A whole folder, and the hub


def export(run: str | Path, folder: str | Path, wish: Wish | SetWish | None = None) -> dict[str, int]:
    """Write a finished run's prompt with its model card and, besides the usual ones, the operating point or sets of a
    wish.
    Returns the size of each file in bytes.

    Raises:
        UserError: the run has no prompt to export, or too few validation images for the wish.
    """
    from ogkd.predict.card import model_card  # loading a prompt does not need its statistics

    run, folder = Path(run), Path(folder)
    if run.resolve() == folder.resolve() or (folder / RESULTS).exists() or models_in(folder):
        raise UserError(f"{folder} is a run's folder: export to a different folder.")
    prompt = from_run(run)
    if isinstance(wish, SetWish):
        prompt = replace(prompt, stored_rules=(prompt.set_rule(*wish),))
    elif wish is not None:
        prompt = replace(prompt, stored_points=(prompt.operating_point(*wish),))
    write_prompt(prompt, folder)
    with atomic_path(folder / CARD) as temporary:
        temporary.write_text(model_card(prompt, run, read_json(folder / CONFIG)), encoding="utf-8")
    return {name: (folder / name).stat().st_size for name in FILES}


def export_onnx(run: str | Path, folder: str | Path) -> Path:
    """Write a finished run's prompt with the image tower as FOLDER/model.onnx, checked against PyTorch, and return its
    path.

    Raises:
        UserError: the run has no prompt that can be written so, see `write_onnx` and `export`.
    """
    from ogkd.predict.onnx_file import NAME, require_packages, write_onnx  # loads the model's code
    from ogkd.predict.predictor import Predictor

    require_packages()
    prompt = from_run(run)
    refuse_training_images(prompt)
    settings = prompt.config["FEATURES"] | {"PRECISION": FP32} if "FEATURES" in prompt.config else {}
    Path(folder).mkdir(parents=True, exist_ok=True)
    target = Path(folder) / NAME
    write_onnx(Predictor(replace(prompt, config=prompt.config | {"FEATURES": settings})), target)
    return target


def push(folder: Path, name: str, public: bool = False) -> str:
    """Upload an exported folder to the repository "org/name" on the hub, creating it (private unless `public`) if
    necessary. Returns the repository's address.

    Raises:
        UserError: the name is invalid, or the hub refuses the upload or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = api.create_repo(name, private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=name, folder_path=folder, allow_patterns=list(FILES), commit_message="A trained prompt"
        )
    except Exception as error:  # the hub's client passes on errors of its HTTP library, which depend on the version
        reason, mend = trouble(error, "check the name, the network and your token (`hf auth login`)")
        raise UserError(f"The hub did not accept {name} ({reason}): {mend}, and run the same command again.") from error
    return str(address)
