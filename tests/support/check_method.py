"""The contract of a method: what every trainer built on ClipTrainer promises, as checks of short runs.

    from tests.support.check_method import check_method
    check_method("SmoothCoOp")

raises AssertionError at the first promise that a registered method breaks.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch

from ogkd.core import UserError
from ogkd.data.sampling import MISSING
from ogkd.data.splits import read_split, write_split
from ogkd.evaluation.predictions import Predictions
from ogkd.phantom.dataset import write_dataset
from ogkd.predict.export import export, load_prompt
from ogkd.predict.predictor import Predictor
from ogkd.predict.trained import from_run
from ogkd.runs.config import method_config
from ogkd.runs.execute import execute
from ogkd.runs.registry import method_class
from ogkd.runs.spec import RunSpec
from ogkd.tuning.backbone import load_backbone
from tests.support.methods import offered
from tests.support.runs import killed_at, learned, same

TEST_IMAGES = 4  # per class


class SmallRuns:
    """Short few-shot runs of one method on a small Phantom data set; those of the same name are done once."""

    def __init__(self, method: str, folder: Path, data: Path | None = None, cache: Path | None = None) -> None:
        self.method, self.folder = method, Path(folder)
        self.data, self.cache = data or self.folder / "data", cache or self.folder / "cache"
        if not (self.data / "Phantom").is_dir():
            write_dataset(self.data / "Phantom", counts={"train": 5, "val": 4, "test": TEST_IMAGES})

    def spec(self, name: str, *pairs: str, method: str = "", **fields: object) -> RunSpec:
        method = method or self.method
        short = ("FEATURES.CACHE_DIR", str(self.cache), "DATALOADER.NUM_WORKERS", "0", "OPTIM.MAX_EPOCH", "2",
                 "DATALOADER.TRAIN_X.BATCH_SIZE", "12")  # fmt: skip
        return RunSpec(
            **{
                "method": method,
                "folder": str(self.folder / name),
                "dataset": "phantom",
                "shots": 2,
                "seed": 1,
                "backbone": "PhantomCLIP",
                "data": str(self.data),
                "method_file": method_config(method, "few_shot", "phantom"),
                "pairs": (*short, *pairs),
                **fields,
            }
        )

    def run(self, name: str, *pairs: str, **fields: object) -> dict:
        return execute(self.spec(name, *pairs, **fields))

    @cached_property
    def first(self) -> dict:
        """The results of the run "first", which most checks compare with."""
        return self.run("first")

    def learned(self, name: str) -> dict[str, torch.Tensor]:
        return learned(self.folder / name)

    def predictions(self, name: str) -> Predictions:
        return Predictions.load(self.folder / name / "predictions.npz")

    @property
    def learns(self) -> bool:
        """Whether a run leaves a checkpoint."""
        return bool(self.first) and bool(self.learned("first"))

    @property
    def trains_in_epochs(self) -> bool:
        """Whether a run prints the lines of a training loop, and so can be killed in the middle of an epoch."""
        return bool(self.first) and "epoch [2/2]" in (self.folder / "first" / "log.txt").read_text()


def a_run_ends_with_a_finite_result(runs: SmallRuns) -> None:
    results, predictions = runs.first, runs.predictions("first")
    assert results["method"] == runs.method
    assert 0 <= results["accuracy"] <= 100
    assert sum(map(sum, results["confusion_matrix"])) == results["num_test"] == 12 * TEST_IMAGES
    assert all(math.isfinite(phase["seconds"]) for phase in results["phases"].values())
    assert all(torch.isfinite(value).all() for value in runs.learned("first").values() if value.is_floating_point())
    assert len(predictions.labels) == results["num_test"]
    assert all((runs.data / "Phantom" / "Phantom" / image).is_file() for image in predictions.images)


def another_seed_gives_other_parameters(runs: SmallRuns) -> None:
    if runs.learns:
        runs.run("other", seed=2)
        assert not same(runs.learned("first"), runs.learned("other"))


def a_killed_run_resumes_to_the_same_parameters(runs: SmallRuns) -> None:
    if not runs.trains_in_epochs or not hasattr(os, "fork"):
        return
    spec = runs.spec("killed", "TRAIN.PRINT_FREQ", "1")
    killed_at(spec, "epoch [2/2] batch [1/")
    assert not (runs.folder / "killed" / "results.json").exists()
    execute(spec)
    assert "Resuming after epoch 1" in (runs.folder / "killed" / "log.txt").read_text()
    assert same(runs.learned("first"), runs.learned("killed"))


def the_parameters_tested_again_give_the_same_predictions(runs: SmallRuns) -> None:
    first = runs.first
    again = runs.run("again", eval_only=True, model_dir=str(runs.folder / "first"))
    assert again["confusion_matrix"] == first["confusion_matrix"]
    assert (runs.predictions("first").logits == runs.predictions("again").logits).all()


def a_checkpoint_of_another_method_is_refused_by_name(runs: SmallRuns) -> None:
    if not runs.learns:
        return
    other = "CoOp" if runs.method != "CoOp" else "KgCoOp"
    runs.run("foreign", "OPTIM.MAX_EPOCH", "1", method=other)
    try:
        runs.run("refused", eval_only=True, model_dir=str(runs.folder / "foreign"))
    except UserError as error:
        assert other in str(error) or "no checkpoint" in str(error)
    else:
        raise AssertionError(f"{runs.method} took a checkpoint of {other}")


def prompts_train_with_every_class_position_and_class_specific_contexts(runs: SmallRuns) -> None:
    options = method_class(runs.method).options
    if not {"CLASS_TOKEN_POSITION", "CSC"} <= options.keys():
        return
    node = f"TRAINER.{runs.method.upper()}"
    for position, csc in (("front", "False"), ("middle", "True")):
        pairs = (f"{node}.CLASS_TOKEN_POSITION", position, f"{node}.CSC", csc, "OPTIM.MAX_EPOCH", "1")
        assert runs.run(position, *pairs)["novel"] == (csc == "False")


def the_same_seed_gives_the_same_bits_also_to_a_subclass_with_a_name_and_options_of_its_own(runs: SmallRuns) -> None:
    method = method_class(runs.method)
    renamed = type(f"Renamed{runs.method}", (method,), {})
    with offered(renamed):
        options = runs.run("renamed", method=renamed.__name__)["config"]["TRAINER"]
    assert options.keys() == {"NAME", renamed.__name__.upper()}
    _ = runs.first
    assert same(runs.learned("first"), runs.learned("renamed"))
    assert (runs.predictions("first").logits == runs.predictions("renamed").logits).all()


def what_is_exported_is_what_was_learned_and_gives_the_logits_of_the_test(runs: SmallRuns) -> None:
    """In a program that has not trained: the frozen model is loaded again, and only what was saved is there."""
    novel, tested = runs.first["novel"], runs.predictions("first")
    load_backbone.cache_clear()
    try:
        export(runs.folder / "first", runs.folder / "exported")
    except UserError as error:
        assert "includes a feature of each training image" in str(error)
        prompt = from_run(runs.folder / "first")
    else:
        prompt = load_prompt(runs.folder / "exported")
        stored = {f"{part}.{name}" for part, state in prompt.learned.items() for name in state}
        assert stored == runs.learned("first").keys()
    predicted = Predictor(prompt).logits([runs.data / "Phantom" / "Phantom" / image for image in tested.images])
    worst = abs(predicted - tested.logits).max()
    assert worst <= 1e-3, f"predict.py's logits differ from the test's by up to {worst:.3g}: see Method.encode"
    try:
        other = Predictor(prompt, classes=["one thing", "another thing"])
    except UserError as error:
        assert ("no sentences for the class" if novel else "applies only to its classes") in str(error)
    else:
        assert novel and other.classnames == ("one thing", "another thing")


def a_class_without_training_images_leaves_finite_numbers_or_is_refused_by_name(runs: SmallRuns) -> None:
    """With 8 classes of 5 images and 4 of one, a draw of 12 images in proportion has none of the four."""
    rare = runs.folder / "rare" / "Phantom"
    rare.mkdir(parents=True)
    (rare / "Phantom").symlink_to(runs.data / "Phantom" / "Phantom")
    split = read_split(runs.data / "Phantom" / "split_Phantom.json")
    first = {label: next(item for item in split["train"] if item.label == label) for label in range(12)}
    split["train"] = [item for item in split["train"] if item.label < 8 or item is first[item.label]]
    write_split(split, rare / "split_Phantom.json")
    more: dict = {"data": str(rare.parent), "shots": 1}
    pairs = ("DATASET.DRAW", MISSING)
    try:
        results = runs.run("rare run", *pairs, **more)
    except UserError as error:
        assert first[8].classname in str(error) and "DATASET.DRAW" in str(error)
        assert not (runs.folder / "rare run" / "predictions.npz").exists()
        return
    assert (results["draw"], len(results["classnames"])) == (MISSING, 12)
    assert any(first[8].classname in note for note in results["notes"])
    assert all(torch.isfinite(value).all() for value in runs.learned("rare run").values() if value.is_floating_point())
    tested = runs.predictions("rare run")
    assert tested.logits.shape == (12 * TEST_IMAGES, 12)
    prompt = from_run(runs.folder / "rare run")
    assert prompt.classnames == tested.classnames and not set(prompt.labels) & set(range(8, 12))
    predicted = Predictor(prompt).logits([rare / "Phantom" / image for image in tested.images])
    assert abs(predicted - tested.logits).max() <= 1e-3


CHECKS: tuple[Callable[[SmallRuns], None], ...] = (
    a_run_ends_with_a_finite_result,
    another_seed_gives_other_parameters,
    a_killed_run_resumes_to_the_same_parameters,
    the_parameters_tested_again_give_the_same_predictions,
    what_is_exported_is_what_was_learned_and_gives_the_logits_of_the_test,
    a_checkpoint_of_another_method_is_refused_by_name,
    a_class_without_training_images_leaves_finite_numbers_or_is_refused_by_name,
    prompts_train_with_every_class_position_and_class_specific_contexts,
    the_same_seed_gives_the_same_bits_also_to_a_subclass_with_a_name_and_options_of_its_own,
)


def check_method(name: str) -> None:
    """Run every check on the registered method `name`. Raises AssertionError where it breaks a promise."""
    with tempfile.TemporaryDirectory() as folder:
        runs = SmallRuns(name, Path(folder))
        for check in CHECKS:
            check(runs)
