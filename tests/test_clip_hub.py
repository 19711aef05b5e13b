"""Models of the hub: its cache first, then the hub (here a server of the test's own), then one sentence."""

import functools
import hashlib
import http.server
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from clip import sources
from tests.support import tiny_models

ROOT = Path(__file__).resolve().parents[1]
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


class Hub(http.server.BaseHTTPRequestHandler):
    """A folder org/name as the hub serves its files, with the headers that its client asks for."""

    protocol_version = "HTTP/1.1"

    def __init__(self, root, *arguments):
        self.root = root
        super().__init__(*arguments)

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body):
        repository, _, rest = self.path.partition("/resolve/")
        path = self.root / repository.strip("/") / rest.partition("/")[2]
        if self.path != "/" and not path.is_file():
            known = path.parent.is_dir()
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = path.read_bytes() if self.path != "/" else b""
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def hub(tmp_path):
    root = tmp_path / "hub"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Hub, root))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield root, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def load(names, cache, endpoint):
    """The lines that a fresh process prints which loads models; the hub's client reads its settings on import."""
    settings = {"HF_HOME": str(cache), "HF_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | settings
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *names], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), time.monotonic() - started


def test_biomedclip_is_fetched_once_and_then_needs_no_network(tmp_path, hub):
    root, endpoint = hub
    tiny_models.biomedclip(root / sources.BIOMEDCLIP.name, file_format="bin")
    cache = tmp_path / "cache"
    assert load(["BiomedCLIP"], cache, endpoint)[0] == ["BiomedCLIP 32 3"]
    assert load(["BiomedCLIP"], cache, "http://127.0.0.1:9")[0] == ["BiomedCLIP 32 3"]


def test_without_network_and_weights_one_sentence_comes_at_once(tmp_path):
    lines, seconds = load(["BiomedCLIP", "CLIP", "PubMedCLIP", "PMC-CLIP"], tmp_path / "cache", "http://127.0.0.1:9")
    assert len(lines) == 4
    for repository, line in zip(sources.HUB_MODELS.values(), lines, strict=True):
        assert line.startswith(f"MissingWeights|{repository.name}|The hub's cache on this machine lacks ")
        assert "run this once where there is a network, or put" in line
    assert "lacks open_clip_config.json" in lines[0]
    assert seconds < 60


def test_a_repository_that_is_absent_or_incomplete_is_an_error_of_one_sentence(tmp_path, hub):
    root, endpoint = hub
    folder = tiny_models.biomedclip(root / "some" / "model")
    (folder / "open_clip_model.safetensors").unlink()
    absent, incomplete = load(["hf-hub:nobody/nothing", "hf-hub:some/model"], tmp_path / "cache", endpoint)[0]
    assert absent.startswith("MissingWeights|nobody/nothing|open_clip_config.json")
    assert "cannot be downloaded from the hub" in absent
    assert incomplete.startswith("MissingWeights|some/model|The hub repository some/model has no open_clip_model")
