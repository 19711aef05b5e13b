"""One tiny model of each format, made once."""

import pytest

from ogkd import models
from tests.support import tiny_models

MAKERS = {
    "biomedclip": tiny_models.biomedclip,
    "pmc_clip": tiny_models.pmc_clip,
    "open_clip": tiny_models.native_clip,
    "transformers": tiny_models.transformers_clip,
}
SIGLIP = {"siglip": tiny_models.open_clip_siglip, "transformers_siglip": tiny_models.transformers_siglip}


@pytest.fixture(scope="session")
def of_format(tmp_path_factory):
    """The model of a format, by the names of MAKERS and SIGLIP."""
    made = {}

    def model(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            (MAKERS | SIGLIP)[name](folder)
            made[name] = models.load(folder)
        return made[name]

    return model


@pytest.fixture(params=["biomedclip", "open_clip", "transformers", *SIGLIP])
def with_vit(request, of_format):
    """A model whose towers both take vectors at their layers."""
    return of_format(request.param)


@pytest.fixture(params=MAKERS)
def any_model(request, of_format):
    return of_format(request.param)
