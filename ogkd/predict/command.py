"""The command line of predict.py: takes a trained prompt and images, prints one line per image."""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO, cast

import numpy as np
from PIL import Image

from ogkd.core import UserError, atomic_path, progress
from ogkd.core.escape import no_formula
from ogkd.core.images import is_blank, load_image
from ogkd.core.places import command
from ogkd.data.beside import beside_by_name
from ogkd.data.listing import list_files
from ogkd.evaluation.unlike import UNLIKE, Reference
from ogkd.predict.operating import SetWish, Wish, about_sets, add_arguments, add_model_arguments, sentences, wish

if TYPE_CHECKING:
    from ogkd.evaluation.clinical import OperatingPoint
    from ogkd.evaluation.sets import SetRule
    from ogkd.predict.predictor import Answers, Predictor

SHOWN = 3  # classes per image
READERS = 4  # images read at a time
LONG_LIST = 50  # number of images from which progress is shown
FEW_TO_CALIBRATE = 100  # with fewer validation images a temperature is unreliable
UNCERTAIN = "uncertain"
POSITIVE, NEGATIVE = "positive", "negative"
NO_CLASS = "no class"  # the answer of an empty set
MASKS = "are named as masks, overlays or thumbnails of others, and were classified like these"
ONE_OF_SEVERAL = "have several frames or pages, of which only one was read"
HUB = "hf-hub:"


class Named(NamedTuple):
    """An image file, its name in the output, which is its path as given, and the folder in which it was found."""

    path: Path
    name: str
    folder: Path

    @classmethod
    def file(cls, word: str) -> Named:
        return cls(Path(word), word, Path(word).parent)


class Read(NamedTuple):
    """An image that was read, as 8-bit RGB, and the number of frames in its file, or why it could not be read."""

    image: Named
    picture: Image.Image | None = None
    frames: int = 1
    problem: str = ""


class Prediction(NamedTuple):
    """The answer for one image: the most likely classes with probabilities, the probabilities of all classes in class
    order, or why it could not be read; its number of frames, whether the one that was read is blank, and whether it is
    unlike the training images, None if this is not known; the number of classes if the decision is a set of them."""

    image: Named
    decision: str = ""
    likeliest: tuple[tuple[str, float], ...] = ()
    chances: tuple[float, ...] = ()
    problem: str = ""
    frames: int = 1
    blank: bool = False
    unlike: bool | None = None
    classes: int | None = None


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog=command("predict"),
        description="Classify images with a trained prompt. Prints one line per image with the most likely classes and "
        "their probabilities. An image that cannot be read gets a line that says so, and the rest continue. Research "
        "software, not a medical device.",
    )
    p.add_argument("run", metavar="RUN", help=f"a run's folder, an exported folder, or {HUB}org/name")
    p.add_argument(
        "images", metavar="IMAGE_OR_FOLDER", nargs="+", help="PNG, JPEG, TIFF, BMP, WebP or DICOM files; "
        "folders, searched recursively; - reads a list of paths from standard input",
    )  # fmt: skip
    p.add_argument("--csv", type=Path, metavar="FILE", help="write a CSV table instead of printing lines")
    p.add_argument("--heatmaps", type=Path, metavar="FOLDER", help="write each image next to its evidence as PNG")
    add_answer_options(p)
    return p


def add_answer_options(p: argparse.ArgumentParser) -> None:
    """The options that decide what a prompt answers."""
    p.add_argument("--calibrated", action="store_true", help="use the temperature fitted to the validation images")
    p.add_argument("--abstain", type=float, metavar="P", help="answer 'uncertain' if no class reaches P (0 to 1)")
    add_arguments(p)
    p.add_argument("--prevalence", type=float, metavar="P", help="with --for: how many have it (0 to 1); adds PPV, NPV")
    p.add_argument("--classes", metavar='"A, B"', help="classify into other classes, if the method can")
    add_model_arguments(p)


def check_answer_options(args: argparse.Namespace) -> tuple[list[str] | None, Wish | SetWish | None]:
    """The class names of --classes and the wanted threshold or sets, if given. Raises UserError for a wrong value."""
    if args.abstain is not None and not 0 <= args.abstain <= 1:
        raise UserError(f"--abstain must be a probability from 0 to 1, not {args.abstain}.")
    wanted = wish(args)
    if wanted and (args.abstain is not None or args.classes is not None):
        instead = "positive or negative" if isinstance(wanted, Wish) else "a set of the trained classes"
        raise UserError(f"The answer is {instead}: leave out --abstain and --classes.")
    if args.prevalence is not None and not isinstance(wanted, Wish):
        raise UserError('A prevalence is that of one class: add, for example, --sensitivity 0.95 --for "malignant".')
    return class_list(args.classes) if args.classes is not None else None, wanted


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, even if some images could not be read (their number is printed). If none could, exits with 2.

    Raises:
        UserError: something that the user can fix; the message is one sentence.
    """
    args = parser().parse_args(argv)
    check_answer_options(args)
    if args.csv and not args.csv.parent.is_dir():
        raise UserError(f"The folder of {args.csv} does not exist: create it first.")
    images = list(named_images(args.images, sys.stdin))
    with contextlib.redirect_stdout(sys.stderr):  # standard output is only for answers
        judge = ready(args)
        if args.heatmaps:
            judge.predictor.require_patches()
    done: list[Prediction] = []
    for answer in shown_progress(classify(judge, images, args.batch, args.heatmaps), len(images), bool(args.csv)):
        done.append(answer)
        if answer.problem or not args.csv:
            print(line(answer), file=sys.stderr if args.csv else sys.stdout, flush=True)
    if args.csv:
        write_csv(args.csv, done, judge.predictor.classnames, judge.rule is not None)
    unread = sum(bool(answer.problem) for answer in done)
    if unread == len(images):
        raise UserError("No image could be read: check the paths.")
    counts = {
        "could not be read": unread,
        ONE_OF_SEVERAL: sum(answer.frames > 1 for answer in done),
        "are blank": sum(answer.blank for answer in done),
        MASKS: beside(images),
        f"are {UNLIKE} (their answers mean little)": sum(bool(answer.unlike) for answer in done),
    }
    for what, number in counts.items():
        if number:
            print(f"warning: {number} of {len(images)} images {what}.", file=sys.stderr)
    return 0


def beside(images: Sequence[Named]) -> int:
    """The number of files in folders that are named as masks and the like of others there."""
    of_folder: dict[Path, list[str]] = defaultdict(list)
    for image in images:
        of_folder[image.folder].append(image.path.relative_to(image.folder).as_posix())
    return sum(len(beside_by_name(folder, paths)) for folder, paths in of_folder.items())


def class_list(text: str) -> list[str]:
    """Class names from a comma-separated list."""
    names = [" ".join(name.split()) for name in text.split(",")]
    if len(names) < 2 or not all(names) or len(set(names)) < len(names):
        raise UserError(f"--classes must be two or more different class names separated by commas, not '{text}'.")
    return names


def named_images(words: Iterable[str], standard_input: TextIO) -> Iterator[Named]:
    """The image files on the command line.

    Raises UserError for a folder without images and for an empty list. A missing file is yielded, too: it gets its own
    line among the answers.
    """
    count = 0
    for word in words:
        if word == "-":
            named = [Named.file(path) for row in standard_input if (path := row.rstrip("\r\n")).strip()]
        elif Path(word).is_dir():
            listing = list_files(word)
            named = [Named(Path(word, path), str(Path(word, path)), Path(word)) for path in listing.images]
            for phrase in listing.unread():
                print(f"warning: {phrase}.", file=sys.stderr)
            if not named:
                raise UserError(f"The folder {word} contains no images: give RUN first, then the images.")
        else:
            named = [Named.file(word)]
        count += len(named)
        yield from named
    if not count:
        raise UserError("No images were given: the list on standard input is empty.")


class Judge(NamedTuple):
    """A prompt with the rules by which its probabilities become answers.

    temperature: the logits are divided by it. reference: what images are compared with to find those unlike the
    training images. abstain: below this probability the answer is uncertain. point: a class's threshold, for answers
    "positive" and "negative". rule: that of prediction sets, for answers that are sets of classes.
    """

    predictor: Predictor
    temperature: float = 1.0
    reference: Reference | None = None
    abstain: float | None = None
    point: OperatingPoint | None = None
    rule: SetRule | None = None

    def judged(self, read: Read, answer: Answers) -> Prediction:
        """The answer for one image that was read, from the predictor's arrays of one row."""
        from ogkd.predict.predictor import probabilities  # only now, so that --help needs no PyTorch

        names = self.predictor.classnames
        result = prediction(read.image, names, probabilities(answer.logits, self.temperature)[0], self.abstain)
        if self.point is not None:
            score = probabilities(answer.logits, 1.0)[0, names.index(self.point.classname)]
            result = result._replace(decision=POSITIVE if self.point.is_positive(score) else NEGATIVE)
        if self.rule is not None:
            chances = probabilities(answer.logits, 1.0)
            inside = self.rule.sets(chances)[0]
            likeliest_first = [names[place] for place in np.argsort(-chances[0], kind="stable") if inside[place]]
            result = result._replace(decision="; ".join(likeliest_first) or NO_CLASS, classes=len(likeliest_first))
        unlike = None if self.reference is None else bool(self.reference.exceeded(answer.features)[0])
        blank = read.picture is not None and is_blank(read.picture)
        return result._replace(frames=read.frames, blank=blank, unlike=unlike)


def ready(args: argparse.Namespace) -> Judge:
    """The prompt ready to classify as the options of `add_answer_options` say; prints what is used to standard output.
    For other classes than the trained ones there is neither a temperature nor a comparison with the training images."""
    classes, wanted = check_answer_options(args)
    from ogkd.evaluation.limits import phantom_note
    from ogkd.predict.export import load_prompt  # only now: wrong arguments are reported before PyTorch is loaded
    from ogkd.predict.predictor import Predictor

    prompt = load_prompt(args.run)
    temperature, reference, calibrated = 1.0, prompt.reference, args.calibrated
    others = classes is not None and set(classes) != set(prompt.classnames)
    if others:
        calibrated, reference = False, None
    if calibrated:
        if prompt.temperature is None:
            raise UserError(
                f"{args.run} has no temperature, as its validation images are missing, too few or all classified "
                "correctly: leave out --calibrated."
            )
        temperature = prompt.temperature
    point = prompt.operating_point(*wanted) if isinstance(wanted, Wish) else None
    rule = prompt.set_rule(*wanted) if isinstance(wanted, SetWish) else None
    about = sentences(point, args.prevalence) if point else about_sets(rule) if rule else []
    predictor = Predictor(prompt, classes, args.backbone)
    what = f"{prompt.method} on {prompt.backbone}, trained on {prompt.dataset}"
    print(f"{what}: {', '.join(predictor.classnames)}.")
    if classes is not None and others:
        new = [name for name in classes if name not in prompt.classnames]
        untrained = f"It was not trained on these classes: {', '.join(new)}. " if new else ""
        print(
            f"{untrained}It was trained on {', '.join(prompt.classnames)}: for other classes there is no temperature, "
            "so the probabilities are not calibrated, and no check for images unlike the training images."
        )
    if calibrated:
        number = prompt.validation_images
        doubt = ", too few to be reliable: treat the probabilities as rough" if number < FEW_TO_CALIBRATE else ""
        print(f"Temperature {temperature:.3f}, fitted to {number} validation images{doubt}.")
    for sentence in about:
        print(sentence)
    print("Research software, not a medical device: do not base a diagnosis on its answers.")
    note = phantom_note(prompt.backbone)
    if note:
        print(f"Note: {note}")
    return Judge(predictor, temperature, reference, args.abstain, point, rule)


def classify(
    ready: Judge, images: Sequence[Named], batch: int = 0, heatmaps: Path | None = None
) -> Iterator[Prediction]:
    """The answer for each image, in order."""
    for (read, answer), target in zip(
        answers(ready.predictor, images, batch, bool(heatmaps)),
        heatmap_files(heatmaps, images) if heatmaps else [None] * len(images),
        strict=True,
    ):
        if read.picture is None or answer is None:
            yield Prediction(read.image, problem=read.problem)
            continue
        result = ready.judged(read, answer)
        if target is not None:
            patches = cast(np.ndarray, answer.patch_logits)[0]
            _save_heatmap(target, heatmap(ready.predictor.view(read.picture), patches, ready.temperature, result))
        yield result


def answers(
    predictor: Predictor, images: Sequence[Named], batch: int = 0, patches: bool = False
) -> Iterator[tuple[Read, Answers | None]]:
    """Each image with what the predictor computes of it, arrays of one row, in order; None for an image that cannot be
    read."""
    for reads in in_batches(images, predictor.frame, batch or predictor.images_at_once):
        sound = [read.picture for read in reads if read.picture is not None]
        computed = predictor(sound, patches) if sound else None
        rows = iter(range(len(sound)))
        for read in reads:
            if computed is None or read.picture is None:
                yield read, None
            else:
                yield read, computed.of(next(rows))


def in_batches(images: Sequence[Named], frame: int, size: int) -> Iterator[list[Read]]:
    """The images, read by several threads, `size` at a time."""
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(images), size):
            yield list(pool.map(lambda image: _read(image, frame), images[start : start + size]))


def _read(image: Named, frame: int) -> Read:
    try:
        loaded = load_image(image.path, frame)
        return Read(image, loaded.image, loaded.frames)
    except UserError as error:
        return Read(image, problem=str(error))


def prediction(image: Named, classnames: Sequence[str], chances: np.ndarray, abstain: float | None) -> Prediction:
    """The most likely classes by their probabilities (C,), in class order in a tie."""
    order = np.argsort(-chances, kind="stable")[:SHOWN]
    likeliest = tuple((classnames[place], float(chances[place])) for place in order)
    sure = abstain is None or likeliest[0][1] >= abstain
    return Prediction(image, likeliest[0][0] if sure else UNCERTAIN, likeliest, tuple(map(float, chances)))


def heatmap_files(folder: Path, images: Sequence[Named]) -> list[Path]:
    """The file of each image's heat map: <its path below the deepest folder that holds all images>.png, with a number
    for an image that is given twice."""
    try:
        base = Path(os.path.commonpath({image.folder.resolve() for image in images}))
    except ValueError:  # they are on several drives
        base = None
    files: dict[Path, None] = {}
    for image in images:
        place = image.folder.resolve()
        relative = place.relative_to(base or place.anchor) / image.path.relative_to(image.folder)
        file, number = folder / f"{relative}.png", 2
        while file in files:
            file, number = folder / f"{relative}-{number}.png", number + 1
        files[file] = None
    return list(files)


def heatmap(view: Image.Image, patch_logits: np.ndarray, temperature: float, answer: Prediction) -> Image.Image:
    """The heat map of the likeliest class from the logits (P, C) of the patches."""
    from ogkd.predict.heatmaps import draw
    from ogkd.predict.predictor import probabilities

    likeliest = int(np.argmax(answer.chances))
    (classname, chance), *_ = answer.likeliest
    sure = answer.decision != UNCERTAIN
    text = f"{classname} {chance:.1%}" if sure else f"{UNCERTAIN} (likeliest: {classname} {chance:.1%})"
    chances = probabilities(patch_logits, temperature)[:, likeliest]
    return draw(view, chances, classname, len(answer.chances), answer.image.name, text, sure)


def _save_heatmap(target: Path, page: Image.Image) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as temporary:
        page.save(temporary, format="PNG")


# Output


def line(answer: Prediction) -> str:
    """The answer as a line of text."""
    text = ", ".join(f"{classname} {chance:.1%}" for classname, chance in answer.likeliest)
    if answer.problem:
        text = f"not read. {answer.problem}"
    elif answer.classes is not None:
        text = f"{{{answer.decision}}} ({text})"
    elif answer.decision != answer.likeliest[0][0]:
        text = f"{answer.decision} ({text})"
    flag = f" ({UNLIKE})" if answer.unlike else ""
    return f"{answer.image.name}: {text}{flag}".encode("utf-8", "backslashreplace").decode()


def write_csv(path: Path, answers: Iterable[Prediction], classnames: Sequence[str], sets: bool) -> None:
    """Write a table atomically; `sets`: whether decisions are sets of classes, whose size has a column."""
    ranked = [f"{what}_{rank}" for rank in range(1, SHOWN + 1) for what in ("class", "probability")]
    every = [f"probability of {name}" for name in classnames]
    size = ["classes in the set"] * sets
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        rows = csv.DictWriter(file, ["image", "decision", *size, *ranked, "problem", *every, UNLIKE], restval="")
        rows.writeheader()
        for answer in answers:
            likeliest = [cell for classname, chance in answer.likeliest for cell in (classname, f"{chance:.6f}")]
            row = {"image": answer.image.name, "decision": answer.decision, "problem": answer.problem}
            row[UNLIKE] = "" if answer.unlike is None else ("no", "yes")[answer.unlike]
            row |= dict.fromkeys(size, "" if answer.classes is None else str(answer.classes))
            row |= zip(ranked, likeliest, strict=False)
            row |= zip(every, (f"{chance:.6f}" for chance in answer.chances), strict=False)
            rows.writerow({name: no_formula(cell) for name, cell in row.items()})


def shown_progress(predictions: Iterable[Prediction], total: int, silent: bool) -> Iterator[Prediction]:
    """The answers, with progress on standard error if a long list does not print line by line."""
    if not silent or total < LONG_LIST:
        yield from predictions
        return
    with contextlib.redirect_stdout(sys.stderr):
        yield from progress(predictions, "classify", total=total, unit="image")
