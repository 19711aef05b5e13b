"""A method's options: each has one default, one range and one sentence; checks, help and tables derive from them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from ogkd.core.schema import Rule, number, one_of


@dataclass(frozen=True)
class Option:
    """One option: its default, a sentence, and which values of the default's type are valid.

    A number is finite with least <= value <= most and above < value < below. A word is one of `choices`, if there are
    any. `check` takes a value and raises UserError for what a range cannot say. `tune`: the range that a search draws
    the option from; None: it is not searched.
    """

    default: Any
    doc: str = ""
    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    choices: tuple[str, ...] = ()
    check: Callable[[Any], object] | None = None
    tune: tuple[float, float] | None = None

    @property
    def range(self) -> str:
        """The valid values in words; "" where any value of the type is."""
        if self.choices:
            return one_of(*self.choices).description
        bounds = (self.least, self.most, self.above, self.below)
        return self._number.description if self._is_number and any(map(math.isfinite, bounds)) else ""

    def validate(self, name: str, value: object) -> None:
        """Raise UserError, with the option's name, its value and the range, unless the value is valid."""
        if self.choices:
            one_of(*self.choices).check(f"The option {name}", value)
        elif self._is_number:
            self._number.check(f"The option {name}", value)
        if self.check is not None:
            self.check(value)

    @property
    def _is_number(self) -> bool:
        return isinstance(self.default, (int, float)) and not isinstance(self.default, bool)

    @property
    def _number(self) -> Rule:
        return number(self.least, self.most, self.above, self.below)


class Options(Mapping[str, Option]):
    """The options of a method by name: Options(TAU=Option(1.5, "...", above=0)); `|` adds those of another."""

    def __init__(self, **options: Option) -> None:
        self._options = options

    if TYPE_CHECKING:  # a method's `options` are Options of the class, but values by name of an instance

        def __getattr__(self, name: str) -> Any: ...

    def __getitem__(self, name: str) -> Option:
        return self._options[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._options)

    def __len__(self) -> int:
        return len(self._options)

    def __or__(self, other: Options) -> Options:
        return Options(**{**self, **other})

    def but(self, **defaults: object) -> Options:
        """These options with other defaults."""
        return self | Options(**{name: dataclasses.replace(self[name], default=new) for name, new in defaults.items()})

    def without(self, *names: str) -> Options:
        """These options without some."""
        return Options(**{name: option for name, option in self.items() if name not in names})

    def defaults(self) -> dict[str, Any]:
        """The default of each option; the section TRAINER.<NAME> of the configuration."""
        return {name: option.default for name, option in self.items()}

    def check(self, values: Mapping[str, object]) -> None:
        """Raise UserError if a value is invalid."""
        for name, option in self.items():
            option.validate(name, values[name])

    def help(self, section: str) -> str:
        """A line per option: its key, its default, its sentence and its range."""
        rows = [
            (f"{section}.{name}", repr(option.default), "; ".join(filter(None, [option.doc, option.range])))
            for name, option in self.items()
        ]
        return tabulate(rows, tablefmt="plain", disable_numparse=True)
