"""The images that runs were tested on: how many of how many patients, in words, and where they are."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from ogkd.core import UserError, expanded
from ogkd.core.places import work_folder
from ogkd.core.words import counted, listed
from ogkd.data.splits import is_below
from ogkd.evaluation.collect import Run

PATIENTS_UNKNOWN = "split by image, patients unknown"


def sample(results: Mapping) -> str:
    """The test images of a run with their patients: "120 images of 24 patients".

    Of own images without patients it says so. Public data sets come with the split of their papers, so nothing is said
    of their patients. "" for a run of a version that did not record the number of images.
    """
    images, patients = results.get("num_test"), results.get("num_patients")
    if type(images) is not int:
        return ""
    text = counted(images, "validation image" if on_validation(results) else "image")
    if type(patients) is int:
        return f"{text} of {counted(patients, 'patient')}"
    return f"{text} ({PATIENTS_UNKNOWN})" if own_images(results) else text


def on_validation(results: Mapping) -> bool:
    """Whether a run was tested on its validation images (TEST.SPLIT val), so that it says nothing of test images."""
    test = results["config"].get("TEST")
    return (results.get("split") or (isinstance(test, dict) and test.get("SPLIT"))) == "val"


def own_images(results: Mapping) -> bool:
    """Whether a run's images are a folder of the user's own."""
    config = results["config"].get("DATASET")
    return isinstance(config, dict) and bool(config.get("FOLDER"))


def tested_on(columns: Mapping[str, Sequence[Run]]) -> str:
    """A sentence on the test images of a table's columns; "" if none recorded them."""
    samples: dict[str, list[str]] = {}
    for column, runs in columns.items():
        for text in filter(None, (sample(run.results) for run in runs)):
            samples.setdefault(text, []).append(column)
    if not samples:
        return ""
    if len(samples) == 1:
        return f"Tested on {next(iter(samples))}."
    of_columns = (f"{text} in {listed(dict.fromkeys(of), len(of))}" for text, of in samples.items())
    return f"Tested on {'; '.join(of_columns)}."


def sampled(runs: Sequence[Run]) -> str:
    """What intervals are over: "test images", "test patients", or in some runs these and in others those."""
    by_patient = {type(run.results.get("num_patients")) is int for run in runs}
    if by_patient == {True}:
        return "test patients"
    return "test images, or patients where they are known" if True in by_patient else "test images"


def image_folder(run: Run) -> Path | None:
    """The image folder of a run's data set; None if it is not on this machine."""
    config = run.results["config"].get("DATASET")
    if not isinstance(config, dict):
        return None
    root, folder, name = (config.get(key) or "" for key in ("ROOT", "FOLDER", "NAME"))
    if not all(isinstance(value, str) and "\0" not in value for value in (root, folder, name)):
        return None
    below = Path(folder) if folder else Path(name) / name
    if not (folder or name) or not is_below(below.as_posix()):
        return None
    for place in (root, work_folder() / root):
        with contextlib.suppress(UserError):  # the path may belong to a user on another machine
            if (path := Path(expanded(place)) / below).is_dir():
                return path
    return None
