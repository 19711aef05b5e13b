"""What is found about a data set, by what follows from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ogkd.core import UserError
from ogkd.core.words import sentence


@dataclass(kw_only=True)
class Findings:
    """Phrases without a full stop."""

    faults: list[str] = field(default_factory=list)  # what to mend before training
    warnings: list[str] = field(default_factory=list)  # what readers of a result must know
    notes: list[str] = field(default_factory=list)  # what is as it should be, but worth knowing

    def check(self) -> None:
        """Raise UserError with all faults."""
        if self.faults:
            raise UserError("\n  ".join(sentences(self.faults)))

    def lines(self) -> list[str]:
        """What a program prints: faults last."""
        kinds = (("note", self.notes), ("warning", self.warnings), ("FAULT", self.faults))
        return [f"{kind}: {line}" for kind, phrases in kinds for line in sentences(phrases)]


def sentences(phrases: Iterable[str]) -> list[str]:
    """Write phrases as sentences."""
    return [*map(sentence, phrases)]
