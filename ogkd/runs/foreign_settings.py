"""What the code base of a trainer in plugins/ says about its configuration, read from its source and never run."""

from __future__ import annotations

import ast
import contextlib
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ogkd.core import UserError
from ogkd.runs.plugins import PACKAGE, PARTS, plugin_of

TRAIN = "train.py"


@dataclass(frozen=True)
class ForeignSettings:
    """The settings of a trainer's code base.

    words: every word of its source, among them the keys and values that it defines itself.
    checkout: the checkout's folder in plugins/, if the plugin is one.
    defaults: the plain values that extend_cfg of the checkout's train.py gives to dotted keys.
    left_out: what that train.py sets besides, for instance by data set: dotted keys and calls, in order.
    """

    words: frozenset[str]
    checkout: Path | None = None
    defaults: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """A note on what the checkout sets and this run does not."""
        if self.checkout is None or not self.left_out:
            return []
        what = ", ".join(self.left_out)
        return [
            f"{PACKAGE}/{self.checkout.name}/{TRAIN} is not run, only its plain defaults are used: {what} must come "
            "from the YAML file or KEY VALUE pairs."
        ]


def settings_of(method: type) -> ForeignSettings:
    """Read the settings of a trainer's code base.

    Raises:
        UserError: its train.py is not Python.
    """
    plugin = plugin_of(method)
    if plugin is None or plugin.is_file():
        file = getattr(sys.modules.get(method.__module__), "__file__", None)
        return ForeignSettings(_words([Path(file)] if file else []))
    parts = [plugin / part for part in PARTS if (plugin / part).is_dir()]
    files = [file for folder in parts or [plugin] for file in folder.rglob("*.py")]
    train = plugin / TRAIN
    if not parts:
        return ForeignSettings(_words(files))
    if not train.is_file():
        return ForeignSettings(_words(files), plugin, left_out=["what it sets (it was not copied here)"])
    try:
        tree = ast.parse(train.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{train} is not Python ({error}): correct it, or remove it from the plugin.") from None
    defaults: dict[str, Any] = {}
    left_out: list[str] = []
    for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
        for node in ast.walk(function):
            key, value = _setting(node)
            if value is not None and function.name == "extend_cfg" and node in function.body:
                with contextlib.suppress(ValueError):
                    defaults[key] = ast.literal_eval(value)
                    continue
            left_out += [key] if key else []
    return ForeignSettings(_words([*files, train]), plugin, defaults, list(dict.fromkeys(left_out)))


def _words(files: list[Path]) -> frozenset[str]:
    texts = (file.read_text(encoding="utf-8", errors="ignore") for file in files)
    return frozenset(word for text in texts for word in re.findall(r"\w+", text))


def _setting(node: ast.AST) -> tuple[str, ast.expr | None]:
    """The dotted key that a statement sets and its value; a call that merges others, and None; else ("", None).

    New sections and what the arguments give do not count.
    """
    text = ast.unparse(node)
    if isinstance(node, ast.Assign):
        match = re.match(r"cfg\.([A-Z][\w.]*) = (?!C(fg)?N(ode)?\()(?!.*\bargs\b)", text)
        return (match[1], node.value) if match else ("", None)
    is_merge = isinstance(node, ast.Call) and text.startswith("cfg.merge_from_") and not re.search(r"\bargs\b", text)
    return text if is_merge else "", None
