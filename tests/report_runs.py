"""Finished runs with predictions, as the report reads them, made of chosen logits."""

import json
from pathlib import Path

import numpy as np

from ogkd.evaluation.metrics import summary
from ogkd.evaluation.predictions import Predictions

SUBSAMPLE = {"train_base": "base", "test_new": "new", "few_shot": "all"}
LINE = (
    "epoch [{epoch}/{last}] batch [5/5] time 0.011 (0.045) data 0.000 (0.032) loss 0.5 ({loss:.4f}) "
    "acc 50.0 ({acc:.4f}) sccm 0.0004 (0.0004) lr 1e-03 eta 0:00:12"
)


def write_run(folder: Path, kind, method, seed, predictions=None, shots=16, dataset="Phantom", root="", **changes):
    """A finished run in a folder; without predictions an older one. `changes` are fields of results.json."""
    config = {
        "SEED": seed, "OUTPUT_DIR": str(folder), "TRAINER": {"NAME": method, method.upper(): {}},
        "DATASET": {"NAME": dataset, "FOLDER": "", "NUM_SHOTS": shots, "ROOT": str(root)},
    }  # fmt: skip
    results = {
        "format": 2, "method": method, "dataset": dataset, "backbone": "PhantomCLIP", "subsample": SUBSAMPLE[kind],
        "shots": shots, "seed": seed, "changed": {}, "accuracy": 50.0, "seconds": 2.0,
        "versions": {"python": "3.11.7"}, "config": config,
        "fingerprints": {"dataset": "3fa2c1", "weights": "09be77", "checkpoint": None},
        **(summary(predictions) if predictions else {}), **changes,
    }  # fmt: skip
    folder.mkdir(parents=True)
    if predictions:
        predictions.save(folder / "predictions.npz")
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def random_predictions(images, labels, classnames, skill, seed) -> Predictions:
    """Predictions that are correct more often the larger `skill` is."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(labels), len(classnames)))
    logits[np.arange(len(labels)), labels] += skill
    return Predictions(tuple(images), np.array(labels), logits, tuple(classnames))


def write_log(folder: Path, losses) -> None:
    """A log of a training whose epochs had these losses."""
    lines = [
        LINE.format(epoch=i, last=len(losses), loss=loss, acc=100 / (1 + loss)) for i, loss in enumerate(losses, 1)
    ]
    (folder / "log.txt").write_text("Loading trainer\n" + "\n".join(lines) + "\n* accuracy: 50.0%\n")


def write_output(output: Path, root: Path, seeds=(1, 2), methods=("ZeroShot", "CoOp", "OGKD")) -> dict:
    """Runs of both protocols on a small Phantom data set below `root`; returns their predictions by kind, shots, method
    and seed."""
    split = json.loads((root / "Phantom" / "split_Phantom.json").read_text())
    names = [name for _, name in sorted({(label, name) for _, label, name in split["train"]})]
    written = {}
    for kind, shots in (("train_base", 16), ("test_new", 16), ("few_shot", 1), ("few_shot", 4)):
        half = len(names) // 2
        classes = {"train_base": names[:half], "test_new": names[half:], "few_shot": names}[kind]
        images, labels = zip(
            *((image, classes.index(name)) for image, _, name in split["test"] if name in classes), strict=True
        )
        for number, method in enumerate(methods):
            for seed in seeds:
                predictions = random_predictions(images, labels, classes, 1 + number / 2 + shots / 16, [number, seed])
                folder = output / kind / f"shots_{shots}" / method / f"seed{seed}"
                write_run(folder, kind, method, seed, predictions, shots, root=root)
                if method != "ZeroShot":
                    write_log(folder, [2.0, 1.0 + seed / 10, 0.7])
                written[kind, shots, method, seed] = predictions
    return written
