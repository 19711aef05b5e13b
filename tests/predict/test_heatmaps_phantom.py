"""Heat maps on Phantom, whose generator knows where each finding is."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ogkd.phantom.dataset import draw_class
from ogkd.phantom.findings import CLASSES
from ogkd.predict.predictor import Predictor
from ogkd.predict.trained import from_run
from tests.support.check_method import SmallRuns

IMAGES = 12  # per class


def hits(predictor: Predictor, classnames: list[str]) -> tuple[float, float]:
    """How often the patch with most evidence for the true class touches the finding, and how often a patch does that
    is drawn at random."""
    found, chance = [], []
    for name in classnames:
        for image, mask in draw_class("phantom", CLASSES.index(name), seed=11, count=IMAGES):
            evidence = predictor([Image.fromarray(image).convert("RGB")], patches=True).patch_logits[0]
            side = round(len(evidence) ** 0.5)
            rows, columns = (np.arange(length) * side // length for length in mask.shape)
            touched = np.zeros((side, side), dtype=bool)
            np.logical_or.at(touched, (rows[:, None], columns[None]), mask)
            found.append(touched.ravel()[evidence[:, CLASSES.index(name)].argmax()])
            chance.append(touched.mean())
    return float(np.mean(found)), float(np.mean(chance))


@pytest.mark.slow
def test_the_brightest_patch_lies_on_the_finding_more_often_than_chance(data, cache, tmp_path):
    runs = SmallRuns("ZeroShot", tmp_path, data, cache)
    runs.run("run")
    found, chance = hits(Predictor(from_run(tmp_path / "run")), CLASSES)
    assert 0 < chance < 0.5
    assert found > chance
