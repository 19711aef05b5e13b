"""Test what a run learned on corrupted copies of its test images: `ogkd corrupt RUN [--kinds ...] [--levels ...]`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ogkd.core import UserError, did_you_mean
from ogkd.core.places import command
from ogkd.core.words import counted
from ogkd.data import catalogue
from ogkd.data.corruptions import KINDS, LEVELS, RECIPES, Recipe, recipe_for
from ogkd.evaluation.collect import Run, read_run
from ogkd.evaluation.corrupted import FOLDER
from ogkd.evaluation.tested import image_folder
from ogkd.predict.operating import add_model_arguments
from ogkd.runs.protocols import seeds_of


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog=command("corrupt"),
        description="Test a finished run on corrupted copies of its test images: noise, blur, compression and what "
        "else the modality knows, in MedMNIST-C's five strengths. Nothing is trained, and only the folder "
        f"RUN/{FOLDER} is written. A test that is stopped goes on where it was. Research software, not a medical "
        "device.",
    )
    p.add_argument("run", metavar="RUN", type=Path, help="the folder of a finished run that trained")
    p.add_argument("--kinds", nargs="+", metavar="KIND", help=f"some of {', '.join(KINDS)} (default: the modality's)")
    p.add_argument("--levels", default="1-5", metavar="N", help="1, 1-5 or 1,3,5 (default: 1-5)")
    p.add_argument(
        "--modality", metavar="NAME",
        help=f"of own images: {', '.join(recipe.modality for recipe in RECIPES)} (default: the data set's)",
    )  # fmt: skip
    p.add_argument("--images", type=Path, metavar="FOLDER", help="where the images are (default: as trained)")
    p.add_argument("--seed", type=int, default=0, help="of the corruptions' random numbers (default: 0)")
    add_model_arguments(p)
    p.add_argument("--show", type=Path, metavar="FILE", help="only write a picture of one image, corrupted (.png)")
    p.add_argument("--rerun", action="store_true", help="test these again; a test with other settings is removed")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Raises UserError for what the user can fix."""
    args = parser().parse_args(argv)
    if not args.run.is_dir():
        raise UserError(f"There is no folder {args.run}: give a finished run's folder.")
    levels = levels_in(args.levels)
    run = read_run(args.run)
    if not (args.run / "predictions.npz").is_file():
        raise UserError(f"{args.run} stored no predictions of its test: test the run again.")
    recipe = recipe_for(args.modality or modality_of(run))
    parts = [(kind, level) for kind in kinds_in(args.kinds, recipe) for level in levels]
    images = args.images or image_folder(run)
    if images is None or not images.is_dir():
        raise UserError(f"The images of {run.dataset} are not where {args.run} was trained: give --images FOLDER.")

    # only now, so that wrong arguments are reported before PyTorch is loaded
    from ogkd.predict.corrupting import Corruptor
    from ogkd.predict.predictor import Predictor
    from ogkd.predict.trained import from_run
    from ogkd.reports.corruptions import corruption_tables
    from ogkd.reports.render import document
    from ogkd.runs.execute import threads_for

    prompt = from_run(args.run)
    with threads_for(prompt.backbone):
        tester = Corruptor(args.run, Predictor(prompt, backbone=args.backbone), images, recipe, args.seed, args.batch)
        height, width = tester.size
        print(f"Corruptions of {recipe.modality} (strengths of {recipe.origin}) on {width} x {height} pixels.")
        if args.show:
            tester.sheet(parts, args.show)
            print(args.show)
            return
        todo = tester.todo(parts, args.rerun)
        number = len(tester.clean)
        print(
            f"{counted(number, 'image')} x {counted(len({kind for kind, _ in parts}), 'kind')} x "
            f"{counted(len(levels), 'level')}: {counted(number * len(todo), 'image')} to test"
            + (f", in about {duration(tester.estimate(todo))}." if todo else ": all are stored.")
        )
        tester.test(parts, args.rerun)
    print("", document(corruption_tables([run])), "", f"Stored in {args.run / FOLDER}.", sep="\n")


def duration(seconds: float) -> str:
    """Seconds in words."""
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else counted(max(round(seconds), 1), "second")


def levels_in(text: str) -> list[int]:
    """The levels in "3", "1-5" or "1,3,5". Raises UserError for anything else."""
    levels = seeds_of(text.split(","), "--levels")
    if not set(levels) <= set(LEVELS):
        raise UserError(f"--levels must be within 1 to {LEVELS[-1]}, such as 3, 1-5 or 1,3,5, not '{text}'.")
    return sorted(levels)


def kinds_in(names: Sequence[str] | None, recipe: Recipe) -> list[str]:
    """The kinds, by default all of the recipe. Raises UserError for one that it does not have."""
    for name in names or ():
        if name not in recipe.kinds:
            raise UserError(
                f"The corruptions of {recipe.modality} have no '{name}'{did_you_mean(name, list(recipe.kinds))}; they "
                f"are {', '.join(recipe.kinds)}."
            )
    return [kind for kind in recipe.kinds if not names or kind in names]


def modality_of(run: Run) -> str:
    """The modality of a run's data set. Raises UserError for images whose modality is not known."""
    config = run.results["config"].get("DATASET")
    own = isinstance(config, dict) and config.get("FOLDER")
    facts = None if own else catalogue.load().find(run.results["dataset"])
    if facts is None or not facts.modality:
        known = ", ".join(recipe.modality for recipe in RECIPES)
        raise UserError(f"The modality of {run.dataset} is not known: add --modality, one of {known}.")
    return facts.modality
