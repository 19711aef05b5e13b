"""Handing a prompt over: small, complete, and without a trace of the images."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from ogkd.core import UserError
from ogkd.evaluation.collect import collect
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.statistics import bootstrap
from ogkd.predict.classifier import PromptClassifier
from ogkd.predict.export import FILES, export, load_prompt, read_prompt
from ogkd.predict.predictor import Predictor
from ogkd.reports.page import write as write_page
from ogkd.reports.recompute import recompute
from ogkd.reports.render import render
from ogkd.reports.tables import few_shot_tables
from ogkd.runs.execute import execute
from ogkd.runs.spec import RunSpec
from tests.report_runs import random_predictions
from tests.support import random_weights
from tests.support.download_server import serving
from tests.support.forked import HUB, python
from tests.support.pictures import phantom_scans

CLASSES = ("smooth mass", "lobulated mass", "nodular opacity")
ROOT_NAME = "St Elsewhere radiology 2019"


@pytest.fixture(scope="module")
def own_data(tmp_path_factory) -> Path:
    """A folder of images whose files are called after patients."""
    root = tmp_path_factory.mktemp("place") / ROOT_NAME
    return phantom_scans(root, CLASSES, seed=3, count=10, file="Quuxley^Zebulon^{number:04d}^{name:.3}.png")


@pytest.fixture(scope="module")
def run(tmp_path_factory, own_data, cache):
    """A finished run of a method on these images: run("CoOp") -> its folder."""

    def of(method: str, *pairs: str, backbone: str = "PhantomCLIP") -> Path:
        folder = tmp_path_factory.mktemp(method) / "run"
        short = ("FEATURES.CACHE_DIR", str(cache), "DATALOADER.NUM_WORKERS", "0", "OPTIM.MAX_EPOCH", "2")
        execute(
            RunSpec(method, str(folder), "scans", shots=2, seed=1, backbone=backbone, data=str(own_data),
                    pairs=(*short, *pairs))
        )  # fmt: skip
        return folder

    return of


TEMPLATES = ("TRAINER.OGKD.PROMPTS", "templates")


@pytest.fixture(scope="module")
def ogkd(run) -> Path:
    return run("OGKD", *TEMPLATES)


@pytest.fixture(scope="module")
def exported(ogkd, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export(ogkd, folder)
    return folder


def traces(folder: Path, own_data: Path) -> list[str]:
    """Return the image names, or parts of their path, that occur anywhere in a folder's files."""
    content = b"\n".join(path.name.encode() + b"\n" + path.read_bytes() for path in folder.rglob("*") if path.is_file())
    content = content.lower() + content.replace(b"\0", b"").lower()
    images = list(own_data.rglob("*.png"))
    names = {name for path in images for name in (path.name, path.stem, path.parent.name, str(path))}
    names |= {str(own_data), ROOT_NAME, "Quuxley", "Zebulon", str(Path.home())}
    return [name for name in names if name.lower().encode() in content]


def test_an_export_is_small_and_holds_no_trace_of_the_images(exported, own_data, ogkd):
    assert sorted(path.name for path in exported.iterdir()) == sorted(FILES)
    assert sum(path.stat().st_size for path in exported.iterdir()) < 100_000
    assert traces(exported, own_data) == []
    assert len(traces(ogkd, own_data)) > 30  # the run's own folder has them: the search finds what is there


@pytest.mark.parametrize("method", ["LinearProbe", "ZeroShotEnsemble"])
def test_other_methods_leave_no_trace_either(run, own_data, tmp_path, method):
    pairs = ("TRAINER.ZEROSHOTENSEMBLE.PROMPTS", "templates") if method == "ZeroShotEnsemble" else ()
    export(run(method, *pairs), tmp_path / "out")
    assert traces(tmp_path / "out", own_data) == []


def test_a_prompt_that_was_trained_in_bf16_answers_the_same_once_exported(run, own_data, tmp_path):
    folder = run("CoOp", "FEATURES.PRECISION", "bf16")
    export(folder, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["precision"] == "bf16"
    image = next((own_data / "scans").rglob("*.png"))
    of_both = [Predictor(load_prompt(place)).logits([image]) for place in (folder, tmp_path / "out")]
    np.testing.assert_array_equal(*of_both)


def test_a_saved_estimator_holds_no_trace_either(own_data, cache, tmp_path):
    paths = sorted((own_data / "scans").glob("*/*.png"))
    options = {"OPTIM.MAX_EPOCH": 1, "FEATURES.CACHE_DIR": str(cache), "DATALOADER.NUM_WORKERS": 0}
    labels = [path.parent.name.replace("_", " ") for path in paths]
    PromptClassifier("CoOp", "PhantomCLIP", 2, **options).fit(paths, labels).save(tmp_path / "saved")
    assert traces(tmp_path / "saved", own_data) == []
    content = (tmp_path / "saved" / "config.json").read_text()
    assert str(cache) not in content and "/" not in content.replace("n/a", "")


def test_the_tensors_carry_no_metadata_beyond_their_format(exported, ogkd):
    with safe_open(exported / "prompt.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert list(file.keys()) == ["prompt_learner.ctx", "unlike.means"]


def test_table_page_and_card_have_the_same_interval_over_patients(ogkd, tmp_path):
    shutil.copytree(ogkd, tmp_path / "out" / "run")
    stored = tmp_path / "out" / "run" / "predictions.npz"
    names = Predictions.load(stored).classnames
    by_video = random_predictions([f"{i}.png" for i in range(120)], [i // 5 % 3 for i in range(120)], names, 2, 1)
    by_video = replace(by_video, groups=np.arange(120) // 5)
    by_video.save(stored)
    recompute(stored.parent)
    (table,) = few_shot_tables(collect(tmp_path / "out"), intervals=True)
    page = write_page(tmp_path / "out", tmp_path / "page.html").read_text()
    export(stored.parent, tmp_path / "card")
    card, interval = (tmp_path / "card" / "README.md").read_text(), bootstrap("accuracy", by_video)
    assert f"[{interval.low:.2f}, {interval.high:.2f}]" in render(table)
    assert f"{interval.low:.1f} to {interval.high:.1f}" in page
    assert f"{interval.low:.2f} to {interval.high:.2f}" in card
    assert all("120 images of 24 patients" in text for text in (render(table), page, card))


def test_the_card_has_the_results_with_their_intervals_and_says_what_it_is_not(exported, ogkd):
    card = (exported / "README.md").read_text()
    tested = Predictions.load(ogkd / "predictions.npz")
    interval = bootstrap("accuracy", tested)
    assert f"| accuracy (%) | {interval.value:.2f} | {interval.low:.2f} to {interval.high:.2f} |" in card
    assert "not a medical device" in card
    assert "| smooth mass | 2 | 2 | 3 |" in card
    assert "on scans" in card.splitlines()[3]
    assert "its answers mean nothing" in card  # PhantomCLIP on a folder of one's own


def test_the_configuration_says_all_that_is_needed(exported):
    config = json.loads((exported / "config.json").read_text())
    assert config["method"] == "OGKD" and config["options"]["N_CTX"] == 4
    assert config["classes"] == sorted(CLASSES) and config["training_images"] == [2, 2, 2]
    assert config["backbone"]["name"] == "PhantomCLIP" and len(config["backbone"]["fingerprint"]) == 64
    assert config["images"]["SIZE"] == [160, 160]
    assert 0.01 < config["temperature"] < 100
    assert config["versions"].keys() >= {"torch", "timm", "open_clip_torch"}


def test_other_weights_are_refused_in_a_sentence_that_says_what_differs(exported, tmp_path):
    random_weights.write(tmp_path / "other", "tiny")
    prompt = read_prompt(exported)
    with pytest.raises(
        UserError, match=rf"weights of PhantomCLIP with the fingerprint {prompt.fingerprint[:12]}, but "
    ):
        Predictor(prompt, backbone=str(tmp_path / "other"))


def test_a_model_folder_is_named_without_its_place_and_given_again_when_it_is_used(run, own_data, tmp_path):
    random_weights.write(tmp_path / "secret place" / "my-clip", "tiny")
    folder = run("CoOp", backbone=str(tmp_path / "secret place" / "my-clip"))
    export(folder, tmp_path / "out")
    assert all(b"secret place" not in path.read_bytes() for path in (tmp_path / "out").iterdir())
    with pytest.raises(UserError, match=r"trained with the model folder my-clip.*--backbone"):
        Predictor(load_prompt(tmp_path / "out"))
    Predictor(load_prompt(tmp_path / "out"), backbone=str(tmp_path / "secret place" / "my-clip"))


def test_a_cache_of_training_features_is_not_handed_over(run, tmp_path):
    folder = run("TipAdapter", "TRAINER.TIPADAPTER.STEPS_BETA", "2")
    with pytest.raises(UserError, match="includes a feature of each training image"):
        export(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: (f / "prompt.safetensors").write_bytes(b"123"), "prompt.safetensors cannot be read"),
        (lambda f: (f / "config.json").write_text("{}"), "it has no kind"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is corrupt"),
        (lambda f: change(f, format=99), "has the format 99"),
        (lambda f: change(f, classes=None), "its classes is not a list of names"),
        (lambda f: change(f, options={"N_CTXX": 3}), "did you mean TRAINER.OGKD.N_CTX"),
        (lambda f: change(f, unlike={"limit": 9.0}), "its unlike"),
        (lambda f: change(f, method="NoSuch"), "There is no trainer 'NoSuch'"),
        (lambda f: change(f, options={"N_CTX": 2, "CTX_INIT": "a photo"}), "use the configuration that it was trained"),
    ],
)
def test_a_spoiled_export_is_reported_in_one_sentence(exported, tmp_path, spoil, sentence):
    folder = tmp_path / "spoiled"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_bytes((exported / name).read_bytes())
    spoil(folder)
    with pytest.raises(UserError) as error:
        Predictor(load_prompt(folder))
    assert sentence in str(error.value)


def change(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


# The hub


def program(words: list[str], url: str, home: Path) -> subprocess.CompletedProcess:
    """Run a program that talks to the hub at `url`; the hub's client reads its settings on import."""
    settings = {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_TOKEN": "not-a-real-one", "NO_PROXY": "127.0.0.1",
                "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"}  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | settings
    return python(words, env=environment, fresh=HUB)


@pytest.mark.parametrize("public", [(), ("--public",)])
def test_an_export_is_pushed_to_a_repository_of_the_hub_private_unless_asked(
    ogkd, command, tmp_path, monkeypatch, public
):
    calls = {}

    def create(_, name: str, private: bool, exist_ok: bool) -> str:
        calls["create"] = (name, private, exist_ok)
        return f"https://hub/{name}"

    def upload(_, repo_id: str, folder_path: Path, allow_patterns: list[str], commit_message: str) -> None:
        calls["upload"] = (repo_id, folder_path, allow_patterns)

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", create)
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload)
    words = ["scripts/export_prompt.py", str(ogkd), str(tmp_path / "out"), "--push", "some/prompt", *public]
    assert "Uploaded to https://hub/some/prompt" in command(words).stdout
    assert calls == {
        "create": ("some/prompt", not public, True),
        "upload": ("some/prompt", tmp_path / "out", list(FILES)),
    }


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached_is_reported_in_one_sentence(ogkd, tmp_path):
    words = ["scripts/export_prompt.py", str(ogkd), str(tmp_path / "out"), "--push", "some/prompt"]
    done = program(words, "http://127.0.0.1:9", tmp_path / "home")
    assert done.returncode == 2
    assert "error: The hub did not accept some/prompt" in done.stderr and "Traceback" not in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)


@pytest.mark.slow
def test_a_prompt_of_the_hub_predicts(exported, own_data, tmp_path):
    image = next((own_data / "scans" / "smooth_mass").iterdir())
    here = program(["predict.py", str(exported), str(image)], "http://127.0.0.1:9", tmp_path / "home")
    with serving() as hub:
        hub.put_repository("some/prompt", exported, "2" * 40)
        there = program(["predict.py", "hf-hub:some/prompt", str(image)], hub.url, tmp_path / "home")
        assert there.returncode == 0, there.stderr
        absent = program(["predict.py", "hf-hub:some/other", str(image)], hub.url, tmp_path / "home")
    assert there.stdout == here.stdout and there.stdout.count("%") == 3
    assert absent.returncode == 2 and "cannot be downloaded from the hub" in absent.stderr
