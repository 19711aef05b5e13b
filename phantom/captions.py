"""Captions for pre-training: what is seen, in varied words; the finding's name in some of them only."""

from __future__ import annotations

from numpy.random import Generator

# What can be said of each finding without its name.
SEEN: dict[str, list[str]] = {
    "smooth mass": [
        "a bright round lesion with a sharp even margin",
        "an oval solid nodule",
        "a well circumscribed dense lump",
        "a homogeneous solid lesion with smooth borders",
        "a dense ovoid focus without spikes or lobes",
        "solid tissue in a round shape with a regular outline",
    ],
    "lobulated mass": [
        "a solid lesion with a scalloped outline",
        "a dense lump with several rounded lobes",
        "a wavy bordered bright nodule",
        "a solid focus whose margin undulates",
        "a flower shaped dense lesion",
        "bright tissue with bulging lobules",
    ],
    "spiculated mass": [
        "a dense core with fine rays spreading outward",
        "a stellate lesion",
        "radiating strands around a bright centre",
        "a star shaped focus with spikes",
        "a small solid nodule with pointed extensions",
        "straight lines fanning out of a dense point",
    ],
    "simple cyst": [
        "a dark round hollow with a thin wall",
        "a homogeneous fluid filled space",
        "an empty dark cavity with a clean edge",
        "a low density oval without inner structure",
        "a uniformly black rounded area",
        "clear fluid in a thin walled pocket",
    ],
    "septated cyst": [
        "a dark cavity crossed by thin bright lines",
        "a fluid filled space divided into chambers",
        "fine partitions inside a low density area",
        "a multilocular dark lesion",
        "inner walls that split a hollow",
        "bright threads across a dark pocket",
    ],
    "ring enhancing cyst": [
        "a dark centre with a thick bright rim",
        "a glowing ring around a low density core",
        "a rim of strong enhancement",
        "a hollow lesion with a bright thick wall",
        "a white circle that encloses a dark space",
        "peripheral brightness around a black middle",
    ],
    "clustered calcifications": [
        "many bright specks grouped closely together",
        "a tight collection of white dots",
        "grains crowded in one small spot",
        "a group of punctate densities",
        "tiny bright particles gathered in one place",
        "a dense bunch of small white points",
    ],
    "linear calcifications": [
        "bright specks lined up in a row",
        "a chain of white dots",
        "punctate densities along a line",
        "beads arranged one after another",
        "tiny grains that follow a straight track",
        "a dotted bright streak",
    ],
    "scattered calcifications": [
        "white dots spread over the whole field",
        "isolated bright specks far apart",
        "sparse grains everywhere",
        "randomly distributed punctate densities",
        "tiny bright points all over the organ",
        "single specks without any grouping",
    ],
    "ground glass opacity": [
        "a hazy veil of increased brightness",
        "a cloudy area with faded borders",
        "a diffuse grey haze",
        "a soft misty region without structure",
        "faint brightening that hides nothing beneath",
        "a blurred pale patch",
    ],
    "reticular opacity": [
        "a mesh of fine crossing lines",
        "a net like pattern",
        "interlacing bright strands in one region",
        "a web of thin curved lines",
        "a lattice of thickened septa",
        "tangled threads over an area",
    ],
    "nodular opacity": [
        "many small rounded spots in one region",
        "multiple tiny soft nodules",
        "a patch made of little balls",
        "grouped pea like densities",
        "numerous small blobs side by side",
        "a bumpy field of round foci",
    ],
}
GROUP_WORDS = {
    "mass": ["a solid lesion", "a mass", "a tumour like focus"],
    "cyst": ["a cystic lesion", "a fluid space", "a cyst"],
    "calcification": ["calcium deposits", "calcifications", "bright grains"],
    "opacity": ["an area of opacity", "increased density", "an opacity"],
}
FRAMES = ["{}.", "the scan shows {}.", "there is {}.", "{} is seen.", "findings: {}.", "image of {}.", "note {} here."]
NAME_FRAMES = ["{}.", "{} on this scan.", "a case of {}.", "image with {}.", "consistent with {}.", "impression: {}."]

NAME_SHARE, GROUP_SHARE, WRONG_SHARE = 0.3, 0.15, 0.15


def caption(rng: Generator, name: str, group: str, names: list[str]) -> str:
    """One caption of an image; WRONG_SHARE of them are of another finding, as in captions gathered from reports."""
    if rng.random() < WRONG_SHARE:
        name = names[rng.integers(len(names))]
    seen = SEEN[name][rng.integers(len(SEEN[name]))]
    kind = rng.random()
    if kind < NAME_SHARE:
        text = NAME_FRAMES[rng.integers(len(NAME_FRAMES))].format(name)
        return f"{text} {seen}." if rng.random() < 0.4 else text
    if kind < NAME_SHARE + GROUP_SHARE:
        words = GROUP_WORDS[group]
        return FRAMES[rng.integers(len(FRAMES))].format(words[rng.integers(len(words))])
    return FRAMES[rng.integers(len(FRAMES))].format(seen)
