"""Prompt-tuning methods and their baselines, one per file; importing the package defines all of them.

ogkd/tuning/registration.py registers them with Dassl. A file that cannot be imported is reported and named in `FAILED`,
and its methods are not offered; the others are.
"""

import importlib
import pkgutil
import re
import sys
from pathlib import Path

FAILED: dict[str, str] = {}
"""For each class of a file that cannot be imported, a sentence that says why."""


def _import(name: str) -> None:
    from ogkd.tuning.registration import METHODS

    try:
        importlib.import_module(f"{__name__}.{name}")
    except (Exception, SystemExit) as error:  # a file of one's own may raise anything; the rest must still work
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"warning: trainers/{name}.py is not used, its import failed ({reason})", file=sys.stderr)
        text = (Path(__path__[0]) / f"{name}.py").read_text(encoding="utf-8", errors="ignore")
        for method in re.findall(r"^class (\w+)", text, re.MULTILINE):
            FAILED[method] = (
                f"The trainer {method} of trainers/{name}.py cannot be used: the import failed ({reason}). Fix that "
                "file."
            )
        for key, registered in list(METHODS.items()):
            if registered.__module__ == f"{__name__}.{name}":
                del METHODS[key]


if __name__ == "ogkd.trainers":
    for _module in pkgutil.iter_modules(__path__):
        _import(_module.name)
else:  # CoOp's name for it
    from ogkd.core.former import alias

    alias({"trainers": "ogkd.trainers"})
    sys.modules[__name__] = importlib.import_module("ogkd.trainers")
