"""Test a trained prompt on another labelled folder: `python evaluate.py RUN FOLDER [--as "tumour=glioma tumor"]`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ogkd.core import UserError
from ogkd.core.places import command
from ogkd.core.words import sentence
from ogkd.data import labels
from ogkd.data.findings import sentences
from ogkd.data.groups import read_groups
from ogkd.data.patients import Patients
from ogkd.predict.operating import add_model_arguments
from ogkd.runs.spec import is_name


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog=command("evaluate"),
        description="Test a trained prompt on all images of another labelled folder, such as another hospital's: "
        "FOLDER/<class>/**/<image>, or images with labels in a table. Nothing is trained, and RUN is not changed. "
        "Prints the results with 95 % intervals, over patients where they are known, and writes predictions.npz, "
        "results.json and card.md, which tables and pages read. Research software, not a medical device.",
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="a run's folder, an exported folder, or hf-hub:org/name")
    add("folder", type=Path, metavar="FOLDER", help="the folder with one folder per class")
    add("--as", dest="mapping", nargs="+", action="extend", default=[], metavar="CLASS=TRAINED",
        help='which trained class a class of FOLDER is, such as "tumour=glioma tumor"; several may be the same one, '
        'but not one of FOLDER several trained ones, and "other=" leaves a class out')  # fmt: skip
    labels.add_patient_options(parser)
    labels.add_options(parser)
    add("--name", default="", help="the name in tables (default: that of FOLDER)")
    add("--output", type=Path, metavar="OUT", help="where to write (default: output/evaluated/...)")
    add("--rerun", action="store_true", help="replace an evaluation of another prompt or other images in OUT")
    add_model_arguments(parser)
    args = parser.parse_args(argv)
    if not args.folder.is_dir():
        raise UserError(f"There is no folder {args.folder}.")
    if args.name and not is_name(args.name):
        raise UserError(f"--name must be a name, not a path: '{args.name}'.")
    mapping = dict(pair(word) for word in args.mapping)
    if len(mapping) < len(args.mapping):
        raise UserError(
            "--as names a class of FOLDER twice: give each one trained class. Probabilities of several are not added: "
            "to test a coarser label, train on the coarser classes."
        )
    folder = args.folder.absolute()
    labelled = labels.labels_of(folder, args, whole=True) if args.labels else labels.class_folders(folder, whole=True)
    images = [path for paths in labelled.classes.values() for path in paths]
    patients = labels.chosen_patients(folder, args, labelled, images)
    groups, about = labels.chosen_groups(args, labelled, images)
    for note in sentences([*labelled.notes, *patients.notes, *_unknown(patients, images), *about]):
        print(f"note: {note}")

    # only now, so that wrong arguments are reported before PyTorch is loaded
    from ogkd.predict.evaluation import CARD, LabelledFolder, default_output, evaluate
    from ogkd.predict.evaluation_card import measurements, tested_on
    from ogkd.predict.export import load_prompt
    from ogkd.predict.predictor import Predictor

    prompt = load_prompt(args.run)
    name = args.name or folder.resolve().name
    output = args.output or default_output(prompt, name)
    predictor = Predictor(prompt, backbone=args.backbone)
    groups = groups or read_groups(folder)
    labelled_folder = LabelledFolder(folder, name, labelled.classes, patients.of, groups)
    done = evaluate(predictor, labelled_folder, output, mapping, args.batch, args.rerun)
    print(f"\n{done.results['title']}, trained on {prompt.dataset}, on all {tested_on(done.predictions)} in {name}\n")
    print(measurements(prompt, done.predictions, done.results), "", sep="\n")
    for note in done.results["notes"]:
        print(f"Note: {note}")
    for phrase in done.results["warnings"]:
        print(f"Warning: {sentence(phrase)}")
    print(f"Wrote predictions.npz, results.json and {CARD} to {output}.")


def pair(word: str) -> tuple[str, str]:
    """A class of the folder and the trained one, from the command line."""
    old, equals, new = word.partition("=")
    if not old.strip() or not equals:
        raise UserError(f"--as takes \"CLASS=TRAINED CLASS\" in quotation marks, not '{word}'.")
    return old.strip(), new.strip()


def _unknown(patients: Patients, images: Sequence[str]) -> list[str]:
    number = sum(image not in patients.of for image in images) if patients.of else 0
    return (
        [f"the patient of {number} of the {len(images)} images is not known, so each counts as one"] if number else []
    )
