"""Short runs and what they leave: learned tensors, and runs that are killed."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from dassl.engine import TRAINER_REGISTRY, TrainerBase
from ogkd.core import models_in
from ogkd.runs.config import build_config, method_config
from ogkd.runs.execute import execute
from ogkd.runs.spec import RunSpec


def configured(arguments: Callable, method: str, *more: str, output: Path | None = None) -> list[str]:
    """train.py's arguments for a short run of a method with its published configuration; `arguments` is the fixture."""
    file = method_config(method, "few_shot", "phantom")
    return arguments(method, *more, output=output, method_file=file)


def trainer_of(words: list[str]) -> TrainerBase:
    """The trainer that train.py would make of its arguments."""
    cfg = build_config(RunSpec.parse(words))
    return TRAINER_REGISTRY.get(cfg.TRAINER.NAME)(cfg)


def learned(folder: Path) -> dict[str, Tensor]:
    """All learned tensors of a run folder's checkpoints, by name."""
    states = {}
    for model in models_in(folder):
        for path in [*model.glob("model.pth.tar-*"), *model.glob("model-best.pth.tar")]:
            state = torch.load(path, weights_only=True)["state_dict"]
            states |= {f"{model.name}.{key}": value for key, value in state.items()}
    return states


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def killed_at(spec: RunSpec, text: str) -> None:
    """Do a run in a copy of this process, which is killed (SIGKILL) as soon as it prints `text`."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:

        class Fuse:
            def write(self, printed: str) -> None:
                if text in printed:
                    os.kill(os.getpid(), signal.SIGKILL)

            def flush(self) -> None: ...

            def isatty(self) -> bool:
                return False

        try:
            sys.stdout = Fuse()
            execute(spec)
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"the run was not killed: it never printed {text!r}"
    assert os.WTERMSIG(status) == signal.SIGKILL
