"""Writes the teacher sentences of the Phantom sets: python -m ogkd.phantom.sentences [--folder prompts]

Each sentence combines two hand-written observations, as a sonographer would note them. They share no text with the
captions of the pre-training, though they share many words, as specialists and captions do.
"""

from __future__ import annotations

import argparse
import json
from itertools import combinations
from pathlib import Path

import numpy as np

from ogkd.phantom.dataset import DATASETS
from ogkd.prompts.check import NEAR_DUPLICATE, content_words, likeness

SENTENCES = 50  # per class

OBSERVATIONS: dict[str, list[str]] = {
    "smooth mass": [
        "a round solid lump with an even margin",
        "a homogeneous echogenic interior",
        "a regular outline on every side",
        "an oval focus without spikes",
        "no lobes along its border",
        "solid tissue rather than fluid",
        "a well circumscribed bright disc",
        "a clean even edge against the organ",
        "a compact hyperechoic lesion of round shape",
        "no rays leaving its margin",
        "one ovoid solid focus",
        "a sharp and regular contour",
        "uniform echoes from edge to edge",
        "surrounding tissue pushed aside",
    ],
    "lobulated mass": [
        "a solid lump with a scalloped outline",
        "several rounded lobes around one centre",
        "notches between bulging lobes",
        "a wavy border without spikes",
        "a flower shaped hyperechoic focus",
        "a margin that undulates all around",
        "petals of solid echogenic tissue",
        "a contour curved in and out",
        "homogeneous bright lobes",
        "no fluid within the lesion",
        "a bulging outline with three to six lobes",
        "a cauliflower like shape",
        "indentations along a solid border",
        "a dense echogenic body with rounded protrusions",
    ],
    "spiculated mass": [
        "a stellate lesion with radiating strands",
        "fine rays from an echogenic core",
        "a star shaped focus",
        "needle like spikes around a small centre",
        "pointed extensions into the organ",
        "straight rays that fan outward",
        "a small solid lump with spikes",
        "a bright point with strands spreading outward",
        "no regular border anywhere",
        "spikes longer than the core is wide",
        "a crab like hyperechoic focus",
        "sunburst lines around a dense point",
        "tapering spikes in all directions",
        "a star with a bright middle",
    ],
    "simple cyst": [
        "an anechoic round hollow",
        "a thin wall around clear fluid",
        "an empty cavity with a clean edge",
        "no inner structure at all",
        "a uniformly echo free oval",
        "a homogeneous fluid filled space",
        "nothing inside the hollow",
        "no chambers and no partitions",
        "a rounded echo free area with a sharp edge",
        "clear fluid without threads",
        "no thick rim or shell",
        "a black empty pocket",
        "fewer echoes than the tissue around",
        "a thin walled fluid pocket",
    ],
    "septated cyst": [
        "a fluid space divided into chambers",
        "thin walls that cross the cavity",
        "fine partitions inside an anechoic area",
        "echogenic threads across a hollow",
        "a multilocular fluid filled lesion",
        "inner walls that split the pocket",
        "two to four chambers of unequal size",
        "crossing threads within clear fluid",
        "partitions from wall to wall",
        "an echo free hollow cut by bright lines",
        "several locules behind one outline",
        "membranes stretched across the fluid",
        "compartments separated by hyperechoic walls",
        "a cavity crossed by straight bands",
    ],
    "ring enhancing cyst": [
        "a thick hyperechoic rim around a core",
        "a bright halo with an anechoic centre",
        "a thick shell and an empty middle",
        "a hollow lesion with a thick bright wall",
        "an echogenic annulus",
        "strong signal along the rim alone",
        "a bright circle that encloses an echo free space",
        "a wall much brighter than its content",
        "no partitions within the core",
        "a closed capsule of bright echoes",
        "a peripheral halo without inner threads",
        "an empty core behind a glowing rim",
        "a complete circle of strong echoes",
        "a doughnut shape of shell and hollow",
    ],
    "clustered calcifications": [
        "many bright specks crowded together",
        "a tight group of punctate foci",
        "grains gathered in one small spot",
        "a compact bunch of echogenic dots",
        "tiny particles closely grouped",
        "crowded points of calcium",
        "a dense collection of small hyperechoic specks",
        "no row and no chain of dots",
        "the rest of the organ free of grains",
        "dots so close that some touch",
        "one small nest of bright grains",
        "a dozen points or more in one place",
        "specks heaped around one centre",
        "a knot of punctate echoes",
    ],
    "linear calcifications": [
        "bright specks lined up in a row",
        "a chain of echogenic dots",
        "beads one after another",
        "grains along a straight track",
        "a dotted hyperechoic streak",
        "punctate foci that follow a duct",
        "a row of evenly spaced points",
        "specks of calcium in single file",
        "no round group of grains",
        "a beaded bright line",
        "a long narrow trail of dots",
        "dots arranged along one gentle curve",
        "a string of pearls appearance",
        "calcium aligned in one direction",
    ],
    "scattered calcifications": [
        "bright dots spread over the whole field",
        "isolated specks far apart",
        "sparse grains everywhere",
        "randomly distributed echogenic points",
        "single specks without any grouping",
        "tiny hyperechoic dots all over the organ",
        "widespread punctate foci",
        "no row and no crowd of grains",
        "wide gaps between the dots",
        "grains from the near to the far field",
        "a dusting of small bright points",
        "calcium without a preferred place",
        "specks in every quadrant",
        "a starry sky of sparse echoes",
    ],
    "ground glass opacity": [
        "a hazy veil over one region",
        "a cloudy area with vague borders",
        "a diffuse haze of brighter echoes",
        "a soft misty patch",
        "faint clouding of the tissue",
        "a blurred echogenic patch",
        "no structure within the haze",
        "a broad cloud with faded borders",
        "vessels still visible beneath the veil",
        "a gentle rise in brightness without an edge",
        "no lines and no balls in the area",
        "a misty region that hides nothing",
        "an even grey fog",
        "a pale smear that fades outwards",
    ],
    "reticular opacity": [
        "a mesh of fine crossing lines in one region",
        "a net like echogenic pattern",
        "interlacing strands in a patch",
        "a web of thin curved lines",
        "a lattice of thickened septa",
        "tangled bright threads over an area",
        "a net of crossing threads",
        "thin hyperechoic strands that meet and part",
        "no haze between the lines",
        "clear tissue within the meshes",
        "a region laced with threads",
        "irregular meshes of bright strands",
        "a spider web within one area",
        "short crossing arcs in a patch",
    ],
    "nodular opacity": [
        "many small rounded spots in one region",
        "a patch made of little balls",
        "numerous small blobs side by side",
        "grouped pea like foci",
        "a bumpy field of round echoes",
        "tiny soft balls of echogenic tissue",
        "pea sized hyperechoic blobs",
        "a cobbled patch of round spots",
        "spots larger than grains of calcium",
        "no lines between the balls",
        "multiple round foci in one area",
        "a bunch of little spheres",
        "blobs of similar size within a region",
        "a mulberry like collection of balls",
    ],
    "no fibrosis": [
        "a clear periphery",
        "an even texture up to the capsule",
        "no strands beneath the capsule",
        "an unremarkable organ",
        "homogeneous echoes throughout",
        "a border free of mesh",
        "no peripheral fringe",
        "an ordinary fine texture",
        "nothing along the edge",
        "a periphery like the middle",
        "no band and no seam of strands",
        "regular tissue from edge to edge",
        "no hyperechoic lines at the border",
        "an unscarred organ",
    ],
    "minimal fibrosis": [
        "a narrow seam of strands at the capsule",
        "short echogenic strands at the outermost edge",
        "a thin peripheral fringe",
        "a fringe confined to the border",
        "mesh only just beneath the capsule",
        "a wide clear middle",
        "a slender bright seam",
        "nearly all of the depth spared",
        "the faintest rim of crossing lines",
        "a seam a few pixels deep",
        "tiny strands that hug the capsule",
        "no band that reaches inwards",
        "an outer edge slightly frayed",
        "the very first signs of scarring",
    ],
    "mild fibrosis": [
        "a shallow peripheral band of mesh",
        "strands that reach a little way inwards",
        "a band about a quarter deep",
        "a large clear middle",
        "a modest echogenic band along the border",
        "mesh deeper than a mere fringe",
        "scarring limited to the outer quarter",
        "a hyperechoic peripheral belt",
        "strands well short of halfway",
        "most of the organ spared",
        "an early belt of crossing lines",
        "a band that leaves a wide middle",
        "a limited depth of mesh",
        "crossing threads in a shallow belt",
    ],
    "moderate fibrosis": [
        "a broad band of mesh",
        "strands that reach halfway to the middle",
        "a small clear middle",
        "mesh over half of the depth",
        "a deep peripheral band of echoes",
        "only the middle spared",
        "a broad hyperechoic belt",
        "scarring from the capsule to halfway",
        "a wide zone of crossing strands",
        "a shrunken island of clear tissue",
        "threads through the outer half",
        "a thick belt of bright lines",
        "half of the tissue replaced",
        "a band far deeper than a quarter",
    ],
    "severe fibrosis": [
        "mesh through the whole organ",
        "strands from the capsule to the middle",
        "an echogenic network everywhere",
        "no clear tissue left",
        "the entire organ replaced by strands",
        "nothing spared by the mesh",
        "crossing lines at every depth",
        "a hyperechoic lattice without a gap",
        "a middle as scarred as the border",
        "the whole depth filled by threads",
        "no island of ordinary texture",
        "end stage scarring throughout",
        "a complete net of bright strands",
        "a dense web in all parts",
    ],
}
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
