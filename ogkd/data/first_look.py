"""What the sizes, numbers and names of images give reason to doubt, without comparing pictures."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from ogkd.core.opening import Look
from ogkd.core.places import command
from ogkd.core.words import tally

FEWEST = 3  # images per class: one each to train, validate and test
FEW, SMALL = 10, 64  # images of a class, and pixels along an edge, below which there is a warning
SHORTEST = 5  # frames of a series
BY_NAME = r"--patients '(.*?)_?\d+\D*$' --replace"  # splits by what comes before the last number of a name


def small(classes: Mapping[str, Sequence[Look]], named: bool = True) -> list[str]:
    """Return phrases about classes of few images, and images of few pixels or nearly one colour; with the first of the
    files if `named`."""
    of = {name: sum(not look.problem for look in looks) for name, looks in classes.items()}
    few = [f"{name}: {number}" for name, number in of.items() if FEWEST <= number < FEW]
    sound = [look for looks in classes.values() for look in looks if not look.problem and not look.blank]
    tiny = [look.path for look in sound if min(look.size) < SMALL]
    images = [
        *tally(f"images of fewer than {SMALL} pixels a side, which are enlarged for the model", tiny),
        *tally("images of nearly one colour", [look.path for look in sound if look.flat]),
    ]
    if not named:
        images = [f"{phrase.partition(' (')[0]} (see {command('check-data')})" for phrase in images]
    return [*tally(f"classes of fewer than {FEW} images, about which the results will say little", few), *images]


def numbered(paths: Sequence[str]) -> dict[str, list[int]]:
    """Return what comes before the last number of a name -> the places of such images, in the order of the number, if
    they are enough for a series."""
    series_of: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for place, path in enumerate(paths):
        folder, slash, name = path.rpartition("/")
        if match := re.search(r"(\d+)(?=\D*$)", name.rpartition(".")[0]):
            series_of[folder + slash + name[: match.start()]].append((int(match[1]), place))
    return {before: [place for _, place in sorted(of)] for before, of in series_of.items() if len(of) >= SHORTEST}


def divided_by_name(
    classes: Mapping[str, Sequence[Look]], parts: Mapping[str, str], patients: Mapping[str, str]
) -> list[str]:
    """Return a phrase about series in several parts of a split, image -> part; [] if names speak of none.

    They do if they number both the series and its images (v1_001, v2_001). Images whose patient is known do not count.
    """
    series: list[list[str]] = []
    for looks in classes.values():
        paths = [look.path for look in looks if not patients.get(look.path)]
        alike: dict[str, list[list[str]]] = defaultdict(list)  # by the name without its numbers
        for before, places in numbered(paths).items():
            alike[re.sub(r"\d+", "#", before)].append([paths[place] for place in places])
        series += [one for of in alike.values() if len(of) > 1 for one in of]
    divided = sum(len({parts[path] for path in one if path in parts}) > 1 for one in series)
    phrase = (
        f"{divided} of {len(series)} series of images, by their names such as frames of videos, were divided between "
        "parts of the split: if each series is of one patient, the test has been seen in training, and "
        f"{command('split')} FOLDER {BY_NAME} makes a split that keeps them together"
    )
    return [phrase] if divided else []
