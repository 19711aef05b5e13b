"""The model card of an exported prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ogkd.core.escape import markdown
from ogkd.evaluation import subgroups
from ogkd.evaluation.clinical import (
    KINDS,
    LEVELS,
    Achieved,
    Estimate,
    OperatingPoint,
    basis,
    by_class,
    calibrated_on,
)
from ogkd.evaluation.collect import read_results
from ogkd.evaluation.conformal import needed
from ogkd.evaluation.metrics import METRICS, expected_calibration_error, with_temperature
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.sets import COVERAGES, LAC
from ogkd.evaluation.statistics import Interval, bootstrap
from ogkd.evaluation.tested import sample
from ogkd.predict.trained import TrainedPrompt
from ogkd.runs.folder import PREDICTIONS, RESULTS
from ogkd.runs.records import sampled_images

MEASURED = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc", "expected_calibration_error", "nll")


def model_card(prompt: TrainedPrompt, run: Path, config: dict) -> str:
    """README.md for what a run learned; `config` is the exported config.json. It contains no image names or paths."""
    results, split = read_results(run / RESULTS), sampled_images(run)
    predictions = Predictions.load(run / PREDICTIONS)
    title, backbone, dataset = map(
        markdown, (results.get("title", prompt.method), config["backbone"]["name"], prompt.dataset)
    )
    images = {
        "training": list(prompt.labels),
        "validation": [label for _, label, _ in split["val"]],
        "test": predictions.labels.tolist(),
    }
    calibrated = calibrated_on(prompt.validation_images, len(split["val"]))
    revision = f", revision `{config['backbone']['revision']}`" if config["backbone"]["revision"] else ""
    tested = sample(results | {"num_test": len(predictions), "num_patients": predictions.patients})
    over = "patients" if predictions.patients else "images"
    calibration = "No temperature could be fitted to the validation images."
    if prompt.temperature is not None:
        after = expected_calibration_error(with_temperature(predictions, prompt.temperature))
        calibration = (
            f"The temperature {prompt.temperature:.3f}, fitted to {calibrated}, makes the calibration "
            f"error {after:.2f} % (`--calibrated`)."
        )
    names = ", ".join(map(markdown, prompt.classnames))
    classes = [[name, *cells] for name, cells in class_rows(predictions).items()]
    notes = "".join(f"\n**{markdown(note)}**\n" for note in results.get("notes", ()))
    return f"""---
tags: [prompt-tuning, vision-language, medical-imaging, few-shot]
---
# {title} on {dataset}

A prompt that {title} learned for the frozen vision-language model {backbone}. It distinguishes
{len(prompt.classnames)} classes: {names}. The files contain what was learned and how to use it.
They contain nothing of single images; at most the mean feature of each class's validation images, by which images of
another kind are recognised.
{notes}
**Research software, not a medical device.** Nobody reviewed it for clinical use: do not base a diagnosis or a treatment
on its answers.

## Data

{dataset}, training images: {prompt.training_images}, seed {results["seed"]}.

{
        table(
            ["class", *images],
            [[name, *(of.count(label) for of in images.values())] for label, name in enumerate(predictions.classnames)],
        )
    }

## Results

On {tested} of the same data set, with 95 % intervals over {over}:

{table(["metric", "value", "95 % interval"], measured(predictions))}

Always answering with the most common class would be right in {
        _majority(predictions):.2f} % of them. The intervals say what
other test images of the same origin would have given; they do not include variation between trainings. {calibration}

### Class by class

Each class against all others, where the answer is the most likely class, with 95 % intervals. AUC is the area under the
ROC curve of the class's probability, in percent.

{table(["class", "test images", "sensitivity (%)", "specificity (%)", "AUC (%)"], classes)}

{by_group(predictions)}### Thresholds

{_thresholds(prompt, calibrated)}

### Prediction sets

{_sets(prompt, calibrated)}

## Use

```bash
python predict.py FOLDER image.png --calibrated
```

or `PromptClassifier.load(FOLDER).predict([...])` in Python. The weights of {backbone}{revision} are needed; their
fingerprint is checked when the prompt is loaded.

## Intended use and limits

- Intended for research on few-shot prompt tuning, and for reproducing or comparing these results.
- It was trained and tested on one data set. Images of other scanners, hospitals, protocols or patient groups may be
  classified much worse, and with the same confidence.
- It always answers with one of its classes, even for an image that shows none of them. `--abstain` says "uncertain"
  if no class is likely enough, but this is no guarantee either.
- With so few training images the result depends on which images were sampled.
- Heat maps show which patches agree with a class's text; they are not a segmentation of the finding.
"""


def table(header: list[str], rows: list[list]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(markdown(str(cell)) for cell in row) + " |" for row in lines)


def measured(predictions: Predictions) -> list[list[str]]:
    rows = []
    for name in MEASURED:
        interval = bootstrap(name, predictions)
        if interval is not None:
            title = f"{METRICS[name].title} (%)" if METRICS[name].unit else METRICS[name].title
            rows.append([title, f"{interval.value:.2f}", f"{interval.low:.2f} to {interval.high:.2f}"])
    return rows


def by_group(predictions: Predictions) -> str:
    """The results in each group of the images, with the largest gaps, in Markdown; "" if no groups are known."""
    parts = []
    for of in subgroups.group_sets([predictions]):
        names = subgroups.MEASURED
        titles = [METRICS[name].title + (" (%)" if METRICS[name].unit else "") for name in names]
        rows = [
            [
                group.name,
                basis(group.images, group.patients),
                *(_bounds(group.values.get(name)) for name in names),
            ]
            for group in of.groups
        ]
        remarks = "\n".join(f"- {markdown(remark)}" for remark in of.remarks())
        parts.append(f"### By {markdown(of.column)}\n\n{table([of.column, 'images', *titles], rows)}\n\n{remarks}\n\n")
    return "".join(parts)


def _bounds(of: Interval | None) -> str:
    return f"{of.value:.2f} [{of.low:.2f}, {of.high:.2f}]" if of else "–"


def class_rows(predictions: Predictions) -> dict[str, list[str]]:
    """What each class is measured on, its sensitivity, specificity and AUC against all others, by name."""
    return {
        of.name: [basis(of.images, of.patients), *map(ends, (of.sensitivity, of.specificity, of.auc))]
        for of in by_class([predictions])
    }


def threshold_table(achieved: Sequence[tuple[OperatingPoint, Achieved | None]], where: str) -> str:
    """Thresholds with what they achieve on some images. where: begins and ends the headers of the results."""
    header = ["class", "wanted", "positive from", *(where.format(kind) for kind in KINDS)]
    rows = [
        [point.classname, f"{point.wanted} {100 * point.level:g} %", f"{point.threshold:.4g}",
         *(ends(getattr(of, kind) if of else None) for kind in KINDS)]
        for point, of in achieved
    ]  # fmt: skip
    return table(header, rows)


def _thresholds(prompt: TrainedPrompt, calibrated: str) -> str:
    points = prompt.operating_points
    if not points:
        return (
            f"None for a sensitivity or specificity of {100 * LEVELS[0]:g} %: it needs at least "
            f"{needed(LEVELS[0])} validation images (of different patients) of a class. The validation images for it "
            f"were {calibrated}."
        )
    return f"""An image is positive for a class from this probability on. Thresholds were chosen on {calibrated},
never on test images. For a class or level that is missing there were too few validation images.

{threshold_table([(point, point.test) for point in points], "test {} (%)")}

```bash
python predict.py FOLDER image.png --{points[0].wanted} {points[0].level:g} --for CLASS --prevalence 0.05
```

answers positive or negative, with the predictive values where 5 % have it (PPV, NPV)."""


def _sets(prompt: TrainedPrompt, calibrated: str) -> str:
    rules = prompt.set_rules
    if not rules:
        return (
            f"None for a coverage of {100 * COVERAGES[0]:g} %: it needs at least {needed(COVERAGES[0])} validation "
            f"images (of different patients). The validation images were {calibrated}."
        )
    header = ["coverage wanted", "score", "for", "test coverage (%)", "classes per set", "lowest of a class (%)"]
    rows = [
        [f"{100 * rule.coverage:g} %", rule.score, "each class" if rule.per_class else "all images",
         *([ends(rule.test.coverage), f"{rule.test.size:.2f}", ends(rule.test.smallest[1])] if rule.test else "–––")]
        for rule in rules if rule.score == LAC or rule in prompt.stored_rules
    ]  # fmt: skip
    return f"""A set contains the true class of a new patient's image as often as wanted, if the image is like those of
validation. The thresholds are from {calibrated}. For a coverage that is missing there were
too few. `--sets` APS and RAPS have thresholds, too.

{table(header, rows)}

```bash
python predict.py FOLDER image.png --coverage {rules[0].coverage:g} --sets {rules[0].score}
```

answers with the set of classes."""


def ends(of: Estimate | Interval | None) -> str:
    return f"{of.value:.1f} [{of.low:.1f}, {of.high:.1f}]" if of else "–"


def _majority(predictions: Predictions) -> float:
    return 100 * np.bincount(predictions.labels).max() / len(predictions)
