"""Checks what runs need, once, before many of them are started."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ogkd.core import UserError
from ogkd.core.places import command
from ogkd.data.catalogue import Facts
from ogkd.models.errors import MissingWeights
from ogkd.models.sources import BIOMEDCLIP, locate
from ogkd.runs.protocols import is_there
from ogkd.runs.spec import RunSpec


def check_ready(specs: Iterable[RunSpec]) -> None:
    """Check that the data sets of the runs are there, and fetch weights that are not on this machine.

    Raises:
        UserError: data sets are missing, or weights cannot be fetched; one sentence covers all of them.
    """
    specs = list(specs)
    missing = {
        spec.facts.name: (spec.facts, spec.data)
        for spec in specs
        if spec.facts is not None and not is_there(spec.dataset, Path(spec.data))
    }
    if missing:
        facts, (data, *_) = zip(*missing.values(), strict=True)
        raise UserError(f"{', '.join(missing)} {'are' if facts[1:] else 'is'} not in {data}: {_remedy(facts, data)}.")
    for backbone in dict.fromkeys(spec.backbone for spec in specs if spec.backbone):
        try:
            locate(backbone)
        except MissingWeights as error:
            raise with_remedy(error) from error


def with_remedy(error: MissingWeights) -> UserError:
    """The error, with the command that fetches the weights if there is one."""
    if error.repository not in (BIOMEDCLIP.name, BIOMEDCLIP.tokenizer):
        return error
    return UserError(f"{error} `{command('download', 'weights')}` fetches them.")


def _remedy(facts: Sequence[Facts], data: str) -> str:
    """Say how to get the files of the data sets."""
    if len(facts) == 1:
        return facts[0].remedy(data)
    names = [one.config for one in facts if one.zip_name]
    others = ", ".join(one.name for one in facts if not one.zip_name)
    fetch = (
        f"`{command('download', *names, '--root', data)}` fetches {'those that can be fetched' if others else 'them'}"
    )
    parts = [*([fetch] if names else []), *([f"put {others} there"] if others else [])]
    return ", ".join([*parts, "or name the data sets that are there"])
