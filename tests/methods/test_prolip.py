"""ProLIP: features before the projection give the model's own features, in every tower and precision."""

import pytest
import torch
from yacs.config import CfgNode

from ogkd import models
from ogkd.core import UserError
from ogkd.features.precision import at_precision, has_bf16
from ogkd.models import image_spec
from tests.support import tiny_models
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
