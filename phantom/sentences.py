"""Writes the teacher sentences of the Phantom sets: python -m phantom.sentences [--folder ogkd/prompts]

Each sentence combines two hand-written observations (observations.yaml), as a sonographer would note them. They share
no text with the captions of the pre-training, though they share many words, as specialists and captions do.
"""

from __future__ import annotations

import argparse
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import yaml

from ogkd.phantom.dataset import DATASETS
from ogkd.prompts.check import NEAR_DUPLICATE, content_words, likeness

SENTENCES = 50  # per class

OBSERVATIONS: dict[str, list[str]] = yaml.safe_load((Path(__file__).parent / "observations.yaml").read_text())
FORMS = {
    "Phantom": [
        "Ultrasound of {name}: {one}, {two}.",
        "A sonogram with {one} and {two}, consistent with {name}.",
        "On ultrasound, {name} is seen as {one}, {two}.",
        "B mode ultrasound: {one}, {two}, findings of {name}.",
        "This sonographic view has {one} and {two}: {name}.",
    ],
    "PhantomShift": [
        "A sonogram of {name} with {one} and {two}.",
        "Ultrasound from another scanner: {one}, {two}, consistent with {name}.",
        "In b mode ultrasound {name} has {one}, and {two}.",
        "Findings of this ultrasound scan: {one}, {two}, a case of {name}.",
        "A noisy sonographic view of {name}: {one}, {two}.",
    ],
}
FORMS["PhantomGrades"] = FORMS["Phantom"]


def compose(name: str, forms: list[str], seed: int) -> list[str]:
    """Compose SENTENCES sentences about a class, no two of them near-duplicates."""
    pairs = list(combinations(OBSERVATIONS[name], 2))
    made: list[str] = []
    words: list[list[str]] = []
    for at in np.random.default_rng(seed).permutation(len(pairs)):
        one, two = pairs[at]
        sentence = forms[len(made) % len(forms)].format(name=name, one=one, two=two)
        sentence = sentence[0].upper() + sentence[1:]
        content = content_words(sentence, name)
        if all(likeness(content, other) < NEAR_DUPLICATE for other in words):
            made.append(sentence)
            words.append(content)
        if len(made) == SENTENCES:
            return made
    raise ValueError(f"{name} has too few observations for {SENTENCES} different sentences: {len(made)}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("ogkd/prompts"))
    args = parser.parse_args()
    for data in DATASETS.values():
        bank = {name: compose(name, FORMS[data.folder], seed) for seed, name in enumerate(data.classes)}
        path = args.folder / f"{data.folder}.json"
        path.write_text(json.dumps(bank, indent=1) + "\n", encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
