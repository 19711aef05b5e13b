"""Runs without predictions, and what a table's text holds."""

import csv
import io
import json

METHODS = ("ZeroShot", "CoOp", "OGKD")
TITLES = ("Zero-shot", "CoOp", "OGKD")
SUBSAMPLE = {"train_base": "base", "test_new": "new", "few_shot": "all"}


def write_run(folder, kind, dataset, method, seed, accuracy, shots=16, options=None, **changes):
    """A finished run with the fields that runs have always written, and `changes`; `options` are the method's."""
    config = {
        "SEED": seed, "OUTPUT_DIR": str(folder), "DATASET": {"NAME": dataset, "FOLDER": "", "NUM_SHOTS": shots},
        "OPTIM": {"GAMMA": 0.1}, "TRAINER": {"NAME": method, method.upper(): options or {}},
    }  # fmt: skip
    results = {
        "format": 1, "method": method, "dataset": dataset, "backbone": "BiomedCLIP", "subsample": SUBSAMPLE[kind],
        "shots": shots, "seed": seed, "accuracy": accuracy, "macro_f1": accuracy / 2,
        "expected_calibration_error": 100 - accuracy, "confusion_matrix": [[1, 0], [0, 1]], "num_test": 2,
        "seconds": 2.0, "fingerprints": {"dataset": f"3fa2c1{dataset}", "weights": "09be77", "checkpoint": None},
        "config": config, **changes,
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def write_predicted(folder, kind, dataset, method, seed, predictions, **changes):
    """A run with the accuracy of its predictions, and these; returns them."""
    write_run(folder, kind, dataset, method, seed, 100 * float(predictions.correct.mean()), **changes)
    predictions.save(folder / "predictions.npz")
    return predictions


def hm(base, novel):
    """The harmonic mean of numbers or arrays."""
    return 2 / (1 / base + 1 / novel)


def rows_of(text, table):
    return {row["method"]: row for row in csv.DictReader(io.StringIO(text)) if row["table"] == table}


def line_of(text, name):
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} ")]
    return [cell.strip() for cell in line.split("|")[2:-1]]
