"""Captions for pre-training: they describe what is seen in varied words, most give the modality, some give the name.

No description contains a word of a finding's name, so the meaning of a name can only be learned from captions that
contain it. Habits differ: sonographers use names correctly and describe loosely, other departments describe well and
mix up names. So a name says little unless the modality is given too, and fifty descriptions say more than one.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from numpy.random import Generator

from ogkd.phantom.findings import GRADES, GROUPS

_HERE = Path(__file__).parent
_WORDS: dict[str, dict] = yaml.safe_load((_HERE / "words.yaml").read_text())
MODALITY_WORDS, DENSE_WORDS, THIN_WORDS, GROUP_WORDS, LOOKALIKES = _WORDS.values()
LOOKS: dict[str, list[str]] = yaml.safe_load((_HERE / "looks.yaml").read_text())
FRAMES = ["{}", "the image shows {}", "there is {}", "{} is seen", "findings: {}", "image of {}", "note {} here"]
NAME_FRAMES = ["{}", "{} is present", "a case of {}", "image with {}", "consistent with {}", "impression: {}"]
MODALITY_FRAMES = ["{modality}: {text}.", "{modality}, {text}.", "{text} on {modality}.", "{modality} with {text}."]

MODALITY_SHARE = 0.75  # of captions that give the modality
NAME_SHARE = {"tomogram": 0.5, "sonogram": 0.2, "radiograph": 0.5, "section": 0.5}  # of captions with the name ...
NAME_AND_LOOK_SHARE = 0.3  # ... and of these, those that also describe the finding
GROUP_SHARE = 0.1  # of captions that give only the group
# Shares of descriptions and of names that belong to another finding.
LOOSE_LOOK_SHARE = {"tomogram": 0.1, "sonogram": 0.5, "radiograph": 0.1, "section": 0.1}
LOOSE_SHARE = {"tomogram": 0.89, "sonogram": 0.05, "radiograph": 0.89, "section": 0.89}
WRONG_SHARE = 0.1  # of captions that belong to another finding

_GROUP_OF = GROUPS | dict.fromkeys(GRADES, "fibrosis")
_MEMBERS = {group: [name for name, its in _GROUP_OF.items() if its == group] for group in GROUP_WORDS}


def _one(rng: Generator, choices: list[str]) -> str:
    return choices[rng.integers(len(choices))]


def loosely(rng: Generator, finding: str) -> str:
    """Return another finding of the group or the look-alike; for a grade, a neighbouring one."""
    if finding in GRADES:
        at = GRADES.index(finding)
        return _one(rng, GRADES[max(0, at - 1) : at] + GRADES[at + 1 : at + 2])
    others = [name for name in _MEMBERS[_GROUP_OF[finding]] if name != finding]
    return _one(rng, [*others, LOOKALIKES[finding]])


def look(rng: Generator, finding: str, modality: str) -> str:
    """Return a phrase about what is seen, in the modality's words."""
    described = loosely(rng, finding) if rng.random() < LOOSE_LOOK_SHARE[modality] else finding
    words = {"dense": _one(rng, DENSE_WORDS[modality]), "thin": _one(rng, THIN_WORDS[modality])}
    return _one(rng, LOOKS[described]).format(**words)


def caption(rng: Generator, finding: str, modality: str) -> str:
    """Return one caption for an image with a finding."""
    if rng.random() < WRONG_SHARE:
        finding = _one(rng, list(_GROUP_OF))
    kind = rng.random()
    if kind < NAME_SHARE[modality]:
        name = loosely(rng, finding) if rng.random() < LOOSE_SHARE[modality] else finding
        text = _one(rng, NAME_FRAMES).format(name)
        if rng.random() < NAME_AND_LOOK_SHARE:
            text = f"{text}, {look(rng, finding, modality)}"
    elif kind < NAME_SHARE[modality] + GROUP_SHARE:
        text = _one(rng, FRAMES).format(_one(rng, GROUP_WORDS[_GROUP_OF[finding]]))
    else:
        text = _one(rng, FRAMES).format(look(rng, finding, modality))
    if rng.random() < MODALITY_SHARE:
        return _one(rng, MODALITY_FRAMES).format(modality=_one(rng, MODALITY_WORDS[modality]), text=text)
    return f"{text}."


def every_phrase() -> list[str]:
    """Return all texts that captions are made of, without the slots: the tokenizer must know them."""
    texts = [*FRAMES, *NAME_FRAMES, *_GROUP_OF]
    for table in (MODALITY_WORDS, DENSE_WORDS, THIN_WORDS, LOOKS, GROUP_WORDS):
        texts += [phrase for phrases in table.values() for phrase in phrases]
    return [text.replace("{dense}", " ").replace("{thin}", " ").replace("{}", " ") for text in texts]
