"""ProLIP: features before the projection give the model's own features, in every tower and precision."""

import pytest
import torch
import torch.nn.functional as F
from yacs.config import CfgNode

from ogkd import models
from ogkd.core import UserError
from ogkd.features.precision import at_precision, has_bf16
from ogkd.models import image_spec
from ogkd.predict.export import export
from ogkd.predict.predictor import Predictor
from ogkd.predict.trained import from_run
from tests.support import tiny_models
from tests.support.check_method import SmallRuns
from tests.support.numbered import assert_zero_shot
from tests.support.toy_clip import ToyCLIP
from trainers.prolip import ProLIP
from trainers.zeroshot import ZeroShot

NAMES = ["cyst", "glioma tumor", "normal"]
needs_bf16 = pytest.mark.skipif(not has_bf16(torch.device("cpu")), reason="this CPU has no bf16")


def untrained(kind, model):
    return kind(CfgNode(kind.options.defaults()), model, NAMES)


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=needs_bf16)])
@pytest.mark.parametrize("kind", ["biomedclip", "pmc_clip"])
def test_untrained_it_is_the_zero_shot_classifier(tmp_path, kind, precision):
    folder = tmp_path / kind
    made = getattr(tiny_models, kind)(folder)
    model = at_precision(models.load(str(made if kind == "biomedclip" else folder)), precision)
    images = torch.randn(5, 3, model.image_size, model.image_size, generator=torch.Generator().manual_seed(0))
    assert_zero_shot(untrained(ProLIP, model), untrained(ZeroShot, model), images, precision)


def test_a_model_without_a_projection_is_refused():
    with pytest.raises(UserError, match="no projection"):
        untrained(ProLIP, ToyCLIP({}, 6, image_spec("PhantomCLIP")))


def test_its_export_is_the_projection_alone_and_names_other_classes(tmp_path, data, cache):
    runs = SmallRuns("ProLIP", tmp_path, data, cache)
    assert runs.first["novel"]
    export(tmp_path / "first", tmp_path / "exported")
    prompt = from_run(tmp_path / "first")
    assert len(runs.learned("first")) == 1
    assert (tmp_path / "exported/prompt.safetensors").stat().st_size < 2e6
    assert Predictor(prompt, classes=["one thing", "another thing"]).classnames == ("one thing", "another thing")
    assert F.mse_loss(next(iter(runs.learned("first").values())), next(iter(prompt.learned["method"].values()))) == 0
