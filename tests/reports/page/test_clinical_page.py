"""The clinical block of the page: numbers of the predictions, and what it says where there are too few images."""

import numpy as np
import pytest

from ogkd.evaluation.predictions import Predictions
from ogkd.reports.page import write
from tests.report_runs import write_run

CLASSES = ("benign", "malignant")


def predictions(number: int, seed: int, part: str, patients: bool = True) -> Predictions:
    random = np.random.default_rng(seed)
    labels = (np.arange(number) % 4 == 0).astype(np.int64)
    logits = random.normal(size=(number, 2)) + 1.5 * np.eye(2)[labels]
    groups = np.arange(number) // 2 if patients else None
    return Predictions([f"{part}{i}" for i in range(number)], labels, logits, CLASSES, groups)


@pytest.fixture
def page(tmp_path):
    def made(validation: int, **changes) -> str:
        for seed in (1, 2):
            folder = write_run(
                tmp_path / f"seed{seed}", "few_shot", "CoOp", seed, predictions(80, seed, "t"), **changes
            )
            if validation:
                predictions(validation, 7, "v").save(folder / "val_predictions.npz")
        return " ".join(write(tmp_path, tmp_path / "report.html").read_text().split())

    return made


def test_the_page_has_each_class_its_curves_and_the_thresholds_of_enough_validation_images(page):
    text = page(160, calibration={"images": 160, "drawn": 8})
    assert "Class by class" in text and "means over 2 seeds" in text
    assert "all 160 labelled validation images of the split, of which the run drew 8, never on test images" in text
    for figure in ("ROC curves", "Precision-recall curves", "Decision curves"):
        assert f'aria-label="{figure}.' in text
    assert "sensitivity 95 %" in text and "Too few" not in text
    assert "PPV, 1 % have it" in text


def test_too_few_validation_images_are_said_and_no_threshold_is_shown(page):
    text = page(16)
    assert (
        "Too few validation patients for a sensitivity of 90 % for benign (8), malignant (4): it needs at least 9"
        in text
    )
    assert "where the most likely class is the answer" in text


def test_a_run_without_validation_predictions_says_so(page):
    assert "no threshold is chosen" in page(0)
