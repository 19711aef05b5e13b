"""`scripts/verify.py` against a server that speaks the hub's protocol, with prompts made up in the released format."""

import io
import json
import os
import shutil

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from dassl.optim.lr_scheduler import ConstantWarmupScheduler
from ogkd.core.torchtools import load_checkpoint
from ogkd.evaluation.collect import collect
from ogkd.phantom.dataset import write_dataset
from ogkd.reports.tables import base2new_tables
from ogkd.runs.protocols import Places, job
from ogkd.runs.released import REPOSITORY, agrees, chosen, released_accuracies
from tests.support.download_server import Served, serving

pytestmark = pytest.mark.slow

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Phantom's images under the names of two published data sets."""
    root = tmp_path_factory.mktemp("published")
    for name in ("BTMRI", "BUSI"):
        write_dataset(root / name, counts={"train": 5, "val": 4, "test": 4})
        (root / name / "Phantom").rename(root / name / name)
        (root / name / "split_Phantom.json").rename(root / name / f"split_{name}.json")
    return root


@pytest.fixture(scope="module")
def learned(data, tmp_path_factory):
    """A few-shot run of BiomedCoOp on the data that stand for BTMRI: its folder."""
    output = tmp_path_factory.mktemp("learned")
    words = ["OPTIM.MAX_EPOCH", "2", "OPTIM.LR", "0.1", "FEATURES.CACHE_DIR", "", "DATALOADER.NUM_WORKERS", "0",
             "TRAINER.BIOMEDCOOP.PROMPTS", "templates"]  # fmt: skip
    training = job("few_shot", "BiomedCoOp", "btmri", 1, 1, Places(data, output, "PhantomCLIP"), words)
    training()
    (folder,) = training.folders()
    return folder


def released_format(ctx, epoch=100, whole=False):
    """The bytes of a checkpoint as the published code saves it: the prompt learner alone, or within its whole model."""
    ctx = torch.nn.Parameter(ctx.clone())
    optimizer = torch.optim.SGD([ctx], 0.0025, momentum=0.9, weight_decay=5e-4)
    scheduler = ConstantWarmupScheduler(optimizer, CosineAnnealingLR(optimizer, float(epoch)), 1, 1e-5)
    ctx.grad = torch.zeros_like(ctx)
    optimizer.step()
    scheduler.step()
    state = {"ctx": ctx.detach(), "token_prefix": torch.zeros(9, 1, 64), "token_suffix": torch.zeros(9, 7, 64)}
    if whole:
        state = {f"prompt_learner.{name}": value for name, value in state.items()}
        state |= {"prompt_learner.ZS_image_encoder.weight": torch.zeros(2), "logit_scale": torch.tensor(4.0)}
    plain = {name: value for name, value in vars(scheduler).items() if name != "optimizer"}
    content = io.BytesIO()
    torch.save(
        {
            "state_dict": state,
            "epoch": epoch,
            "optimizer": optimizer.state_dict(),
            "scheduler": plain,
            "val_result": None,
        },
        content,
    )
    return content.getvalue()


@pytest.fixture
def context(learned):
    """The context that the run learned, which is not the one it started from."""
    (path,) = learned.glob("*/model.pth.tar-2")
    return load_checkpoint(str(path))["state_dict"]["ctx"]


@pytest.fixture
def verify(command, data, tmp_path, monkeypatch):
    """Run the program on the made-up data with a hub at `endpoint`: verify(endpoint, *arguments)."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def run(endpoint, *words):
        env = {
            "DATA": str(data), "OUTPUT": str(tmp_path / "output"), "BACKBONE": "PhantomCLIP", "HF_ENDPOINT": endpoint,
            "NO_PROXY": "127.0.0.1",
        }  # fmt: skip
        return command(["scripts/verify.py", *words], env)

    return run


def put(server, released, content):
    for revision in ("main", COMMIT):
        server.put(
            f"/{REPOSITORY}/resolve/{revision}/{released.file}", Served(content, headers={"X-Repo-Commit": COMMIT})
        )


def lines_of(done):
    """protocol, data set, shots, seed, classes, published, ours, difference, and the verdict in words."""
    return [line.split(maxsplit=8) for line in done.stdout.splitlines() if line.startswith(("few_shot", "base2new"))]


def test_prompts_are_fetched_tested_and_compared(verify, learned, context, data):
    wanted = chosen(["btmri"], ["few_shot"], [1, 2], [1])
    with serving() as server:
        put(server, wanted[0], released_format(context))
        put(server, wanted[1], released_format(context, whole=True))
        done = verify(server.url, "btmri", "--protocol", "few_shot", "--shots", "1", "2", "--seeds", "1")
    assert done.returncode in (0, 1), done.stderr
    accuracy = json.loads((learned / "results.json").read_text())["accuracy"]
    lines = lines_of(done)
    assert [line[:5] for line in lines] == [["few_shot", "btmri", shots, "1", "all"] for shots in ("1", "2")]
    assert [float(line[5]) for line in lines] == [67.62, 72.28]
    for line, released in zip(lines, wanted, strict=True):
        (published,) = released.accuracies
        assert float(line[6]) == pytest.approx(accuracy, abs=0.005)
        assert float(line[7]) == pytest.approx(accuracy - published, abs=0.011)
        assert line[8] == ("within 0.5" if abs(accuracy - published) <= 0.5 else "NOT within 0.5")
    agree = sum(line[8] == "within 0.5" for line in lines)
    assert done.stdout.splitlines()[-1] == f"{agree} of 2 agree"
    assert done.returncode == (0 if agree == 2 else 1)

    # What was fetched and tested needs no network again.
    again = verify("http://127.0.0.1:9", "btmri", "--protocol", "few_shot", "--shots", "1", "2", "--seeds", "1")
    assert lines_of(again) == lines


@pytest.mark.parametrize("published", [50.0, 81.42, 97.16])
def test_accuracies_agree_within_half_a_point(published):
    for away in (0, 0.25, -0.49, 0.5, -0.5, 0.504):
        assert agrees(published + away, published)
    for away in (0.51, -0.51, 0.506, 20):
        assert not agrees(published + away, published)


def test_base_to_novel_prompts_are_tested_on_both_halves_and_stay_apart_in_tables(verify, context, tmp_path):
    (released,) = chosen(["btmri"], ["base2new"], [], [2])
    (tmp_path / "copy" / released.file).parent.mkdir(parents=True)
    (tmp_path / "copy" / released.file).write_bytes(released_format(context, epoch=50))
    done = verify(
        "http://127.0.0.1:9", "btmri", "--protocol", "base2new", "--seeds", "2", "--from", str(tmp_path / "copy")
    )
    assert done.returncode in (0, 1), done.stderr
    lines = lines_of(done)
    assert [line[4] for line in lines] == ["base", "novel"]
    assert tuple(float(line[5]) for line in lines) == released.accuracies == (79.0, 96.62)
    runs = collect(tmp_path / "output")
    (table,) = base2new_tables(runs)
    (row,) = table.rows
    assert row.name == "BiomedCoOp, tested only"
    assert [f"{cell.mean:.2f}" for cell in (row.cells["base"], row.cells["novel"])] == [line[6] for line in lines]


def test_a_folder_of_prompts_is_used_without_a_network_and_what_it_lacks_is_said(verify, context, tmp_path):
    copy = tmp_path / "copy"
    released = chosen(["busi"], [], [4], [3])[0]
    (copy / released.file).parent.mkdir(parents=True)
    (copy / released.file).write_bytes(released_format(context))
    done = verify("http://127.0.0.1:9", "--from", str(copy))
    assert done.returncode in (0, 1), done.stderr
    assert [line[:4] for line in lines_of(done)] == [["few_shot", "busi", "4", "3"]]
    assert "note: chmnist, covid, ctkidney," in done.stderr
    assert "are left out because they are missing: `python scripts/download.py chmnist covid ctkidney" in done.stderr
    assert "split_BTMRI.json is not the published split." in done.stderr
    assert f"prompts are not in {copy}, the first is few_shot/btmri/shots_1/" in done.stderr
    shutil.rmtree(copy)
    done = verify("http://127.0.0.1:9", "--from", str(copy))
    assert (done.returncode, done.stderr.splitlines()[-1][:6]) == (2, "error:")
    assert f"{copy} has none of the prompts" in done.stderr


def test_a_prompt_that_the_hub_does_not_have_is_named(verify, context):
    wanted = chosen(["busi"], [], [1], [])
    with serving() as server:
        put(server, wanted[0], released_format(context))
        done = verify(server.url, "busi", "--shots", "1")
    assert done.returncode == 2 and f"{wanted[1].file} could not be fetched from {REPOSITORY}" in done.stderr


def test_a_bomb_in_place_of_a_prompt_is_refused_and_does_not_go_off(verify, tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    content = io.BytesIO()
    torch.save({"state_dict": {}, "epoch": 100, "scheduler": Bomb()}, content)
    (released,) = chosen(["busi"], [], [1], [1])
    with serving() as server:
        put(server, released, content.getvalue())
        done = verify(server.url, "busi", "--shots", "1", "--seeds", "1")
    assert done.returncode == 2 and "holds more than tensors and plain values" in done.stderr
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["mnist"], "No prompt is released for data set mnist: there are btmri, busi,"),
        (["--seeds", "4"], "No prompt is released for seed 4: there are 1, 2, 3."),
        (["--shots", "3"], "No prompt is released for number of shots 3: there are 1, 2, 4, 8, 16."),
        (["--shots", "many"], "--shots must be a whole number"),
        (["busi", "--protocol", "base2new"], "busi is not part of it"),
        (["covid"], "No data set to test on is in"),
    ],
)
def test_what_cannot_be_verified_is_said_in_one_sentence(verify, words, sentence):
    done = verify("http://127.0.0.1:9", *words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and sentence in done.stderr


def test_every_released_prompt_has_a_published_accuracy_and_a_path_of_its_own():
    released = released_accuracies()
    assert len({one.file for one in released}) == len(released) == 195
    assert all(len(one.accuracies) == len(one.subsets) and 0 < min(one.accuracies) <= 100 for one in released)
    few_shot = {(one.dataset, one.shots, one.seed) for one in released if one.protocol == "few_shot"}
    assert len(few_shot) == 11 * 5 * 3
