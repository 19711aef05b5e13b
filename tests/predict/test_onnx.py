"""A prompt as an ONNX file: the logits of PyTorch, without PyTorch."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ogkd.core import UserError
from ogkd.evaluation.predictions import Predictions
from ogkd.predict.export import export_onnx, load_prompt
from ogkd.predict.predictor import Predictor, probabilities
from tests.conftest import ROOT
from tests.support import openai_clip, tiny_models
from tests.support.check_method import SmallRuns

needs_onnx = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime"))), reason="the extra onnx is missing"
)


def openai_model(folder: Path) -> Path:
    path = folder.with_suffix(".pt")
    torch.save(openai_clip.published(openai_clip.tiny()), path)
    return path


BACKBONES = {
    "PhantomCLIP": lambda folder: "PhantomCLIP",
    "BiomedCLIP's kind": tiny_models.biomedclip,
    "OpenAI's kind": openai_model,
    "transformers": lambda folder: tiny_models.transformers_clip(folder) and folder,
}


@pytest.fixture
def run(data, cache, tmp_path):
    """A finished run of a method: run("CoOp") -> (its folder, predictions)."""

    def of(method: str, backbone: str | Path = "PhantomCLIP", *pairs: str) -> tuple[Path, Predictions]:
        runs = SmallRuns(method, tmp_path / "runs", data, cache)
        runs.run(method, "OPTIM.MAX_EPOCH", "1", *pairs, backbone=str(backbone))
        return runs.folder / method, runs.predictions(method)

    return of


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "kind"),
    [*(("CoOp", kind) for kind in BACKBONES), *((method, "PhantomCLIP") for method in ("MaPLe", "LinearProbe"))],
)
def test_the_file_gives_the_logits_of_the_test_for_any_number_of_images(run, data, tmp_path, method, kind):
    from onnxruntime import InferenceSession

    start = () if method != "CoOp" else ("TRAINER.COOP.CTX_INIT", "")  # the tiny vocabularies lack the usual words
    folder, tested = run(method, BACKBONES[kind](tmp_path / "model"), *start)
    session = InferenceSession(export_onnx(folder, tmp_path / "out"))
    pixels = Predictor(load_prompt(folder)).pixels([data / "Phantom/Phantom" / image for image in tested.images[:7]])
    for start, end in ((0, 1), (1, 3), (0, 7)):
        (logits,) = session.run(None, {"pixels": pixels[start:end].numpy()})
        np.testing.assert_allclose(logits, tested.logits[start:end], atol=1e-4)
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == list(tested.classnames) and len(json.loads(facts["mean"])) == 3


@needs_onnx
@pytest.mark.slow
def test_the_program_of_the_docs_gives_the_answers_without_pytorch(run, data, command, tmp_path):
    folder, tested = run("CoOp")
    words = ["scripts/export_prompt.py", str(folder), str(tmp_path / "out"), "--onnx"]
    assert "model.onnx" in command(words).stdout
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/onnx.md").read_text(), re.DOTALL)
    wide = tmp_path / "wide.png"
    Image.open(data / "Phantom/Phantom" / tested.images[0]).resize((301, 222)).save(wide)
    (tmp_path / "program.py").write_text("import sys\nsys.modules['torch'] = None\n" + program)
    done = subprocess.run(
        [sys.executable, "program.py", "out/model.onnx", "wide.png"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    prompt = load_prompt(folder)
    (chances,) = probabilities(Predictor(prompt).logits([wide]), prompt.temperature or 1.0)
    printed = {name: float(p) for name, p in re.findall(r"'([^']+)': ([\d.e-]+)", done.stdout)}
    assert printed == pytest.approx(dict(zip(tested.classnames, chances, strict=True)), abs=2e-4)


@needs_onnx
@pytest.mark.parametrize(
    ("method", "pairs", "sentence"),
    [("CoCoOp", (), "texts of its own"), ("TipAdapter", ("TRAINER.TIPADAPTER.STEPS_BETA", "2"), "each training image")],
)
def test_a_method_that_no_file_can_hold_is_refused(run, tmp_path, method, pairs, sentence):
    folder, _ = run(method, "PhantomCLIP", *pairs)
    with pytest.raises(UserError, match=sentence):
        export_onnx(folder, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.skipif(importlib.util.find_spec("onnx") is not None, reason="the package is installed")
def test_a_missing_package_is_named_with_what_to_install(tmp_path):
    with pytest.raises(UserError, match=r"onnx.*pip install"):
        export_onnx(tmp_path, tmp_path / "out")
