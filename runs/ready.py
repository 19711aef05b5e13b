"""What runs need, checked once before many of them are started."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from clip.errors import MissingWeights
from clip.registry import locate
from clip.sources import BIOMEDCLIP
from dassl.utils import UserError
from datasets.catalogue import Facts
from runs.protocols import is_there
from runs.spec import RunSpec


def check_ready(specs: Iterable[RunSpec]) -> None:
    """Fetch the weights that the runs need where they are not on this machine, and look for the data sets.

    Raises:
        UserError: a data set is not there, or weights are not to be had; one sentence for all of them.
    """
    specs = list(specs)
    missing = {
        spec.facts.name: (spec.facts, spec.data)
        for spec in specs
        if spec.facts is not None and not is_there(spec.dataset, Path(spec.data))
    }
    if missing:
        facts, (data, *_) = zip(*missing.values(), strict=True)
        raise UserError(f"{', '.join(missing)} {_are(facts)} not in {data}: {_remedy(facts, data)}.")
    for backbone in dict.fromkeys(spec.backbone for spec in specs if spec.backbone):
        try:
            locate(backbone)
        except MissingWeights as error:
            raise with_remedy(error) from error


def with_remedy(error: MissingWeights) -> UserError:
    """The error, with the command that fetches the weights where there is one."""
    if error.repository not in (BIOMEDCLIP.name, BIOMEDCLIP.tokenizer):
        return error
    return UserError(f"{error} `python scripts/download.py weights` fetches them.")


def _are(facts: tuple[Facts, ...]) -> str:
    return "are" if len(facts) > 1 else "is"


def _remedy(facts: tuple[Facts, ...], data: str) -> str:
    if len(facts) == 1:
        return facts[0].remedy(data)
    names = " ".join(one.config for one in facts if one.zip_name)
    fetched = f"`python scripts/download.py {names} --root {data}` fetches " if names else ""
    others = [one.name for one in facts if not one.zip_name]
    by_hand = f"put {', '.join(others)} there" if others else ""
    known = f"{fetched}{'those that can be fetched' if by_hand else 'them'}" if fetched else ""
    return ", ".join(filter(None, [known, by_hand, "or name the data sets that are there"]))
