"""Python programs in a copy of this process, which has imported PyTorch and the model libraries already."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import open_clip  # noqa: F401  imported once, for all copies
import torch
import torch._dynamo  # noqa: F401
import torchvision  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
HUB = ("huggingface_hub",)  # it reads its settings on import


def python(
    words: Sequence[str], cwd: Path = ROOT, env: Mapping[str, str] | None = None, fresh: Sequence[str] = ()
) -> subprocess.CompletedProcess:
    """What `subprocess.run([sys.executable, *words], cwd=cwd, env=env, capture_output=True, text=True)` gives.

    The program imports the project's modules itself, from its own folder first, and the packages in `fresh`; others it
    finds imported. Where processes cannot be forked, it is started as usual.
    """
    return start(words, cwd, env, fresh)()


def start(
    words: Sequence[str], cwd: Path = ROOT, env: Mapping[str, str] | None = None, fresh: Sequence[str] = ()
) -> Callable[[], subprocess.CompletedProcess]:
    """Start what `python` runs; what is returned waits for its end."""
    if not hasattr(os, "fork"):
        command = [sys.executable, *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, cwd=cwd, env=env and dict(env), **pipes)

        def ended() -> subprocess.CompletedProcess:
            texts = process.communicate()
            return subprocess.CompletedProcess(words, process.returncode, *texts)

        return ended
    out, err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")  # noqa: SIM115
    child = os.fork()
    if child == 0:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        code = 1
        try:
            code = _run([str(word) for word in words], Path(cwd), env, fresh)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def wait() -> subprocess.CompletedProcess:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with out, err:
            return subprocess.CompletedProcess(words, code, *(one.seek(0) or one.read() for one in (out, err)))

    return wait


def _run(words: list[str], cwd: Path, env: Mapping[str, str] | None, fresh: Sequence[str]) -> int:
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
    sys.excepthook = sys.__excepthook__
    os.chdir(cwd)
    if env is not None:
        os.environ.clear()
        os.environ.update(env)
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in fresh or _is_the_projects(getattr(module, "__file__", None)):
            del sys.modules[name]
    sys.meta_path[:] = [one for one in sys.meta_path if not str(getattr(one, "__module__", "")).startswith("ogkd")]
    place = str(Path(words[0]).resolve().parent) if words[0].endswith(".py") else str(cwd)
    added = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    libraries = [path for path in sys.path if not _is_the_projects(path or os.curdir)]
    sys.path[:] = [place, *filter(None, added), *libraries]
    sys.argv = words if words[0].endswith(".py") else ["-c", *words[2:]]
    try:
        if words[0] == "-c":
            sys.modules["__main__"] = main = types.ModuleType("__main__")
            exec(compile(words[1], "<string>", "exec"), vars(main))
        elif words[0] == "-m":
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def _is_the_projects(path: str | None) -> bool:
    """Whether a path lies in the checkout and is no library of a virtual environment which lies there too."""
    if path is None:
        return False
    place = Path(path).resolve()
    return place.is_relative_to(ROOT) and not place.is_relative_to(Path(sys.prefix).resolve())
