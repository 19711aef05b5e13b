"""What a run says of its frozen model: its revision, images that it saw before, what a method cannot have with it."""

from types import SimpleNamespace

import pytest

from ogkd.models.named import SOURCE, named_models
from ogkd.runs.config import build_config
from ogkd.runs.notes import model_warnings
from ogkd.runs.spec import RunSpec
from tests.support import tiny_models
from tests.support.check_method import SmallRuns


def test_ogkd_runs_without_its_local_term_on_a_model_without_patch_tokens_and_says_so(tmp_path, data, cache):
    tiny_models.convnext_clip(tmp_path / "convnext")
    (tmp_path / "convnext" / SOURCE).write_text('{"name": "own", "revision": "abc"}')
    runs = SmallRuns("OGKD", tmp_path, data, cache)
    results = runs.run("first", backbone=str(tmp_path / "convnext"))
    (warning,) = [one for one in results["warnings"] if "patch tokens" in one]
    assert "convnext has no patch tokens" in warning and "OGKD runs without its local term" in warning
    log = (tmp_path / "first" / "log.txt").read_text()
    assert f"Warning: {warning}" in log and "lgd" not in log
    assert results["revision"] == "abc" and "Weights: revision abc" in log


@pytest.mark.parametrize(
    ("backbone", "dataset", "seen"),
    [
        ("UniMed-CLIP-B-16", "retina", True),
        ("UzairK/unimed-clip-vit-b16", "covid", True),
        ("UniMed-CLIP-B-16", "lungcolon", False),
        ("CLIP", "retina", False),
        ("PhantomCLIP", "retina", False),
    ],
)
def test_results_on_images_that_the_model_was_trained_on_carry_a_warning(backbone, dataset, seen):
    cfg = build_config(RunSpec("ZeroShot", "out", dataset, backbone=backbone))
    phrases = model_warnings(SimpleNamespace(cfg=cfg))
    assert len(phrases) == seen
    assert not seen or ("pre-trained on images of" in phrases[0] and "UniMed-DATA.md" in phrases[0])


def test_every_statement_about_training_data_has_a_known_set_and_a_reason():
    from ogkd.data.catalogue import load

    for model in named_models().values():
        assert model.source.startswith("https://") and model.sets.keys() <= load().datasets.keys()
        assert all(status in ("seen", "not seen") and why for status, why in model.sets.values())
