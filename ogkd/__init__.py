"""Few-shot prompt tuning of frozen biomedical vision-language models: OGKD and its baselines.

`from ogkd import PromptClassifier` trains and predicts from Python; `ogkd --help` lists the commands. In anybody's CoOp
checkout, `import ogkd.trainers` and `ogkd.extend_cfg(cfg)` register the methods with Dassl and add their options.

The package uses the names of Dassl (`dassl`) and OpenAI's CLIP (`clip`): those that are installed or beside the
program, else the ones that come with it.
"""

from __future__ import annotations

import importlib
import sys

from ogkd.core.places import HOME, IN_CHECKOUT, PACKAGE

__version__ = "0.3.0"  # also in pyproject.toml and CITATION.cff

if IN_CHECKOUT:
    from ogkd.core.former import FORMER, alias

    __path__.append(str(HOME))  # trainers/ is ogkd.trainers, as in the installed package
    alias(FORMER, warn=True)
elif str(PACKAGE / "standins") not in sys.path:
    sys.path.append(str(PACKAGE / "standins"))  # last, so that an installed Dassl or CLIP comes first

_LAZY = {
    "PromptClassifier": "ogkd.predict.classifier",
    "Predictor": "ogkd.predict.predictor",
    "RunSpec": "ogkd.runs.spec",
    "embed": "ogkd.predict.embed",
    "extend_cfg": "ogkd.checkout",
    "load_prompt": "ogkd.predict.export",
}
__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
