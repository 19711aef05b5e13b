"""Testing a trained prompt on all labelled images of another folder, such as another hospital's.

The output folder looks like that of a run, so that tables and pages read it: predictions.npz, results.json and card.md.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save

from ogkd.core import UserError, atomic_path, did_you_mean, progress, write_json
from ogkd.core.hashes import FileMemory, file_hashes, text_hash
from ogkd.core.images import is_blank
from ogkd.core.words import counted, listed
from ogkd.data.groups import Groups, by_column
from ogkd.data.same_classes import places
from ogkd.evaluation.collect import read_results
from ogkd.evaluation.doubts import doubts
from ogkd.evaluation.limits import phantom_note
from ogkd.evaluation.metrics import expected_calibration_error, summary, with_temperature
from ogkd.evaluation.predictions import Predictions, numbered, units
from ogkd.evaluation.unlike import UNLIKE
from ogkd.predict.command import Named, answers
from ogkd.predict.evaluation_card import evaluation_card
from ogkd.predict.predictor import Answers, Predictor
from ogkd.predict.trained import TrainedPrompt
from ogkd.runs import fingerprints
from ogkd.runs.config import in_json
from ogkd.runs.folder import FINGERPRINTS, FORMAT, PREDICTIONS, RESULTS, versions
from ogkd.runs.protocols import Places
from ogkd.runs.registry import method_class
from ogkd.runs.spec import is_name, shots_word

CARD = "card.md"
RARE = 0.01  # a share of flagged images that is so improbable for images like the validation images is a warning


@dataclass(frozen=True)
class LabelledFolder:
    """Labelled images.

    name: the name in tables. classes: the images of each class, as paths relative to `path`.
    patients: image -> patient, where known. groups: image -> column -> value, such as sex or site.
    """

    path: Path
    name: str
    classes: Mapping[str, Sequence[str]]
    patients: Mapping[str, str] = field(default_factory=dict)
    groups: Groups = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found: `results` is the content of results.json."""

    prompt: TrainedPrompt
    predictions: Predictions
    results: dict[str, Any]


def default_output(prompt: TrainedPrompt, name: str) -> Path:
    """Where an evaluation on the folder called `name` is written, unless the user chooses."""
    end = f"seed{prompt.seed}" if prompt.seed >= 0 else prompt.origin.resolve().name
    source = prompt.dataset if is_name(prompt.dataset) else "prompt"  # a prompt from elsewhere may say anything
    level = Path(prompt.backbone.removeprefix("hf-hub:")).name
    shots = f"shots_{shots_word(prompt.shots)}"
    return Places().output.joinpath("evaluated", source, name, shots, prompt.method, level, end)


def matched(
    classes: Sequence[str], trained: Sequence[str], mapping: Mapping[str, str], where: object
) -> dict[str, str]:
    """The trained class of each class of a folder, "" for one that is left out.

    mapping: {class of the folder: trained class, or "" to leave it out}; other classes have the name of a trained one.
    where: the folder, for messages.

    Raises UserError for a class that is neither in the mapping nor trained, and for a name in the mapping that is none.
    """
    mine, theirs = places(list(mapping), classes), places(list(dict.fromkeys(mapping.values())), trained)
    for old, new in mapping.items():
        if old not in mine:
            near = did_you_mean(old, classes)
            raise UserError(f"--as names '{old}', but the classes in {where} are {', '.join(classes)}{near}.")
        if new and new not in theirs:
            raise UserError(
                f"--as \"{old}={new}\" names '{new}', but the prompt was trained on {', '.join(trained)}"
                f"{did_you_mean(new, trained)}."
            )
    given = {classes[place]: mapping[old] and trained[theirs[mapping[old]]] for old, place in mine.items()}
    alike = places(classes, trained)
    unknown = [name for name in classes if name not in given and name not in alike]
    if unknown:
        raise UserError(
            f"The prompt was not trained on {listed(map(repr, unknown))} of {where}, but on {', '.join(trained)}: say "
            f'which of these is meant, --as "{unknown[0]}={trained[0]}", or leave the class out, --as "{unknown[0]}=".'
        )
    return {name: given[name] if name in given else trained[alike[name]] for name in classes}


def evaluate(
    predictor: Predictor,
    folder: LabelledFolder,
    output: Path,
    mapping: Mapping[str, str] | None = None,
    batch: int = 0,
    replace: bool = False,
) -> Evaluation:
    """Classify all images of a folder, and write predictions.npz, results.json and card.md to `output`.

    Nothing is trained, and the prompt's own folder is not changed. `mapping` is that of `matched`; `batch` the images
    per pass. With `replace`, an evaluation of another prompt or of other images in `output` is replaced.

    Raises:
        UserError: the classes do not match, no image can be read, or `output` holds something else.
    """
    started, prompt = time.perf_counter(), predictor.prompt
    meant = matched(list(folder.classes), prompt.classnames, mapping or {}, folder.path)
    labelled = [
        (image, prompt.classnames.index(meant[name]))
        for name, images in folder.classes.items()
        if meant[name]
        for image in images
    ]
    if not labelled:
        raise UserError(f"All classes in {folder.path} are left out or empty: there is no image to test.")
    of_files = file_hashes([str(folder.path / image) for image, _ in labelled], FileMemory(None))
    hashes = dict(zip([image for image, _ in labelled], of_files.values(), strict=True))
    prints = _fingerprints(prompt, labelled, hashes)
    _check_output(output, prints, replace)
    images = [Named(folder.path / image, image, folder.path) for image, _ in labelled]
    rows, unread, several, blank = list[tuple[str, int, Answers]](), list[str](), 0, 0
    computed = progress(answers(predictor, images, batch), "evaluate", total=len(images), unit="image")
    for (image, label), (read, answer) in zip(labelled, computed, strict=True):
        if answer is None or read.picture is None:
            unread.append(read.problem)
            continue
        rows.append((image, label, answer))
        several, blank = several + (read.frames > 1), blank + is_blank(read.picture)
    if not rows:
        raise UserError(f"None of the {len(images)} images in {folder.path} could be read. {unread[0]}")
    names, labels, outputs = zip(*rows, strict=True)
    groups = numbered([folder.patients.get(image) for image in names])
    predictions = Predictions(
        names, np.array(labels), np.concatenate([answer.logits for answer in outputs]), prompt.classnames, groups,
        by_column(folder.groups, names),
    )  # fmt: skip
    warnings = [
        *_shared(prompt, folder.name, hashes),
        *_some(len(unread), len(images), "could not be read and", "left out"),
        *_some(blank, len(rows), "", "blank"),
        *(f"the class {name} of the folder is left out" for name, other in meant.items() if not other),
        *_absent(predictions),
    ]
    features = np.concatenate([answer.features for answer in outputs])
    results = _results(predictor, folder, meant, predictions, features, prints) | {
        "seconds": time.perf_counter() - started
    }
    results["warnings"] = [*warnings, *results["warnings"]]
    if several:
        results["notes"].append(
            f"{several} of the images have several frames or pages, of which only one is read: the middle one, unless "
            "the prompt was trained with INPUT.FRAME."
        )
    result = Evaluation(prompt, predictions, results)
    output.mkdir(parents=True, exist_ok=True)
    predictions.save(output / PREDICTIONS)
    with atomic_path(output / CARD) as temporary:
        temporary.write_text(evaluation_card(prompt, predictions, results), encoding="utf-8")
    write_json(results, output / RESULTS)
    return result


def _fingerprints(
    prompt: TrainedPrompt, labelled: Sequence[tuple[str, int]], hashes: Mapping[str, str]
) -> dict[str, str | None]:
    """What is tested and on what, in the terms of a run's results.json."""
    tensors = prompt.tensors()
    return {
        "weights": prompt.fingerprint,
        "checkpoint": hashlib.sha256(save(tensors)).hexdigest() if tensors else None,
        "dataset": text_hash([[image, label] for image, label in labelled] + [list(prompt.classnames)]),
        "test_images": text_hash(dict(hashes)),
    }


def _check_output(output: Path, prints: Mapping[str, str | None], replace: bool) -> None:
    """Raise UserError if the output folder is a run's, or holds another evaluation that is not to be replaced."""
    if not (output / RESULTS).is_file():
        if output.is_file():
            raise UserError(f"{output} is a file: give a folder with --output.")
        if output.is_dir() and any(output.iterdir()) and not (output / PREDICTIONS).is_file():
            raise UserError(f"{output} holds other files: give a new folder with --output.")
        return
    results = read_results(output / RESULTS)
    if not results.get("evaluated"):
        raise UserError(f"{output} is a run's folder, which an evaluation never changes: give another with --output.")
    if results["fingerprints"] != prints and not replace:
        raise UserError(
            f"{output} holds an evaluation of another prompt, or of other images or classes: give another folder with "
            "--output, or replace it with --rerun."
        )


def _shared(prompt: TrainedPrompt, name: str, hashes: Mapping[str, str]) -> list[str]:
    """A phrase about images that the prompt was trained or validated on; its run remembers their hashes, an exported
    prompt only the name of the data set."""
    learned = fingerprints.read(prompt.origin / FINGERPRINTS).get("images")
    if not isinstance(learned, dict):
        doubt = "the folder has the name of the data set that the prompt was trained on: training images may be tested"
        return [doubt] if name.casefold() == prompt.dataset.casefold() else []
    known = set(learned.values())
    number = sum(of in known for of in hashes.values())
    return _some(number, len(hashes), "", "byte-identical to images that the prompt was trained or validated on")


def _some(number: int, total: int, before: str, what: str) -> list[str]:
    are = " ".join(filter(None, [before, "is" if number == 1 else "are"]))
    return [f"{number} of the {counted(total, 'image')} {are} {what}"] if number else []


def _absent(predictions: Predictions) -> list[str]:
    there = set(predictions.labels.tolist())
    absent = [name for label, name in enumerate(predictions.classnames) if label not in there]
    return [f"no images of {listed(absent, last='or')}, which the prompt was trained on"] if absent else []


def _results(
    predictor: Predictor,
    folder: LabelledFolder,
    meant: Mapping[str, str],
    predictions: Predictions,
    features: np.ndarray,
    prints: Mapping[str, str | None],
) -> dict[str, Any]:
    """The content of results.json."""
    prompt, reference = predictor.prompt, predictor.prompt.reference
    measured, kind = summary(predictions), method_class(prompt.method)
    config = {
        **prompt.config,
        "DATASET": {"NAME": "ImageFolder", "ROOT": str(folder.path.parent), "FOLDER": folder.name},
    }
    exceeded = np.zeros(len(features)) if reference is None else reference.exceeded(features)
    flagged, unlike = int(exceeded.sum()), []
    _, unit, sizes = np.unique(units(predictions), return_inverse=True, return_counts=True)
    of_patients = int(np.round((exceeded / sizes[unit]).sum(), 9))  # whose images are alike
    if reference is not None and reference.chance(of_patients, len(sizes)) < RARE:
        unlike = _some(flagged, len(features), "", f"{UNLIKE}, where {reference.expected:.1%} are expected")
    note = phantom_note(prompt.backbone)
    changed = read_results(prompt.origin / RESULTS).get("changed") if (prompt.origin / RESULTS).is_file() else None
    return {
        "format": FORMAT,
        "method": prompt.method,
        "title": vars(kind).get("title") or prompt.method,
        "dataset": folder.name,
        "source": prompt.dataset,
        "backbone": prompt.backbone,
        "subsample": "all",
        "trained": False,
        "evaluated": True,
        "novel": False,
        "shots": prompt.shots,
        "draw": prompt.draw,
        "seed": prompt.seed,
        **({} if changed is None else {"changed": changed}),
        "classes": dict(meant),
        **measured,
        "calibrated": _calibrated(predictions, prompt.temperature),
        "unlike": reference and {"images": flagged, "reference": reference.numbers},
        "warnings": [*unlike, *doubts(measured["confusion_matrix"], predictions.classnames, None)],
        "notes": [note] if note else [],
        "versions": versions(),
        "fingerprints": dict(prints),
        "config": in_json(config),
    }


def _calibrated(predictions: Predictions, temperature: float | None) -> dict[str, float] | None:
    """The calibration error with the prompt's temperature; None without one."""
    if temperature is None:
        return None
    after = expected_calibration_error(with_temperature(predictions, temperature))
    return {"temperature": temperature, "expected_calibration_error": after}
