"""Models of the hub: its cache first, then the hub (here a local server), then one sentence."""

import os
import time

import pytest

from ogkd import models
from ogkd.models import sources
from ogkd.models.named import named_models
from tests.support import tiny_models
from tests.support.download_server import Served, encrypted, serving
from tests.support.forked import HUB, python

COMMIT = sources.BIOMEDCLIP.revision
LOAD = """
import sys, clip
for name in sys.argv[1:]:
    try:
        model = clip.load(name)
        print(model.name, model.embed_dim, model.tokenize(["cyst"]).ids.shape[1])
    except clip.ModelError as error:
        print(type(error).__name__, getattr(error, "repository", None), error, sep="|")
"""

LOOK = """
import sys
from ogkd import models
try:
    print(models.image_spec(*sys.argv[1:]))
except models.ModelError as error:
    print(error)
"""  # needs no PyTorch


@pytest.fixture
def hub():
    with serving() as server:
        yield server


def load(names, cache, endpoint, script=LOAD, **more):
    """The lines that a script prints about models, and its seconds, in a fresh process: the hub's client reads its
    settings on import."""
    settings = {"HF_HOME": str(cache), "HF_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"} | more
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | settings
    started = time.monotonic()
    done = python(["-c", script, *names], env=environment, fresh=HUB)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), time.monotonic() - started


@pytest.mark.slow
def test_biomedclip_is_fetched_once_and_then_needs_no_network(tmp_path, hub):
    folder = tiny_models.biomedclip(tmp_path / "tiny", file_format="bin")
    hub.put_repository(sources.BIOMEDCLIP.name, folder, COMMIT)
    cache = tmp_path / "cache"
    assert load(["BiomedCLIP"], cache, hub.url)[0] == ["BiomedCLIP 32 3"]
    assert load(["BiomedCLIP"], cache, "http://127.0.0.1:9")[0] == ["BiomedCLIP 32 3"]


def test_a_repository_in_transformers_format_is_a_model_under_its_bare_name_too(tmp_path, hub):
    tiny_models.transformers_clip(tmp_path / "tiny")
    hub.put_repository("some/clip", tmp_path / "tiny", COMMIT)
    cache, names = tmp_path / "cache", ["some/clip", "hf-hub:some/clip"]
    online = load(names, cache, hub.url)[0]
    assert online == ["clip 24 3"] * 2 == load(names, cache, "http://127.0.0.1:9")[0]
    assert any((cache / "hub").rglob("preprocessor_config.json"))


def test_without_network_and_weights_one_sentence_comes_at_once(tmp_path):
    names = [name for name in models.available_models() if name != "PhantomCLIP"]
    lines, seconds = load(names, tmp_path / "cache", "http://127.0.0.1:9")
    for name, line in zip(names, lines, strict=True):
        assert line.startswith(
            f"MissingWeights|{named_models()[name].repository}|The hub's cache on this machine lacks "
        )
        assert "run this once where there is a network, or put" in line
    assert "lacks open_clip_config.json" in lines[0]
    assert seconds < 60


def test_a_repository_that_is_absent_incomplete_or_not_sent_is_an_error_of_one_sentence(tmp_path, hub):
    folder = tiny_models.biomedclip(tmp_path / "tiny")
    (folder / "open_clip_model.safetensors").unlink()
    hub.put_repository("some/model", folder, COMMIT)
    hub.put("/closed/model/resolve/main/open_clip_config.json", Served(status=403))
    names = ("nobody/nothing", "some/model", "closed/model")
    absent, incomplete, closed = load([f"hf-hub:{name}" for name in names], tmp_path / "cache", hub.url)[0]
    assert absent.startswith("MissingWeights|nobody/nothing|open_clip_config.json")
    assert "cannot be downloaded from the hub" in absent
    assert incomplete.startswith("MissingWeights|some/model|The hub repository some/model has no open_clip_model")
    assert "it answered 403 Forbidden): accept its terms on its page, and log in" in closed


def test_a_certificate_of_ones_own_institution_is_refused_with_the_mend_which_mends_it(tmp_path):
    with encrypted(tmp_path) as (url, certificate):
        (line,), _ = load(["BiomedCLIP"], tmp_path / "cache", url, LOOK)
        assert "the server's certificate is not trusted: self-signed certificate): set SSL_CERT_FILE" in line
        trusted = dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), str(certificate))
        (line,), _ = load(["BiomedCLIP"], tmp_path / "cache", url, LOOK, **trusted)
        assert "certificate" not in line
