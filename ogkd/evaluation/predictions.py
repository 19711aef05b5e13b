"""The predictions of one test, from which all metrics, intervals and plots are computed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ogkd.core import Diverged, UserError, atomic_path

FIELDS = ("images", "labels", "logits", "classnames")


@dataclass(frozen=True, eq=False)
class Predictions:
    """Logits of N test images over C classes, in the order in which the images were tested.

    images: N paths relative to the data set, with "/" between folders; any text but NUL, names that are not UTF-8 as
        Python's surrogate escapes.
    labels: (N,) int64, indices into `classnames`.
    logits: (N, C) float32, finite.
    classnames: C different names.
    groups: (N,) int64, a number for the patient of each image, -1 where it is not known; None if no patient is known.
    subgroups: attributes of the images, such as sex or site, as {column: N values}.

    The arrays are copied and read-only. Raises UserError for anything else, and if there are no images.
    """

    images: tuple[str, ...]
    labels: np.ndarray
    logits: np.ndarray
    classnames: tuple[str, ...]
    groups: np.ndarray | None = None
    subgroups: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        images, classnames = _texts(self.images, "image paths"), _texts(self.classnames, "class names")
        labels, logits = _labels(self.labels), _logits(self.logits)
        if not images:
            raise UserError("Predictions need at least one image: the test set is empty.")
        if labels.shape != (len(images),) or logits.shape != (len(images), len(classnames)):
            raise UserError(
                f"Predictions do not fit together: {len(images)} images and {len(classnames)} classes, but labels of "
                f"shape {labels.shape} and logits of shape {logits.shape}."
            )
        if len(set(classnames)) < len(classnames):
            twice = next(name for i, name in enumerate(classnames) if name in classnames[:i])
            raise UserError(f"Predictions name the class {twice!r} twice: give every class a different name.")
        wrong = (labels < 0) | (labels >= len(classnames))
        if wrong.any():
            row = int(wrong.argmax())
            raise UserError(
                f"The label of {images[row]!r} is {labels[row]}, but {len(classnames)} classes are numbered from 0 to "
                f"{len(classnames) - 1}."
            )
        infinite = ~np.isfinite(logits).all(1)
        if infinite.any():
            first = images[int(infinite.argmax())]
            raise Diverged(
                f"The logits of {int(infinite.sum())} of {len(images)} images, {first!r} first, are not finite in "
                "single precision: the training diverged, lower OPTIM.LR.",
                term="logits",
            )
        labels.flags.writeable = logits.flags.writeable = False
        for name, value in zip(FIELDS, (images, labels, logits, classnames), strict=True):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "groups", _groups(self.groups, len(images)))
        subgroups = {column: _texts(values, "groups") for column, values in self.subgroups.items()}
        if any(len(values) != len(images) for values in subgroups.values()):
            raise UserError(f"The groups of predictions must have {len(images)} values, one per image.")
        object.__setattr__(self, "subgroups", subgroups)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def patients(self) -> int | None:
        """The number of patients, an image whose patient is not known counting as one; None if none is known."""
        return None if self.groups is None else len(np.unique(units(self)))

    def subset(self, rows: np.ndarray) -> Predictions:
        """The predictions of some images, by their numbers."""
        return Predictions(
            tuple(self.images[row] for row in rows),
            self.labels[rows],
            self.logits[rows],
            self.classnames,
            None if self.groups is None else self.groups[rows],
            {column: tuple(values[row] for row in rows) for column, values in self.subgroups.items()},
        )

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits in double precision, (N, C)."""
        result = np.exp(self._below_top())
        result /= result.sum(1, keepdims=True)
        result.flags.writeable = False
        return result

    @cached_property
    def log_probabilities(self) -> np.ndarray:
        """Log-softmax of the logits in double precision, (N, C); finite where the probability rounds to 0."""
        result = self._below_top()
        result -= np.log(np.exp(result).sum(1, keepdims=True))
        result.flags.writeable = False
        return result

    @cached_property
    def predicted(self) -> np.ndarray:
        """Class with the largest logit, the first in a tie, (N,) int64."""
        return self.logits.argmax(1)

    @cached_property
    def correct(self) -> np.ndarray:
        """Whether the predicted class is the label, (N,) bool."""
        return self.predicted == self.labels

    @cached_property
    def confidence(self) -> np.ndarray:
        """Probability of the predicted class, (N,) float64."""
        return self.probabilities.max(1)

    @cached_property
    def by_confidence(self) -> np.ndarray:
        """Image indices, most confident first, ties in their original order, (N,) int64."""
        return np.argsort(-self.confidence, kind="stable")

    def _below_top(self) -> np.ndarray:
        """Each logit minus the largest of its row, (N, C) float64."""
        logits = self.logits.astype(np.float64)
        return logits - logits.max(1, keepdims=True)

    def save(self, path: str | Path) -> None:
        """Write a compressed .npz without pickles, atomically. Equal predictions give identical bytes."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {
            "images": np.array(self.images, dtype=np.str_),
            "labels": self.labels.astype("<i8"),
            "logits": self.logits.astype("<f4"),
            "classnames": np.array(self.classnames, dtype=np.str_),
        }
        if self.groups is not None:
            arrays["groups"] = self.groups.astype("<i8")
        if self.subgroups:
            arrays["subgroup_columns"] = np.array(list(self.subgroups), dtype=np.str_)
            arrays["subgroups"] = np.array(list(self.subgroups.values()), dtype=np.str_)
        # Given a path, numpy would append ".npz" to the temporary name.
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Predictions:
        """Read what `save` wrote. Raises UserError if the file is missing, corrupt or contains something else."""
        path = Path(path)
        if not path.is_file():
            raise UserError(f"There is no file {path}: test the run again to make its predictions.")
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                images, labels, logits, classnames = (stored[name] for name in FIELDS)
                groups = stored.get("groups")
                columns, values = (
                    stored.get(name, np.array([], np.str_)) for name in ("subgroup_columns", "subgroups")
                )
            if (images.ndim, classnames.ndim, images.dtype.kind, classnames.dtype.kind) != (1, 1, "U", "U"):
                raise ValueError("image paths or class names are not lists of texts")
            subgroups = dict(zip(columns.tolist(), values.tolist(), strict=True))
            return cls(tuple(images.tolist()), labels, logits, tuple(classnames.tolist()), groups, subgroups)
        except UserError as error:
            raise UserError(f"{path} does not contain valid predictions: {error}") from None
        except PermissionError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from None
        # A corrupt archive makes zipfile, zlib, numpy and its header parser raise almost anything.
        except Exception as error:
            raise UserError(
                f"{path} is corrupt or not a file of predictions ({type(error).__name__}: {error}): test the run again."
            ) from None


def same_images(first: Predictions, second: Predictions) -> bool:
    """Whether two tests are on the same images, labels and classes in the same order."""
    names = (first.images, first.classnames) == (second.images, second.classnames)
    return names and np.array_equal(first.labels, second.labels)


def units(predictions: Predictions) -> np.ndarray:
    """A number for what is sampled independently, (N,) int64: the patient, or the image where that is not known."""
    rows = np.arange(len(predictions))
    groups = predictions.groups
    return rows if groups is None else np.where(groups < 0, groups.max() + 1 + rows, groups)


def numbered(names: Sequence[Hashable | None]) -> np.ndarray | None:
    """`groups` for names of patients, numbered in order of appearance, so that no name is stored; None and "" are not
    known. None if no patient is known."""
    codes: dict[Hashable, int] = {}
    groups = np.array([-1 if name in (None, "") else codes.setdefault(name, len(codes)) for name in names], np.int64)
    return groups if codes else None


def _groups(values: Any, number: int) -> np.ndarray | None:
    if values is None:
        return None
    groups = np.asarray(values)
    if groups.dtype.kind not in "iu" or groups.shape != (number,):
        raise UserError(f"The patients of predictions must be {number} whole numbers, one per image.")
    groups = np.maximum(groups.astype(np.int64), -1)
    groups.flags.writeable = False
    return groups


def _texts(values: Any, what: str) -> tuple[str, ...]:
    if isinstance(values, str) or not all(isinstance(value, str) and "\0" not in value for value in values):
        raise UserError(f"The {what} of predictions must be texts without NUL characters.")
    return tuple(str(value) for value in values)


def _labels(values: object) -> np.ndarray:
    labels = np.asarray(values)
    if labels.dtype.kind not in "iu":
        raise UserError(f"The labels of predictions must be whole numbers, not {labels.dtype}.")
    return labels.astype(np.int64)


def _logits(values: object) -> np.ndarray:
    logits = np.asarray(values)
    if logits.dtype.kind not in "fiu":
        raise UserError(f"The logits of predictions must be real numbers, not {logits.dtype}.")
    with np.errstate(over="ignore"):
        return logits.astype(np.float32)
