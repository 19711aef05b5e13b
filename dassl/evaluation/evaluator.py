from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import confusion_matrix, f1_score
from torch import Tensor
from yacs.config import CfgNode

from dassl.utils import atomic_path

from .build import EVALUATOR_REGISTRY

CALIBRATION_BINS = 15


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """Mean |accuracy - confidence| over equal bins of confidence in (0, 1], weighted by their share of the images.

    Naeini et al., AAAI 2015; as a fraction, not in percent.
    """
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    error = 0.0
    for index in range(bins):
        inside = place == index
        if inside.any():
            error += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return float(error)


class EvaluatorBase:
    """Collects a model's outputs and says how good they are."""

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg

    def reset(self) -> None:
        raise NotImplementedError

    def process(self, mo: Tensor, gt: Tensor) -> None:
        raise NotImplementedError

    def evaluate(self) -> OrderedDict:
        raise NotImplementedError


@EVALUATOR_REGISTRY.register()
class Classification(EvaluatorBase):
    """Accuracy, macro-F1, calibration; after evaluate() `report` holds these and the results class by class."""

    def __init__(self, cfg: CfgNode, lab2cname: dict[int, str] | None = None, **_: object) -> None:
        super().__init__(cfg)
        self._lab2cname = lab2cname
        self.report: dict = {}
        self.reset()

    def reset(self) -> None:
        self._predicted: list[np.ndarray] = []
        self._confidence: list[np.ndarray] = []
        self._true: list[np.ndarray] = []

    def process(self, mo: Tensor, gt: Tensor) -> None:
        """Take logits (B, C) and labels (B,)."""
        confidence, predicted = mo.float().softmax(1).max(1)
        self._predicted.append(predicted.cpu().numpy())
        self._confidence.append(confidence.cpu().numpy())
        self._true.append(gt.cpu().numpy())

    def evaluate(self) -> OrderedDict:
        """Print the results and return accuracy, error_rate, macro_f1, expected_calibration_error in percent."""
        true, predicted = np.concatenate(self._true), np.concatenate(self._predicted)
        confidence = np.concatenate(self._confidence).astype(np.float64)
        correct = predicted == true
        labels = sorted(self._lab2cname) if self._lab2cname else sorted(set(true) | set(predicted))
        matrix = confusion_matrix(true, predicted, labels=labels)
        accuracy = 100.0 * float(correct.mean())
        results = OrderedDict(
            accuracy=accuracy,
            error_rate=100.0 - accuracy,
            macro_f1=100.0 * float(f1_score(true, predicted, average="macro", labels=np.unique(true))),
            expected_calibration_error=100.0 * expected_calibration_error(confidence, correct),
        )
        totals = matrix.sum(1)
        per_class = [100.0 * float(matrix[i, i] / totals[i]) if totals[i] else None for i in range(len(labels))]
        self.report = {
            **results,
            "per_class_accuracy": per_class,
            "confusion_matrix": matrix.tolist(),
            "num_test": len(true),
        }
        print(
            "=> result\n"
            f"* total: {len(true):,}\n"
            f"* correct: {int(correct.sum()):,}\n"
            f"* accuracy: {accuracy:.1f}%\n"
            f"* error: {100 - accuracy:.1f}%\n"
            f"* macro_f1: {results['macro_f1']:.1f}%\n"
            f"* expected calibration error: {results['expected_calibration_error']:.1f}%"
        )
        if self.cfg.TEST.PER_CLASS_RESULT:
            self._print_per_class(labels, matrix, per_class, results)
        if self.cfg.TEST.COMPUTE_CMAT:
            path = Path(self.cfg.OUTPUT_DIR) / "cmat.pt"
            with atomic_path(path) as temporary:
                torch.save(torch.from_numpy(matrix / np.maximum(totals, 1)[:, None]), temporary)
            print(f"Confusion matrix is saved to {path}")
        return results

    def _print_per_class(self, labels: list, matrix: np.ndarray, per_class: list, results: OrderedDict) -> None:
        print("=> per-class result")
        for i, label in enumerate(labels):
            name = self._lab2cname[label] if self._lab2cname else label
            value = "-" if per_class[i] is None else f"{per_class[i]:.1f}%"
            print(f"* class: {label} ({name})\ttotal: {matrix[i].sum():,}\tcorrect: {matrix[i, i]:,}\tacc: {value}")
        present = [value for value in per_class if value is not None]
        results["perclass_accuracy"] = float(np.mean(present))
        print(f"* average: {results['perclass_accuracy']:.1f}%")
