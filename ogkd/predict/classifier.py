"""PromptClassifier: a prompt-tuning method as a scikit-learn estimator."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from numbers import Integral
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from dassl.data.datasets import Datum
from ogkd.core import UserError, read_json
from ogkd.core.rgb import to_rgb
from ogkd.core.seeds import seeded
from ogkd.core.torchtools import set_random_seed
from ogkd.core.words import listed
from ogkd.data.given import GivenImages
from ogkd.data.names import name_faults
from ogkd.data.sampling import BALANCED, VAL_SHOTS, draw_shots
from ogkd.data.splits import Item
from ogkd.evaluation.methods import named
from ogkd.evaluation.protocol import PLACES
from ogkd.predict.export import CONFIG, load_prompt, write_prompt
from ogkd.predict.predictor import Predictor, probabilities
from ogkd.predict.trained import TrainedPrompt, from_trainer
from ogkd.prompts.bank import of_classes
from ogkd.runs.config import build_config, method_config
from ogkd.runs.execute import threads_for, validated_by
from ogkd.runs.registry import is_built_here, method_class, trainer_class
from ogkd.runs.spec import PUBLISHED, RunSpec

OneImage = str | os.PathLike | Image.Image
Images = Sequence[OneImage] | OneImage
DATASET = "own images"
_ONE_FIT = threading.RLock()  # training draws from the process's random state


class PromptClassifier(ClassifierMixin, BaseEstimator):
    """Learns a prompt (an adapter, a probe) from a few labelled images and classifies others with it.

        classifier = PromptClassifier(method="OGKD", backbone="BiomedCLIP", shots=16, gamma=0.4)
        classifier.fit(images, labels).predict(others)

    Images are paths or PIL images; labels are class names, which become part of the prompt. `fit` runs the same trainer
    as train.py, so the same images, seed and options give the same prompt, bit for bit.

    Parameters:
        method: one of those that `python train.py --help` lists.
        backbone: a name, a folder or "hf-hub:org/name".
        shots: training images per class, drawn with the seed as train.py draws them; None: all. Up to four of the
            remaining images per class become validation images, to which `temperature_` is fitted.
        seed: for drawing and for training.
        prompts: the teacher's sentences {class: [sentences]}, equally many per class; None: generic ones.
        class_names: class names of labels that are no words: {label: name}, or names in alphabetical order for the
            labels 0, 1, ..., as scikit-learn numbers the classes for cross_val_predict(method="predict_proba"),
            VotingClassifier and StackingClassifier.
        options: the method's options in upper or lower case (gamma=0.4), configuration keys
            (**{"OPTIM.MAX_EPOCH": 20}), and settings="fast" for a few crops of each training image, encoded once, and
            bf16 where the device has it.

    Attributes:
        classes_: the labels (class names, unless class_names was given), sorted; the columns of predict_proba.
        prompt_: the TrainedPrompt.
        temperature_: divide logits by it for calibrated probabilities; None if it could not be fitted.

    Whatever the caller can fix raises UserError with one sentence.
    """

    def __init__(
        self,
        method: str = "OGKD",
        backbone: str = "BiomedCLIP",
        shots: int | None = 16,
        seed: int = 1,
        prompts: Mapping[str, list[str]] | None = None,
        class_names: Mapping[Any, str] | Sequence[str] | None = None,
        **options: object,
    ) -> None:
        self.method = method
        self.backbone = backbone
        self.shots = shots
        self.seed = seed
        self.prompts = prompts
        self.class_names = class_names
        self.options = options

    # scikit-learn's contract

    def get_params(self, deep: bool = True) -> dict[str, object]:
        return super().get_params(deep) | self.options

    def set_params(self, **params: object) -> PromptClassifier:
        known = self._get_param_names()
        for name, value in params.items():
            if name in known:
                setattr(self, name, value)
            else:
                self.options = self.options | {name: value}
        return self

    def __sklearn_tags__(self) -> object:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "prompt_")

    def __getstate__(self) -> dict:
        return {name: value for name, value in super().__getstate__().items() if name != "_ready"}

    # Learning

    def fit(self, images: Images, labels: Sequence) -> PromptClassifier:
        images = image_list(images)
        labels, names = self._named(labels, len(images))
        if len(set(names)) < 2:
            raise UserError(f"There is one class, {names[0]}: a classifier needs two or more.")
        order = dict(sorted(zip(labels, names, strict=True), key=itemgetter(0)))
        if self.prompts is not None:
            of_classes(self.prompts, order.values(), "prompts")
        with _ONE_FIT, tempfile.TemporaryDirectory(prefix="prompt-classifier-") as folder:
            cfg = build_config(self._spec(folder))
            if not is_built_here(self.method):
                raise UserError(f"{self.method} is not built on ClipTrainer: use train.py for it.")
            dataset = self._dataset(images, names, list(order.values()), Path(folder))
            quiet, threads = contextlib.redirect_stdout(io.StringIO()), threads_for(cfg.MODEL.BACKBONE.NAME)
            with quiet, threads, seeded(0):  # the caller's random state is left unchanged
                if self.seed >= 0:
                    set_random_seed(self.seed)
                trainer = trainer_class(self.method)(cfg, dataset)
                trainer.train()
                validation, reference = validated_by(trainer)
        self.classes_ = np.array(list(order))
        self._keep(from_trainer(trainer, validation, reference, Path(f"this {type(self).__name__}")))
        return self

    def _named(self, labels: Sequence, number: int) -> tuple[list, list[str]]:
        """The labels of the images and their class names."""
        column = np.asarray(labels, dtype=object)
        if column.shape != (number,) or not number:
            raise UserError(f"There are {number} images and labels of shape {column.shape}: give each image one label.")
        labels = [label.item() if isinstance(label, np.generic) else label for label in column]
        given = self.class_names or {}
        if not isinstance(given, Mapping):
            if list(given) != sorted(given):
                raise UserError(
                    "class_names is not in alphabetical order, in which scikit-learn numbers classes: sort it, or give "
                    "the name of each label, class_names={0: ..., 1: ...}."
                )
            given = dict(enumerate(given))
        names = [given.get(label, label) for label in labels]
        wrong = [name for name in names if not isinstance(name, str) or not name.strip()]
        if wrong:
            raise UserError(
                f"The label {wrong[0]!r} is not a class name: give words, since they become part of the prompt, or "
                "class_names={0: ..., 1: ...}; where scikit-learn numbers the classes before it fits "
                "(cross_val_predict with method='predict_proba', VotingClassifier), give "
                "class_names=sorted(set(labels))."
            )
        for fault in name_faults(dict.fromkeys(names)):
            raise UserError(f"The labels cannot be used: {fault}.")
        if len(set(map(type, labels))) > 1:
            raise UserError("The labels are of several types: give words only, or numbers only with class_names.")
        other = next((label for label in labels if given and label not in given and label not in given.values()), None)
        if other is not None:
            raise UserError(
                f"The label {other!r} is not in class_names, which has {listed(map(repr, given))}: add it there."
            )
        if len(set(zip(labels, names, strict=True))) > len(set(names)):
            raise UserError("Several labels have one class name: give each label a name of its own in class_names.")
        return labels, names

    def _spec(self, folder: str) -> RunSpec:
        method, options = named(self.method), {name.upper(): value for name, value in self.options.items()}
        settings, node = options.pop("SETTINGS", PUBLISHED), f"TRAINER.{method.upper()}."
        options = {name if "." in name else node + name: value for name, value in options.items()}
        has_teacher = is_built_here(method) and "PROMPTS" in method_class(method).options
        distils = options.get(f"{node}DISTIL", "none") != "none"
        for section in [node] * has_teacher + ["TRAINER.OGKD."] * distils:
            if not {f"{section}PROMPTS", f"{section}PROMPT_BANK"} & options.keys():
                options[f"{section}PROMPTS"] = "templates"
        shots = -1 if self.shots is None else self.shots
        if self.shots is not None and not (isinstance(shots, Integral) and shots >= 1):
            raise UserError(f"shots is {shots!r}: give the images per class, 1 or more, or None for all.")
        defaults = {
            "DATASET.NAME": "ImageFolder",
            "DATASET.NUM_SHOTS": shots,
            "FEATURES.CACHE_DIR": "",
            "VERBOSE": False,
        }
        return RunSpec(
            method=method,
            folder=folder,
            seed=self.seed,
            backbone=self.backbone,
            method_file=method_config(method, "few_shot", ""),
            settings=str(settings),
            pairs=tuple(str(word) for pair in (defaults | options).items() for word in pair),
        )

    def _dataset(self, images: list, names: list[str], classes: list[str], folder: Path) -> GivenImages:
        """The training images drawn with the seed, and validation images from the rest; `classes` in their order."""
        places = {name: label for label, name in enumerate(classes)}
        items = [Item(str(row), places[name], name) for row, name in enumerate(names)]
        train, val = items, []
        if self.shots is not None:
            draw = str({name.upper(): value for name, value in self.options.items()}.get("DATASET.DRAW", BALANCED))
            train = _shots_of(items, self.shots, self.seed, draw)
            used = {item.path for item in train}
            left = [item for item in items if item.path not in used]
            val = _shots_of(left, min(self.shots, VAL_SHOTS), self.seed, draw)

        def datum(item: Item) -> Datum:
            path = _path_of(images[int(item.path)], folder / f"{item.path}.png")
            return Datum(impath=path, label=item.label, classname=item.classname)

        learned, held_out = [datum(item) for item in train], [datum(item) for item in val]
        sentences = None if self.prompts is None else dict(self.prompts)
        # A trainer tests after training; the result is not used here, so any images will do.
        return GivenImages(learned, held_out or None, held_out or learned, DATASET, sentences, classes)

    # Classifying

    def predict_proba(self, images: Images) -> np.ndarray:
        """Probabilities (N, C) of the classes in the order of `classes_`, not calibrated."""
        return probabilities(self.predict_logits(images))

    def predict_logits(self, images: Images) -> np.ndarray:
        """Logits (N, C) as the trainer's own test computes them."""
        check_is_fitted(self)
        images = image_list(images)
        if not images:
            return np.empty((0, len(self.classes_)), dtype=np.float32)
        return self._predictor().logits(images)

    def predict(self, images: Images) -> np.ndarray:
        """The most likely class of each image, (N,)."""
        chosen = self.predict_logits(images).argmax(1)
        return self.classes_[chosen]

    def embed(self, images: Images) -> np.ndarray:
        """The frozen backbone's normalised features (N, D) of images, as `ogkd.embed` gives them."""
        check_is_fitted(self)
        return self._predictor().features(image_list(images))

    def _predictor(self) -> Predictor:
        if not hasattr(self, "_ready"):
            with contextlib.redirect_stdout(io.StringIO()):
                self._ready = Predictor(self.prompt_, backbone=self.backbone)
        return self._ready

    # Keeping

    def save(self, folder: str | Path) -> None:
        """Write what was learned in the format of scripts/export_prompt.py, without images or their names."""
        check_is_fitted(self)
        params = {name: value for name, value in self.get_params().items() if name.upper() not in PLACES}
        if self.class_names is not None:  # as pairs, since JSON has no numbers as keys
            params["class_names"] = list(zip(self.classes_.tolist(), self.prompt_.classnames, strict=True))
        write_prompt(self.prompt_, Path(folder), params)

    @classmethod
    def load(cls, folder: str | Path, backbone: str = "") -> PromptClassifier:
        """A classifier from what `save` or scripts/export_prompt.py wrote, a run's folder, or "hf-hub:org/name".

        `backbone`: the location of the weights, if it is not the recorded one.
        """
        prompt = load_prompt(folder)
        stored = read_json(prompt.origin / CONFIG) if (prompt.origin / CONFIG).is_file() else {}
        params = stored.get("estimator") or {"method": prompt.method, "backbone": prompt.backbone, "shots": None}
        names = dict(params.get("class_names") or zip(prompt.classnames, prompt.classnames, strict=True))
        params |= {"class_names": names} if params.get("class_names") else {}
        classifier = cls(**params | ({"backbone": backbone} if backbone else {}))
        classifier.classes_ = np.array(list(names))
        classifier._keep(prompt)
        classifier._predictor()
        return classifier

    def _keep(self, prompt: TrainedPrompt) -> None:
        self.prompt_, self.temperature_ = prompt, prompt.temperature
        self.__dict__.pop("_ready", None)


def image_list(images: Images) -> list[str | Image.Image]:
    """The images as a list; one image is a list of its own, as is the column of a table with one column."""
    if getattr(images, "ndim", 1) == 2 and np.shape(cast(np.ndarray, images))[1] == 1:
        images = cast(Sequence, np.asarray(images, dtype=object)[:, 0])
    images = [images] if isinstance(images, OneImage) else list(images)
    wrong = [image for image in images if not isinstance(image, OneImage)]
    if wrong:
        raise UserError(
            f"An image is a path or a PIL image, not {type(wrong[0]).__name__}: convert an array of 8-bit values by "
            "PIL.Image.fromarray."
        )
    return [image if isinstance(image, Image.Image) else os.fspath(image) for image in images]


def _shots_of(items: list[Item], shots: int, seed: int, draw: str) -> list[Item]:
    return draw_shots({"train": items, "val": [], "test": []}, shots, seed, draw)["train"]


def _path_of(image: str | Image.Image, place: Path) -> str:
    """The file of an image; an image in memory is written to `place` losslessly."""
    if isinstance(image, Image.Image):
        if not place.exists():
            to_rgb(image).save(place)
        return str(place)
    return image
