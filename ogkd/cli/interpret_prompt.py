"""Print the words of the vocabulary nearest to each learned context vector.

RUN is a run folder, or any folder with a subfolder that has a checkpoint from CoOp's code base. A learned vector need
not be near any word: the distances show how near these words are.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ogkd.core import UserError
from ogkd.runs.protocols import Places, integer


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("run", metavar="RUN", type=Path)
    p.add_argument("--words", default="5", help="number of words per vector (default: 5)")
    p.add_argument("--distance", choices=("euclidean", "cosine"), default="euclidean", help="default: euclidean")
    p.add_argument("--epoch", type=int, help="default: the best by validation if it was kept, else the newest")
    p.add_argument("--backbone", default="", help="default: the run's own, else BACKBONE, else BiomedCLIP")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    number = integer(args.words, "--words", 1)

    from ogkd import models
    from ogkd.predict.interpret import backbone_of, class_names_of, learned_contexts, nearest_words

    contexts = learned_contexts(args.run, args.epoch)
    model = models.load(args.backbone or backbone_of(args.run) or Places().backbone_for(""), "cpu")
    *_, n_ctx, width = contexts.shape
    if width != model.context_width:
        raise UserError(
            f"The context vectors in {args.run} have {width} numbers and the words of {model.name} have "
            f"{model.context_width}: give the backbone that they were trained with by --backbone."
        )
    words = nearest_words(contexts.reshape(-1, width), model, number, args.distance)
    names = class_names_of(args.run, len(contexts)) if contexts.dim() == 3 else [""]
    print(f"Nearest of {len(model.vocabulary())} words of {model.name}, with {args.distance} distances")
    for place, name in enumerate(names):
        if name:
            print(f"{name}:")
        for vector, near in enumerate(words[place * n_ctx : (place + 1) * n_ctx], 1):
            print(f"{vector}: " + ", ".join(f"{word} {distance:.4f}" for word, distance in near))
