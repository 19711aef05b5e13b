"""A trained prompt: what a run learned, with everything needed to classify with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

from torch import Tensor
from yacs.config import CfgNode

from dassl.config import clean_cfg, get_cfg_default
from ogkd.core import UserError, find_checkpoint, models_in
from ogkd.core.torchtools import load_checkpoint
from ogkd.core.words import listed
from ogkd.data.given import GivenImages
from ogkd.data.sampling import BALANCED, BY_SHARE
from ogkd.evaluation import clinical, sets
from ogkd.evaluation.clinical import OperatingPoint
from ogkd.evaluation.collect import read_results
from ogkd.evaluation.conformal import needed
from ogkd.evaluation.metrics import TEMPERATURES, fit_temperature
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.sets import SetRule
from ogkd.evaluation.unlike import Reference
from ogkd.models import FrozenCLIP, available_models, model_named
from ogkd.models.configurations import OPENAI_SIZES
from ogkd.runs.config import check_values, extend_config, in_json, merge_plain, trained_on
from ogkd.runs.folder import PREDICTIONS, REFERENCE, RESULTS, VALIDATION
from ogkd.runs.learned_classes import learned_classes
from ogkd.runs.records import CONFIG, run_config, sampled_images
from ogkd.runs.registry import is_built_here
from ogkd.tuning.clip_trainer import ClipTrainer

T = TypeVar("T", OperatingPoint, SetRule)


@dataclass(frozen=True)
class TrainedPrompt:
    """What a method learned on some classes.

    config: configuration sections as plain values: the method's options and the image preparation.
    labels: the labels of the training images, as indices into `classnames`.
    learned: for each registered model, tensors by name; empty for a method that learns nothing.
    fingerprint: the fingerprint of the backbone's weights.
    stored_temperature, validation: a temperature fitted earlier, or the validation predictions to fit one to.
    validation_images: the number of validation images.
    stored_points, stored_rules, tested: operating points and rules of prediction sets chosen earlier, and the test
        predictions on which a new one is measured.
    prompts_name, sentences: the name of the teacher's sentences, or the sentences themselves, for a method that uses
        them to classify.
    origin: the folder that it was read from.
    reference: what images are compared with to find those unlike the training images; None if it is not known.
    """

    config: dict
    classnames: tuple[str, ...]
    labels: tuple[int, ...]
    learned: Mapping[str, dict[str, Tensor]] = field(repr=False)
    fingerprint: str
    stored_temperature: float | None
    validation: Predictions | Path | None = field(repr=False)
    validation_images: int
    dataset: str
    prompts_name: str
    sentences: Mapping[str, list[str]] | None
    origin: Path
    stored_points: tuple[OperatingPoint, ...] = ()
    stored_rules: tuple[SetRule, ...] = ()
    tested: Predictions | Path | None = field(default=None, repr=False)
    reference: Reference | None = None

    @cached_property
    def temperature(self) -> float | None:
        """Divide logits by it for calibrated probabilities. None without validation images, or if there are too few to
        fit it, in which case the best temperature is unbounded."""
        value = self.stored_temperature
        if value is None and (validation := _loaded(self.validation)) is not None:
            value = fit_temperature(validation)
        return value if value is not None and TEMPERATURES[0] < value < TEMPERATURES[1] else None

    @cached_property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        """The stored ones and, where validation predictions are at hand, those of clinical.LEVELS for each class."""
        return tuple({point.key: point for point in (*self.stored_points, *self._chosen(clinical.choose_all))}.values())

    @cached_property
    def set_rules(self) -> tuple[SetRule, ...]:
        """The stored ones and, where validation predictions are at hand, those for sets.COVERAGES."""
        return tuple({rule.key: rule for rule in (*self.stored_rules, *self._chosen(sets.choose_all))}.values())

    def _chosen(self, choose_all: Callable[[Predictions, Predictions | None], Sequence[T]]) -> Sequence[T]:
        """What is chosen on the validation predictions, with its results on the test images; () without any."""
        validation = _loaded(self.validation)
        return () if validation is None else choose_all(validation, self._tested_on(validation.classnames))

    def operating_point(self, classname: str, wanted: str, level: float) -> OperatingPoint:
        """The threshold for a wanted sensitivity or specificity for a class, chosen on the validation predictions, or
        stored.

        Raises:
            UserError: there is no such class, there are too few validation images, or it is not among those stored.
        """
        point = self._one((classname, wanted, level), clinical.choose, OperatingPoint.on, self.stored_points)
        if point is None:
            keys = [one.key for one in self.stored_points]
            known = [f"--{kind} {share:g} --for {name!r}" for name, kind, share in keys]
            raise UserError(
                f"{self.origin} has no threshold for a {wanted} of {level:g} for {classname!r}; "
                + (f"it has {listed(known, 8)}." if known else "it has none, as it had too few validation images.")
            )
        return point

    def set_rule(self, coverage: float, score: str, per_class: bool) -> SetRule:
        """The rule for sets of a coverage, chosen on the validation predictions, or stored.

        Raises:
            UserError: there are too few validation images, or it is not among those stored.
        """
        sets.check(coverage)
        key = (coverage, score, per_class)
        rule = self._one(key, sets.choose, lambda rule, tested: sets.measured([rule], [tested]), self.stored_rules)
        if rule is None:
            keys = sorted(one.key for one in self.stored_rules)
            known = [f"{share:g}" for share, *which in keys if which == [score, per_class]]
            raise UserError(
                f"{self.origin} has no thresholds for {score} sets{' per class' * per_class} with a coverage of "
                f"{coverage:g}{f', only with {listed(known, len(known))}' if known else ''}: export the run again with "
                f"--coverage {coverage:g}, which needs at least {needed(coverage)} validation images (of different "
                f"patients){' of each class' * per_class}."
            )
        return rule

    def _one(
        self, key: tuple, choose: Callable[..., T], on: Callable[[T, Predictions], Any], stored: Sequence[T]
    ) -> T | None:
        """What is chosen for a key on the validation predictions, with what it achieves `on` the test images; without
        validation predictions the stored one, if there is any."""
        validation = _loaded(self.validation)
        if validation is None:
            return next((one for one in stored if one.key == key), None)
        chosen, tested = choose(validation, *key), self._tested_on(validation.classnames)
        return chosen if tested is None else replace(chosen, test=on(chosen, tested))

    def _tested_on(self, classnames: tuple[str, ...]) -> Predictions | None:
        """The test predictions, if they are of these classes; a test of a transfer has those of its target."""
        tested = _loaded(self.tested)
        return tested if tested is not None and tested.classnames == classnames else None

    @property
    def method(self) -> str:
        return self.config["TRAINER"]["NAME"]

    @property
    def backbone(self) -> str:
        return self.config["MODEL"]["BACKBONE"]["NAME"]

    @property
    def shots(self) -> int:
        """Training images per class that were wanted, -1 for all."""
        return self.config["DATASET"]["NUM_SHOTS"]

    @property
    def draw(self) -> str:
        """How the training images were drawn."""
        return self.config["DATASET"].get("DRAW", BALANCED)

    @property
    def training_images(self) -> str:
        """How many training images there were, in words."""
        if self.shots < 0:
            return "all images"
        return f"{self.shots} per class" + ("" if self.draw == BALANCED else f" on average, {BY_SHARE}")

    @property
    def seed(self) -> int:
        """The seed of the training; below 0 if there was none or it is not known."""
        return self.config["SEED"]

    def tensors(self) -> dict[str, Tensor]:
        """What was learned, by model and name: "prompt_learner.ctx"."""
        learned = ((model, *named) for model, state in self.learned.items() for named in state.items())
        return {f"{model}.{name}": value.contiguous() for model, name, value in learned}

    def configuration(self, backbone: str = "") -> CfgNode:
        """The configuration of a trainer that classifies with this prompt.

        Raises UserError if this version of the method lacks an option, or if the trainer is not built on ClipTrainer.
        """
        if not is_built_here(self.method):
            raise UserError(
                f"{self.origin} was trained by {self.method}, which is not built on this project's ClipTrainer: test "
                f"it with train.py --eval-only --model-dir {self.origin}."
            )
        cfg = get_cfg_default()
        extend_config(cfg)
        merge_plain(cfg, self.config, str(self.origin))
        cfg.TRAINER.NAME = self.method
        check_values(cfg)
        clean_cfg(cfg, self.method)
        cfg.OUTPUT_DIR = cfg.RESUME = ""
        cfg.VERBOSE = False
        # A relative folder in which it was trained, "a/b", is not taken for a repository on the hub.
        stored = self.backbone if "/" in self.backbone else model_named(self.backbone)
        cfg.MODEL.BACKBONE.NAME = model_named(backbone) if backbone else stored
        cfg.DATALOADER.NUM_WORKERS = 0
        cfg.freeze()
        return cfg

    def check_backbone(self, name: str) -> None:
        """Raise UserError if a model to classify with is a folder or file that does not exist."""
        known = name in (*available_models(), *OPENAI_SIZES) or name.startswith("hf-hub:")
        if not known and not Path(name).exists():
            raise UserError(
                f"The prompt in {self.origin} was trained with the model folder {self.backbone}, but {name} does not "
                "exist: give its location with --backbone FOLDER."
            )

    def check_weights(self, model: FrozenCLIP) -> None:
        """Raise UserError if a model's weights are not those that the prompt was trained with."""
        if model.fingerprint != self.fingerprint:
            raise UserError(
                f"The prompt in {self.origin} was trained with weights of {self.backbone} with the fingerprint "
                f"{self.fingerprint[:12]}, but those of {model.name} here have {model.fingerprint[:12]}: give the "
                "model that it was trained with by --backbone NAME_OR_FOLDER."
            )


def from_run(folder: str | Path) -> TrainedPrompt:
    """What the finished run in a folder learned.

    Raises:
        UserError: the folder has no finished run, or one that only tested what another run had learned.
    """
    folder = Path(folder)
    if not (folder / RESULTS).is_file():
        begun = (folder / CONFIG).is_file()
        raise UserError(
            f"The run in {folder} is not finished: repeat its command to resume it."
            if begun
            else f"{folder} is neither a run's folder (it has no {RESULTS}) nor an exported prompt: give one of them."
        )
    results = read_results(folder / RESULTS)
    if not results.get("trained", True) and not models_in(folder):
        raise UserError(
            f"{folder} only tested what another run had learned: give the folder of that run"
            f"{'; predict.py takes novel classes with --classes' if results.get('subsample') == 'new' else ''}."
        )
    config, split = run_config(folder), sampled_images(folder)
    name = trained_on(config)
    return TrainedPrompt(
        config=config,
        classnames=learned_classes(folder),
        labels=tuple(label for _, label, _ in split["train"]),
        learned={model.name: load_checkpoint(str(find_checkpoint(model)))["state_dict"] for model in models_in(folder)},
        fingerprint=results["fingerprints"].get("weights") or "",
        stored_temperature=None,
        validation=folder / VALIDATION if (folder / VALIDATION).is_file() else None,
        validation_images=(results.get("calibration") or {}).get("images", len(split["val"])),
        dataset=Path(name).name,
        prompts_name=Path(name).name,
        sentences=None,
        origin=folder,
        tested=folder / PREDICTIONS if (folder / PREDICTIONS).is_file() and results.get("split") != "val" else None,
        reference=Reference.load(folder / REFERENCE),
    )


def from_trainer(
    trainer: ClipTrainer, validation: Predictions | None, reference: Reference | None, origin: Path
) -> TrainedPrompt:
    """What a trainer on a data set that was passed in has learned so far."""
    dataset = cast(GivenImages, trainer.dm.dataset)
    return TrainedPrompt(
        config=in_json(trainer.cfg),
        classnames=tuple(dataset.classnames),
        labels=tuple(item.label for item in dataset.train_x),
        learned={name: _copied(model.state_dict()) for name, model in trainer._models.items()},
        fingerprint=trainer.clip_model.fingerprint,
        stored_temperature=None,
        validation=validation,
        validation_images=0 if validation is None else len(validation),
        dataset=dataset.prompts_name,
        prompts_name=dataset.prompts_name,
        sentences=dataset.sentences if trainer.method.needs_sentences else None,
        origin=origin,
        reference=reference,
    )


def _loaded(predictions: Predictions | Path | None) -> Predictions | None:
    return Predictions.load(predictions) if isinstance(predictions, Path) else predictions


def _copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in state.items()}
