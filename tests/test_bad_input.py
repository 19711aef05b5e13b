"""What a user can get wrong: one sentence with the mend, exit code 2, no traceback."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dassl.utils import load_checkpoint
from tests.conftest import ROOT


def refused(done: subprocess.CompletedProcess, *words: str) -> None:
    """Check that a command ended as a user's error does, with these words in its sentence."""
    assert done.returncode == 2, done.stdout + done.stderr
    print(done.stderr)
    assert "Traceback" not in done.stdout + done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    for word in words:
        assert word in sentence


@pytest.fixture
def script(command, data, cache, tmp_path):
    """Run scripts/run.py with DATA, OUTPUT and a short training."""

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess:
        places = {"DATA": str(data), "OUTPUT": str(tmp_path / "output"), **environment}
        short = ["FEATURES.CACHE_DIR", str(cache), "OPTIM.MAX_EPOCH", "1", "DATALOADER.NUM_WORKERS", "0"]
        return command(["scripts/run.py", *words, *short], env=places)

    return run


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["OGKD", "base2new", "nosuchset", "1"], ["nosuchset", "btmri"]),
        (["OGKD", "base2new", "phantom", "1", "TRAINER.OGKD.GAMA", "0.5"], ["TRAINER.OGKD.GAMA", "GAMMA"]),
        (["OGKD", "base2new", "phantom", "1", "OPTIM.LR"], ["pairs of KEY VALUE"]),
        (["OGKD", "base2new", "phantom", "1", "OPTIM.LR", "fast"], ["fast"]),
        (["OGKD", "base2new", "phantom", "one"], ["SEED", "one"]),
        (["OGKD", "few_shot", "phantom", "0", "1"], ["SHOTS", "0"]),
        (["OGKD", "few_shot", "phantom", "16"], ["SEED"]),
        (["OGKD", "base2new", "phantom", "1", "TRAINER.OGKD.GAMMA", "1.5"], ["GAMMA", "1.5"]),
        (["OGKD", "base2new", "phantom", "1", "TRAINER.OGKD.TOP_K_RATIO", "0.0"], ["TOP_K_RATIO"]),
        (["NoMethod", "base2new", "phantom", "1"], ["NoMethod", "OGKD"]),
    ],
    ids=lambda words: " ".join(words[:5]),
)
def test_wrong_words_on_the_command_line(script, words, sentence):
    refused(script(*words), *sentence)


def test_a_data_set_that_is_not_there_names_its_folder_and_the_download(script, tmp_path):
    done = script("OGKD", "base2new", "btmri", "1", DATA=str(tmp_path), BACKBONE="PhantomCLIP")
    refused(done, str(tmp_path), "scripts/download.py btmri")


def test_weights_that_are_not_there_name_the_download(data, tmp_path):
    done = subprocess.run(
        [sys.executable, "scripts/run.py", "OGKD", "base2new", "phantom", "1"],
        cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "BACKBONE": "BiomedCLIP", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path),
             "DATA": str(data), "OUTPUT": str(tmp_path / "output")},
    )  # fmt: skip
    refused(done, "BiomedCLIP", "scripts/download.py weights")


def test_a_split_that_names_a_missing_image(script, data, tmp_path):
    shutil.copytree(data / "Phantom", tmp_path / "Phantom")
    next((tmp_path / "Phantom" / "Phantom").rglob("*.png")).unlink()
    refused(script("CoOp", "base2new", "phantom", "1", DATA=str(tmp_path)), ".png")


def test_a_truncated_image_is_named(script, data, tmp_path):
    shutil.copytree(data / "Phantom", tmp_path / "Phantom")
    split = json.loads((tmp_path / "Phantom" / "split_Phantom.json").read_text())
    image = tmp_path / "Phantom" / "Phantom" / split["test"][0][0]
    image.write_bytes(image.read_bytes()[:200])
    refused(script("ZeroShot", "base2new", "phantom", "1", DATA=str(tmp_path)), image.name)


def test_zero_byte_weights_are_named(script, tmp_path):
    shutil.copytree(ROOT / "clip" / "phantomclip", tmp_path / "weights")
    (tmp_path / "weights" / "open_clip_model.safetensors").write_bytes(b"")
    done = script("ZeroShot", "base2new", "phantom", "1", BACKBONE=str(tmp_path / "weights"))
    refused(done, "open_clip_model.safetensors")


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_bomb_as_a_checkpoint_does_not_go_off(command, arguments, tmp_path):
    folder = tmp_path / "evil" / "prompt_learner"
    folder.mkdir(parents=True)
    (folder / "model.pth.tar-1").write_bytes(pickle.dumps({"state_dict": Bomb(tmp_path / "exploded"), "epoch": 1}))
    words = arguments("CoOp")
    done = command(["train.py", "--eval-only", "--model-dir", str(tmp_path / "evil"), *words])
    refused(done, "model.pth.tar-1")
    assert not (tmp_path / "exploded").exists()


def test_a_checkpoint_of_another_method_is_refused(command, arguments, tmp_path):
    assert command(["train.py", *arguments("CoOp", output=tmp_path / "coop")]).returncode == 0
    words = ["train.py", "--eval-only", "--model-dir", str(tmp_path / "coop"), *arguments("KgCoOp")]
    refused(command(words), "CoOp", "KgCoOp")


def test_a_class_without_prompts_names_the_class_and_the_file(script, data, tmp_path):
    folder = tmp_path / "Phantom"
    shutil.copytree(data / "Phantom", folder)
    split = folder / "split_Phantom.json"
    split.write_text(split.read_text().replace('"smooth mass"', '"wrinkled mass"'))
    done = script("OGKD", "base2new", "phantom", "1", DATA=str(tmp_path))
    refused(done, "wrinkled mass", "Phantom.json", "templates")
    done = script("OGKD", "base2new", "phantom", "1", "TRAINER.OGKD.PROMPTS", "templates", DATA=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_space_left_loses_nothing_that_was_saved(command, arguments, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs privileges")
    try:
        (disk / "ballast").write_bytes(bytes(100_000))
        words = ["train.py", *arguments("CoOp", "OPTIM.MAX_EPOCH", "200", output=disk / "run")]
        refused(command(words), "No space left")
        saved = list((disk / "run" / "prompt_learner").glob("model.pth.tar-*"))
        assert saved
        assert all(load_checkpoint(str(path))["epoch"] > 0 for path in saved)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_results_that_are_damaged_say_what_to_delete(command, arguments, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "results.json").write_text("{")
    refused(command(["train.py", *arguments("ZeroShot")]), "results.json", "delete")
