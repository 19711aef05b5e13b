from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from yacs.config import CfgNode

from ogkd.core import atomic_path

from .build import EVALUATOR_REGISTRY


class EvaluatorBase:
    """Collects a model's outputs and computes metrics from them."""

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
    """Accuracy, error rate and macro-F1. The logits and labels since the last reset are kept as `logits` (N, C), in
    fp32, and `labels` (N,), so that other metrics can be computed from them."""

    def __init__(self, cfg: CfgNode, lab2cname: dict[int, str] | None = None, **_: object) -> None:
        super().__init__(cfg)
        self._lab2cname = lab2cname
        self.reset()

    def reset(self) -> None:
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []

    def process(self, mo: Tensor, gt: Tensor) -> None:
        """Take logits (B, C) and labels (B,)."""
        self._logits.append(mo.detach().float().cpu())
        self._labels.append(gt.detach().cpu())

    @property
    def has_results(self) -> bool:
        return bool(self._logits)

    @property
    def logits(self) -> Tensor:
        return torch.cat(self._logits)

    @property
    def labels(self) -> Tensor:
        return torch.cat(self._labels)

    def evaluate(self) -> OrderedDict:
        """Print the results and return accuracy, error_rate and macro_f1 in percent."""
        true, predicted = self.labels.numpy(), self.logits.argmax(1).numpy()
        correct = int((predicted == true).sum())
        accuracy = 100.0 * correct / len(true)
        macro_f1 = 100.0 * float(np.mean([_f1(true == label, predicted == label) for label in np.unique(true)]))
        results = OrderedDict(accuracy=accuracy, error_rate=100.0 - accuracy, macro_f1=macro_f1)
        print(
            "=> result\n"
            f"* total: {len(true):,}\n"
            f"* correct: {correct:,}\n"
            f"* accuracy: {accuracy:.1f}%\n"
            f"* error: {100 - accuracy:.1f}%\n"
            f"* macro_f1: {macro_f1:.1f}%"
        )
        if self.cfg.TEST.PER_CLASS_RESULT:
            results["perclass_accuracy"] = self._print_per_class(true, predicted)
        if self.cfg.TEST.COMPUTE_CMAT:
            from sklearn.metrics import confusion_matrix  # takes half a second to import

            labels = sorted({*(self._lab2cname or ()), *true.tolist(), *predicted.tolist()})
            self._save_matrix(confusion_matrix(true, predicted, labels=labels))
        return results

    def _print_per_class(self, true: np.ndarray, predicted: np.ndarray) -> float:
        """Print one line per class and return the mean over the classes that have images. A prediction outside the
        named classes, which a head with more outputs can make, counts as wrong."""
        print("=> per-class result")
        present, names = [], self._lab2cname or {}
        for label in sorted({*names, *true.tolist()}):
            name, of_class = names.get(label, label), true == label
            total, correct = int(of_class.sum()), int((of_class & (predicted == label)).sum())
            present += [100.0 * correct / total] if total else []
            value = f"{100.0 * correct / total:.1f}%" if total else "-"
            print(f"* class: {label} ({name})\ttotal: {total:,}\tcorrect: {correct:,}\tacc: {value}")
        mean = float(np.mean(present))
        print(f"* average: {mean:.1f}%")
        return mean

    def _save_matrix(self, matrix: np.ndarray) -> None:
        path = Path(self.cfg.OUTPUT_DIR) / "cmat.pt"
        with atomic_path(path) as temporary:
            torch.save(torch.from_numpy(matrix / np.maximum(matrix.sum(1), 1)[:, None]), temporary)
        print(f"Confusion matrix is saved to {path}")


def _f1(true: np.ndarray, predicted: np.ndarray) -> float:
    return 2 * (true & predicted).sum() / (true.sum() + predicted.sum())
