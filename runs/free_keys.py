"""Configurations of trainers written for CoOp's code base, which read keys that nobody here knows.

CoOp's train.py makes such keys by hand for each trainer. Here any key may be given, by the trainer's YAML file or on
the command line, and one that is read but was not given is an error that names it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from yacs.config import CfgNode

from dassl.utils import MissingKey

EXAMPLES = {"N_CTX": "16", "CTX_INIT": '"a photo of a"', "PREC": "fp32", "CSC": "False", "CLASS_TOKEN_POSITION": "end"}
"""Values that CoOp's own configuration files give."""


class AskingNode(CfgNode):
    """A configuration that answers for a key that it lacks with what to do; `hasattr` and `getattr` work as usual."""

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
            f"The trainer reads the configuration's key {key}, which nobody gave: write it into the YAML file that "
            f"--config-file names, or put it at the end of the command line, for example {pair}."
        )


def asking(cfg: CfgNode) -> AskingNode:
    """The same configuration, in nodes that know where they stand."""
    return AskingNode(_plain(cfg))


def _plain(node: Any) -> Any:
    return {key: _plain(value) for key, value in node.items()} if isinstance(node, dict) else node


def allow_new_keys(cfg: CfgNode, known: Collection[str]) -> None:
    """Let what is merged next bring any key of TRAINER, and sections that are not `known` here.

    In the known sections an unknown key stays an error: it is a slip.
    """
    cfg.__dict__[CfgNode.NEW_ALLOWED] = True  # of the top alone; set_new_allowed is for a whole tree
    for name, node in cfg.items():
        if isinstance(node, CfgNode) and (name == "TRAINER" or name not in known):
            node.set_new_allowed(True)
