"""Importing ogkd.models is cheap: names, configurations and errors need no PyTorch."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest

from ogkd import models
from ogkd.models import sources
from tests.support import tiny_models

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "open_clip", "timm", "transformers")


def imported_by(code, *arguments):
    """Which of HEAVY a fresh process has imported after `code`."""
    code += f"\nimport json, sys; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_names_errors_and_image_specs_need_no_pytorch(tmp_path):
    makers = (tiny_models.biomedclip, tiny_models.transformers_clip, tiny_models.pmc_clip)
    for number, make in enumerate(makers):
        make(tmp_path / str(number))
    lines = [
        "import sys",
        "from ogkd import models",
        "from ogkd.models.errors import MissingWeights, ModelError",
        "models.available_models(), dir(models)",
        "[models.image_spec(name) for name in ('PhantomCLIP', 'CLIP', 'PMC-CLIP', *sys.argv[1:])]",
    ]
    folders = [str(tmp_path / str(number)) for number in range(len(makers))]
    assert imported_by("\n".join(lines), *folders) == []
    assert "torch" in imported_by("from ogkd.models import FrozenCLIP, ImageFeatures, Tokens")


def test_every_public_name_is_there_and_no_other():
    assert all(hasattr(models, name) for name in models.__all__)
    assert set(models.__all__) <= set(dir(models))
    with pytest.raises(AttributeError, match="has no attribute 'tokenise'"):
        models.tokenise  # noqa: B018


def test_clips_image_spec_is_that_of_open_clip():
    spec = models.image_spec("CLIP")
    config = open_clip.get_model_config("ViT-B-16-quickgelu")
    assert spec.size == config["vision_cfg"]["image_size"]
    assert (spec.mean, spec.std) == (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)


def test_missing_weights_travel_between_processes_with_their_repository():
    error = pickle.loads(pickle.dumps(models.MissingWeights("Not there.", sources.BIOMEDCLIP.name)))
    assert (str(error), error.repository) == ("Not there.", sources.BIOMEDCLIP.name)
