"""The card of an evaluation: which prompt was tested on what, with which result, and what it does not say."""

from __future__ import annotations

from typing import Any

import numpy as np

from ogkd.core.escape import markdown
from ogkd.core.words import counted, sentence
from ogkd.data.same_classes import spelling
from ogkd.evaluation import sets
from ogkd.evaluation.clinical import LEVELS, basis
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.unlike import UNLIKE
from ogkd.predict.card import by_group, class_rows, measured, table, threshold_table
from ogkd.predict.trained import TrainedPrompt


def evaluation_card(prompt: TrainedPrompt, predictions: Predictions, results: dict[str, Any]) -> str:
    """card.md: it names classes and the folder, but no image, patient or path."""
    title, backbone, source, name = map(
        markdown, (results["title"], _last(prompt.backbone), results["source"], results["dataset"])
    )
    renamed = [
        f"“{markdown(old)}” counts as {markdown(new)}." if new else f"“{markdown(old)}” is left out."
        for old, new in results["classes"].items()
        if spelling(old) != spelling(new)
    ]
    seed = f", seed {results['seed']}" if results["seed"] >= 0 else ""
    remarks = [markdown(sentence(phrase)) for phrase in [*results["notes"], *results["warnings"]]]
    return f"""# {title}, trained on {source}, evaluated on {name}

**Research software, not a medical device.** Do not base a diagnosis or a treatment on its answers.

## What was evaluated

{
        _bullets(
            f"Prompt: {title} for the frozen vision-language model {backbone}, trained on {source} "
            f"({prompt.training_images}, "
            f"{counted(len(prompt.labels), 'image')} in all{seed}). Nothing was trained or chosen for this evaluation.",
            f"Images: {tested_on(predictions)}, all that could be read in {name}, by their own labels.",
            *renamed,
        )
    }

## Results

{measurements(prompt, predictions, results)}

## Thresholds

{thresholds(prompt, predictions)}

## What to know about it

{
        _bullets(
            *remarks,
            "Images of other scanners, hospitals, protocols or patient groups may be classified much worse, and with "
            "the same confidence.",
            "The labels are taken as true. If the two places label differently, the differences count as errors.",
            f"The check for images that are {UNLIKE} recognises other kinds of images, but not poor quality or another "
            "scanner. An image that it does not mark can still show none of the classes.",
        )
    }
"""


def measurements(prompt: TrainedPrompt, predictions: Predictions, results: dict[str, Any]) -> str:
    """Metrics, classes and groups with their intervals, calibration, prediction sets and unlike images, in Markdown."""
    return f"""{table(["metric", "value", "95 % interval"], measured(predictions))}

{class_table(prompt, predictions)}

{by_group(predictions)}
Each class is tested against all others, where the answer is the most likely class, with 95 % intervals.
{intervals_over(predictions)} {calibration(results)}{set_coverage(prompt, predictions)}

{flagged(prompt, results)}"""


def _bullets(*lines: str) -> str:
    return "\n".join(f"- {line}" for line in lines)


def tested_on(predictions: Predictions) -> str:
    """On what was measured: "48 images of 12 patients"."""
    unknown = " (patients unknown)" if predictions.patients is None else ""
    return basis(len(predictions), predictions.patients) + unknown


def intervals_over(predictions: Predictions) -> str:
    """What the intervals are over."""
    if predictions.patients is None:
        return (
            "Intervals are over images, as the patients are unknown: with several images per patient they are too "
            "narrow."
        )
    return "Intervals are over patients: they say what other patients of the same origin would have given."


def calibration(results: dict[str, Any]) -> str:
    """What the prompt's temperature does to the calibration error."""
    after = results["calibrated"]
    if after is None:
        return "The prompt has no temperature, so its probabilities are not calibrated."
    return (
        f"With the prompt's temperature ({after['temperature']:.3f}, fitted to its own validation images) the "
        f"calibration error is {after['expected_calibration_error']:.2f} % instead of "
        f"{results['expected_calibration_error']:.2f} %."
    )


def set_coverage(prompt: TrainedPrompt, predictions: Predictions) -> str:
    """How often sets of 90 % contain the true class; "" for a prompt without their thresholds."""
    rule = next((rule for rule in prompt.set_rules if rule.key == (LEVELS[0], sets.LAC, False)), None)
    if rule is None:
        return ""
    of = sets.measured([rule], [predictions])
    return (
        f" Sets of classes (`--coverage {rule.coverage:g}`) contain the true class in {of.coverage} of these images, "
        f"with {of.size:.2f} classes per set; of images like the prompt's validation images it is at least "
        f"{100 * rule.coverage:g} %."
    )


def flagged(prompt: TrainedPrompt, results: dict[str, Any]) -> str:
    """How many images are unlike the training images."""
    if prompt.reference is None:
        return (
            f"How many images are {UNLIKE} is not known: the prompt has no mean features, which need two validation "
            "images per class, or was exported by an earlier version."
        )
    number, total = results["unlike"]["images"], results["num_test"]
    are = "is" if number == 1 else "are"
    return (
        f"{number} of the {counted(total, 'image')} ({number / total:.1%}) {are} {UNLIKE} by the image features. "
        f"{prompt.reference}"
    )


def class_table(prompt: TrainedPrompt, predictions: Predictions) -> str:
    """Each class with images here against all others, with intervals."""
    header = ["class", "training images", "images here", "sensitivity (%)", "specificity (%)", "AUC (%)"]
    here = np.bincount(predictions.labels, minlength=len(predictions.classnames))
    rows = [
        [name, prompt.labels.count(label), *cells]
        for label, (name, cells) in enumerate(class_rows(predictions).items())
        if here[label]
    ]
    return table(header, rows)


def thresholds(prompt: TrainedPrompt, predictions: Predictions) -> str:
    """What the prompt's thresholds, which were chosen on its own validation images, achieve here."""
    there = {predictions.classnames[label] for label in predictions.labels.tolist()}
    points = [point for point in prompt.operating_points if point.classname in there]
    if not points:
        return "The prompt has none for these classes, as it had too few validation images."
    achieved = threshold_table([(point, point.on(predictions)) for point in points], "{} here (%)")
    return f"They were chosen on the prompt's own validation images, and are only tested here.\n\n{achieved}"


def _last(backbone: str) -> str:
    """A model's name, or the last part of a folder's path."""
    return backbone.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
