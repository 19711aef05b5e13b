"""Train or test one method on one data set: the entry point of a run, with CoOp's arguments."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ogkd.core.garbage import no_collection
from ogkd.runs.spec import RunSpec


def main(argv: Sequence[str] | None = None) -> dict | None:
    """Execute one run and return the content of its results.json (None with --no-train).

    Raises:
        UserError: something that the user can fix; the message is one sentence.
    """
    spec = RunSpec.parse(sys.argv[1:] if argv is None else argv)
    with no_collection():
        from ogkd.runs.execute import execute
        from ogkd.runs.registry import register_everything

        register_everything()

    return execute(spec)
