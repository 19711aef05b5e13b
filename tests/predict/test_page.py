"""`ogkd try`: the answers of predict on a page that is served to this machine only."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path

import pytest
import requests
from PIL import Image

from ogkd.core import UserError
from ogkd.predict import page
from ogkd.predict.command import Named, classify, parser, ready
from tests.support.check_method import SmallRuns


@pytest.fixture(scope="module")
def run(tmp_path_factory, data, cache):
    """The folder of a finished run: run("CoOp")."""
    folder = tmp_path_factory.mktemp("runs")

    def of(method: str) -> str:
        runs = SmallRuns(method, folder, data, cache)
        runs.run(method)
        return str(runs.folder / method)

    return of


def judge_of(*words):
    return ready(parser().parse_args([*words, "an image"]))


@pytest.fixture
def image(data) -> str:
    return str(data / "Phantom" / "Phantom" / "smooth_mass" / "000.png")


def test_the_answer_is_that_of_predict_by_the_same_rules(run, image):
    judge = judge_of(run("CoOp"))
    (expected,) = classify(judge, [Named.file(image)])
    sentence, chances, picture = page.Page(judge).answer(image)
    assert expected.decision in sentence
    assert list(chances.values()) == pytest.approx(expected.chances)
    assert picture.width > 2 * 224  # the heat map beside the image
    assert "uncertain" in page.Page(judge._replace(abstain=1.0)).answer(image).sentence


def test_a_method_without_heat_maps_shows_what_the_model_saw(run, image):
    answer = page.Page(judge_of(run("LinearProbe"))).answer(image)
    assert "no heat map" in answer.sentence and answer.picture.size == (160, 160)


@pytest.mark.skipif(importlib.util.find_spec("gradio") is not None, reason="the package is installed")
def test_without_gradio_it_says_what_to_install(run):
    with pytest.raises(UserError, match=r"gradio.*pip install .*\[try\]"):
        page.main([run("CoOp")])


@pytest.mark.slow
def test_the_page_answers_on_this_machine_and_connects_to_no_other(run, image, tmp_path, monkeypatch):
    for name, value in (page.PRIVATE | {"GRADIO_TEMP_DIR": str(tmp_path / "dropped")}).items():
        monkeypatch.setenv(name, value)
    pytest.importorskip("gradio")
    reached, connect, look_up = set(), socket.socket.connect, socket.getaddrinfo

    def connecting(self, address):
        reached.add(address[0] if isinstance(address, tuple) else "a socket of this machine")
        return connect(self, address)

    def looking_up(host, *args, **kwargs):
        reached.add(host)
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", connecting)
    monkeypatch.setattr(socket, "getaddrinfo", looking_up)
    judge = judge_of(run("CoOp"), "--abstain", "0.99")
    made = page.serve(page.Page(judge), wait=False)
    try:
        api = f"{made.local_url}gradio_api"
        assert "default-src 'self'" in requests.get(made.local_url).headers["content-security-policy"]

        def drop(file: Path) -> requests.Response:
            (path,) = requests.post(f"{api}/upload", files={"files": (file.name, file.read_bytes())}).json()
            data = [{"path": path, "meta": {"_type": "gradio.FileData"}}]
            return requests.post(f"{api}/run/classify", json={"data": data})

        sentence, chances, picture = drop(Path(image)).json()["data"]
        (tmp_path / "bad.png").write_bytes(b"no image")
        assert "bad.png" in drop(tmp_path / "bad.png").text
    finally:
        made.close()
    assert "uncertain" in sentence and "smooth mass" in {row["label"] for row in chances["confidences"]}
    with Image.open(picture["path"]) as shown:
        assert shown.width > 2 * 224
    assert {str(host.decode() if isinstance(host, bytes) else host) for host in reached} <= {
        "127.0.0.1", "localhost", "a socket of this machine"
    }  # fmt: skip
