"""Checkpoints that Dassl wrote are evaluated and resumed here, and runs of its trainers resume to the same bits."""

import collections
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dassl.config import get_cfg_default
from dassl.optim import build_lr_scheduler, build_optimizer
from ogkd.cli import train
from ogkd.core import UserError
from ogkd.core.torchtools import (
    load_checkpoint,
    random_states,
    restore_random_states,
    resume_from_checkpoint,
    save_checkpoint,
    set_random_seed,
)
from tests import toy_trainer  # noqa: F401  registers ToyCoOp

GIVEN = ("TRAINER.COOP.N_CTX", "4")
KEEP = ("TRAIN.KEEP_CHECKPOINTS", "True")


def in_dassls_form(path: Path, max_epoch: int = 3) -> None:
    """Write a checkpoint of a run here again as Dassl would have: the scheduler's attributes, among them the schedule
    after the warm-up as an object that holds the optimiser; the class names' embeddings; nothing of ours."""
    mine = load_checkpoint(str(path))
    options = get_cfg_default().OPTIM
    options.NAME, options.LR, options.LR_SCHEDULER, options.MAX_EPOCH = "sgd", 0.0025, "cosine", max_epoch
    options.WARMUP_EPOCH, options.WARMUP_TYPE = 1, "constant"
    parameters = [torch.nn.Parameter(value) for value in mine["state_dict"].values()]
    optimizer = build_optimizer(parameters, options)
    scheduler = build_lr_scheduler(optimizer, options)
    optimizer.load_state_dict(mine["optimizer"])
    scheduler.load_state_dict(mine["scheduler"])
    scheduler.last_epoch = min(scheduler.last_epoch, 1)  # Dassl's does not count on after the warm-up
    assert type(optimizer.state) is collections.defaultdict
    content = {
        "state_dict": {
            **mine["state_dict"],
            "token_prefix": torch.zeros(3, 1, 8),
            "token_suffix": torch.zeros(3, 9, 8),
        },
        "epoch": mine["epoch"],
        "optimizer": optimizer.state_dict(),
        "scheduler": {name: value for name, value in vars(scheduler).items() if name != "optimizer"},
        "val_result": None,
    }
    assert content["scheduler"]["successor"].optimizer is optimizer
    torch.save(content, path)
    (path.parent / "checkpoint").write_text(f"{path.name}\n")


def only_epoch(run: Path, other: Path, epoch: int) -> Path:
    """A folder with a run's checkpoint of one epoch, as a run that was killed after it leaves."""
    for path in run.glob(f"*/model.pth.tar-{epoch}"):
        (other / path.parent.name).mkdir(parents=True)
        shutil.copy(path, other / path.parent.name)
    return next(other.glob("*/model*"))


def learned(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(str(run / "prompt_learner" / "model.pth.tar-3"))["state_dict"]


def test_a_run_of_coop_that_dassl_began_is_resumed_to_the_same_bits_and_evaluated(arguments, tmp_path):
    results = train.main(arguments("CoOp", *KEEP))
    for epoch in (2, 3):
        in_dassls_form(only_epoch(tmp_path / "run", tmp_path / f"dassl{epoch}", epoch))

    resumed = train.main(["--resume", str(tmp_path / "dassl2"), *arguments("CoOp", *KEEP, output=tmp_path / "resumed")])
    for name, value in learned(tmp_path / "run").items():
        assert torch.equal(value, learned(tmp_path / "resumed")[name])
    assert resumed["confusion_matrix"] == results["confusion_matrix"]

    words = ["--eval-only", "--model-dir", str(tmp_path / "dassl3"), "--load-epoch", "3"]
    tested = train.main([*words, *arguments("CoOp", output=tmp_path / "tested")])
    assert tested["confusion_matrix"] == results["confusion_matrix"]


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_foreign_trainer_resumes_to_the_same_bits_without_being_reseeded(arguments, tmp_path, workers):
    more = (*GIVEN, *KEEP, "DATALOADER.NUM_WORKERS", workers)
    results = train.main(arguments("ToyCoOp", *more))
    killed = only_epoch(tmp_path / "run", tmp_path / "killed", 1).parents[1]
    train.main(["--resume", str(killed), *arguments("ToyCoOp", *more, output=tmp_path / "resumed")])
    for name, value in learned(tmp_path / "run").items():
        assert torch.equal(value, learned(tmp_path / "resumed")[name])
    assert results["config"]["TRAIN"]["RESEED_EPOCHS"] is False


def test_a_foreign_trainer_resumes_what_dassl_wrote(arguments, tmp_path):
    """Dassl's checkpoints hold no random states, so both runs are reseeded by epoch to draw the same."""
    more = (*GIVEN, *KEEP, "TRAIN.RESEED_EPOCHS", "True")
    train.main(arguments("ToyCoOp", *more))
    path = only_epoch(tmp_path / "run", tmp_path / "dassl", 2)
    in_dassls_form(path)
    content = torch.load(path, weights_only=False)
    del content["state_dict"]["token_prefix"], content["state_dict"]["token_suffix"]  # of CoOp's prompt learner alone
    torch.save(content, path)
    train.main(["--resume", str(tmp_path / "dassl"), *arguments("ToyCoOp", *more, output=tmp_path / "resumed")])
    for name, value in learned(tmp_path / "run").items():
        assert torch.equal(value, learned(tmp_path / "resumed")[name])


@pytest.mark.parametrize(
    ("part", "there"),
    [("state_dict", (4, 2, 1)), ("optimizer", (3, 1, 1)), ("scheduler", (3, 2, 0))],
)
def test_a_checkpoint_of_another_run_is_refused_in_one_sentence_that_says_what_differs(tmp_path, part, there):
    def parts(width, trained, warm_up):
        options = get_cfg_default().OPTIM
        options.NAME, options.WARMUP_EPOCH = "sgd", warm_up
        model = torch.nn.Linear(width, 1)
        optimizer = build_optimizer(list(model.parameters())[:trained], options)
        return model, optimizer, build_lr_scheduler(optimizer, options)

    states = [one.state_dict() for one in parts(*there)]
    state = dict(zip(("state_dict", "optimizer", "scheduler"), states, strict=True))
    save_checkpoint({**state, "epoch": 1}, str(tmp_path))
    with pytest.raises(UserError, match=f"The {part} in .* does not fit this run") as error:
        resume_from_checkpoint(str(tmp_path), *parts(3, 2, 1))
    assert "\n" not in str(error.value)


def draws() -> tuple:
    return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(3).tolist()


@given(st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_random_numbers_go_on_from_a_checkpoint_as_if_nothing_had_happened(tmp_path_factory, seed, before):
    folder = tmp_path_factory.mktemp("states")
    outside = random_states()
    try:
        set_random_seed(seed)
        for _ in range(before):
            draws()
        save_checkpoint({"state_dict": {}, "epoch": 1, "random_states": random_states()}, str(folder))
        expected = [draws() for _ in range(3)]
        set_random_seed(0)
        restore_random_states(load_checkpoint(str(folder / "model.pth.tar-1"))["random_states"])
        assert [draws() for _ in range(3)] == expected
    finally:
        restore_random_states(outside)
