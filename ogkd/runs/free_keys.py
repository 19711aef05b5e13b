"""Configurations of trainers written for CoOp's code base, which read keys that this project does not define.

CoOp's train.py defines such keys by hand for each trainer. Here any key may be set in the trainer's YAML file or on the
command line; reading a key that was not set is an error that names the key.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from yacs.config import CfgNode

from ogkd.core import MissingKey

EXAMPLES = {"N_CTX": "16", "CTX_INIT": '"a photo of a"', "PREC": "fp32", "CSC": "False", "CLASS_TOKEN_POSITION": "end"}
"""Values from CoOp's own configuration files, as examples."""


class FreeNode(CfgNode):
    """A configuration whose error for a missing key says what to do; `hasattr` and `getattr` work as usual."""

    def __init__(self, init_dict: dict | None = None, key_list: list | None = None, new_allowed: bool = False) -> None:
        super().__init__(init_dict, key_list, new_allowed)
        self.__dict__["place"] = ".".join(key_list or [])

    def __getattr__(self, name: str) -> object:
        if name in self:
            return self[name]
        key = f"{self.__dict__.get('place', '')}.{name}".removeprefix(".")
        is_section = key.count(".") == key.startswith("TRAINER.")
        pair = f"{key}.N_CTX {EXAMPLES['N_CTX']}" if is_section else f"{key} {EXAMPLES.get(name, 'VALUE')}"
        raise MissingKey(
            f"The trainer reads the configuration key {key}, which was not set: set it in the YAML file given by "
            f"--config-file, or at the end of the command line, for example {pair}."
        )


def free_node(cfg: CfgNode) -> FreeNode:
    """The same configuration as FreeNodes, which know their own dotted key."""
    return FreeNode(_plain(cfg))


def _plain(node: Any) -> Any:
    return {key: _plain(value) for key, value in node.items()} if isinstance(node, dict) else node


def allow_new_keys(cfg: CfgNode, known: Collection[str], own: Collection[str]) -> None:
    """Allow the next merge to add any key to TRAINER, sections that are not `known`, and keys in `own` anywhere.

    Another key in a known section is still an error, since it is probably a typo: the trainer's source lacks it.
    """
    cfg.__dict__[CfgNode.NEW_ALLOWED] = True  # only for the top level; set_new_allowed applies to a whole tree
    for name, node in cfg.items():
        if isinstance(node, CfgNode):
            if name == "TRAINER" or name not in known:
                node.set_new_allowed(True)
            _allow(node, own)


def _allow(node: CfgNode, own: Collection[str]) -> None:
    node.__dict__["own"] = own
    for inner in node.values():
        if isinstance(inner, CfgNode):
            _allow(inner, own)


def is_allowed(node: CfgNode, key: str) -> bool:
    """Whether `allow_new_keys` allows a new key in a section."""
    return node.is_new_allowed() or key in node.__dict__.get("own", ())
