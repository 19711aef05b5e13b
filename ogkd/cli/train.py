"""Train or test one method on one data set: the entry point of a run, with CoOp's arguments."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ogkd.core import UserError
from ogkd.runs.spec import RunSpec


def main(argv: Sequence[str] | None = None) -> dict | None:
    """Execute one run and return the content of its results.json (None with --no-train).

    Raises:
        UserError: something that the user can fix; the message is one sentence.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if {"-h", "--help"} & {*words} and "--trainer" in words[:-1]:
        print(_options(words[words.index("--trainer") + 1]))
        return None
    spec = RunSpec.parse(words)
    from ogkd.runs.execute import execute

    return execute(spec)


def _options(name: str) -> str:
    """The options of a method, for --trainer NAME --help."""
    from ogkd.evaluation.methods import named
    from ogkd.runs.registry import is_built_here, method_class

    if not is_built_here(name):
        raise UserError(f"{name} was written for CoOp's code base: its options are in its own files.")
    return method_class(name).options.help(f"TRAINER.{named(name).upper()}")
