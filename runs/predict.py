"""The command line of predict.py: a trained prompt and images in, a line for each image out."""

from __future__ import annotations

import argparse
import contextlib
import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

import numpy as np
from PIL import Image

from dassl.utils import UserError, atomic_path, progress, read_image
from datasets.folders import images_below
from reports.render import FORMULA

if TYPE_CHECKING:
    from runs.predictor import Predictor

SHOWN = 3  # classes of each image
READERS = 4  # images read at a time
LONG_LIST = 50  # images from which on progress is shown
FEW_TO_CALIBRATE = 100  # validation images below which a temperature says little
UNCERTAIN = "uncertain"
HUB = "hf-hub:"


class Named(NamedTuple):
    """An image file and what it is called in the output: its path below the folder that was given, or as given."""

    path: Path
    name: str


class Answer(NamedTuple):
    """What is said of one image: the likeliest classes with probabilities, or why it could not be read."""

    image: Named
    decision: str = ""
    likeliest: tuple[tuple[str, float], ...] = ()
    problem: str = ""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python predict.py",
        description="Classify images with a trained prompt. For each image: the likeliest classes with their "
        "probabilities. An image that cannot be read has a line that says so, and the others go on. Research software, "
        "not a medical device.",
    )
    p.add_argument("run", metavar="RUN", help=f"a run's folder, an exported folder, or {HUB}org/name")
    p.add_argument(
        "images", metavar="IMAGE_OR_FOLDER", nargs="+", help="PNG, JPEG, TIFF, BMP, WebP or DICOM; folders with all "
        "below them; - reads a list of paths from the standard input",
    )  # fmt: skip
    p.add_argument("--csv", type=Path, metavar="FILE", help="write a table instead of lines")
    p.add_argument("--heatmaps", type=Path, metavar="FOLDER", help="write each image beside its evidence, as PNG")
    p.add_argument("--calibrated", action="store_true", help="use the temperature fitted to the validation images")
    p.add_argument("--abstain", type=float, metavar="P", help="say 'uncertain' where no class reaches P (0 to 1)")
    p.add_argument("--classes", metavar='"A, B"', help="other class names, for a method that can name them")
    p.add_argument("--batch", type=int, default=0, metavar="N", help="images in one pass (default: 8; 64 on a GPU)")
    p.add_argument("--backbone", default="", metavar="NAME_OR_FOLDER", help="where the backbone's weights lie")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, also when some images could not be read, which is counted; 2 when none could.

    Raises:
        UserError: what the user can fix, in one sentence.
    """
    args = parser().parse_args(argv)
    if args.abstain is not None and not 0 <= args.abstain <= 1:
        raise UserError(f"--abstain is a probability from 0 to 1, not {args.abstain}.")
    if args.batch < 0:
        raise UserError(f"--batch is a number of images, 1 or more, not {args.batch}.")
    classes = class_list(args.classes) if args.classes is not None else None
    images = list(named_images(args.images, sys.stdin))
    with contextlib.redirect_stdout(sys.stderr):  # the standard output holds answers alone
        predictor, temperature = ready(args.run, classes, args.backbone, args.calibrated)
        if args.heatmaps:
            predictor.require_patches()
    answers = classify(predictor, images, temperature, args.abstain, args.batch, args.heatmaps)
    unread = 0
    with writer(args.csv) as write:
        for answer in shown_progress(answers, len(images), bool(args.csv)):
            unread += bool(answer.problem)
            write(answer)
            if answer.problem and args.csv:
                print(line(answer), file=sys.stderr)
    if unread == len(images):
        raise UserError(f"None of the {len(images)} images could be read: check the paths.")
    if unread:
        print(f"warning: {unread} of {len(images)} images could not be read.", file=sys.stderr)
    return 0


def class_list(text: str) -> list[str]:
    """Class names from a list with commas."""
    names = [" ".join(name.split()) for name in text.split(",")]
    if len(names) < 2 or not all(names) or len(set(names)) < len(names):
        raise UserError(f"--classes names two or more different classes with commas between them, not '{text}'.")
    return names


def named_images(words: Iterable[str], standard_input: TextIO) -> Iterator[Named]:
    """The image files that the command line names.

    Raises UserError for a folder without images and when nothing was named. A file that is not there is yielded: it
    has its own line among the answers.
    """
    found = 0
    for word in words:
        if word == "-":
            named = [Named(Path(path), path) for path in filter(None, map(str.strip, standard_input))]
        elif Path(word).is_dir():
            named = [Named(Path(word, path), path) for path in images_below(word)]
            if not named:
                raise UserError(f"The folder {word} has no images in it.")
        else:
            named = [Named(Path(word), word)]
        found += len(named)
        yield from named
    if not found:
        raise UserError("No image was named: the list on the standard input is empty.")


def ready(run: str, classes: list[str] | None, backbone: str, calibrated: bool) -> tuple[Predictor, float]:
    """The prompt made ready, and the temperature for its logits; says on the standard output what is used."""
    from runs.export import load_prompt  # only now: a wrong argument is told before PyTorch is loaded
    from runs.folder import phantom_note
    from runs.predictor import Predictor

    prompt = load_prompt(run)
    temperature = 1.0
    if calibrated:
        if prompt.temperature is None:
            raise UserError(
                f"{run} has no temperature: its validation images are absent, too few or all classified right; leave "
                "out --calibrated."
            )
        temperature = prompt.temperature
    predictor = Predictor(prompt, classes, backbone)
    what = f"{prompt.method} on {prompt.backbone}, trained on {prompt.dataset}"
    print(f"{what}: {', '.join(predictor.classnames)}.")
    if calibrated:
        number = prompt.validation_images
        doubt = ", too few to rely on: take the probabilities as rough" if number < FEW_TO_CALIBRATE else ""
        print(f"Temperature {temperature:.3f}, fitted to {number} validation images{doubt}.")
    print("Research software, not a medical device: do not base a diagnosis on its answers.")
    note = phantom_note(prompt.backbone)
    if note:
        print(f"Note: {note}")
    return predictor, temperature


def classify(
    predictor: Predictor,
    images: Sequence[Named],
    temperature: float = 1.0,
    abstain: float | None = None,
    batch: int = 0,
    heatmaps: Path | None = None,
) -> Iterator[Answer]:
    """An answer for each image, in order."""
    size = batch or predictor.images_at_once
    taken: set[Path] = set()
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(images), size):
            piece = images[start : start + size]
            pictures = list(pool.map(lambda image: read(image, predictor.frame), piece))
            sound = [picture for picture in pictures if isinstance(picture, Image.Image)]
            results = iter(_results(predictor, sound, temperature, bool(heatmaps)) if sound else ())
            for image, picture in zip(piece, pictures, strict=True):
                if not isinstance(picture, Image.Image):
                    yield Answer(image, problem=picture)
                    continue
                chances, patches = next(results)
                answer = answered(image, predictor.classnames, chances, abstain)
                if heatmaps:
                    best = int(chances.argmax())
                    target = free_path(heatmaps, image.name, taken)
                    _save_heatmap(target, predictor.view(picture), patches[:, best], answer)
                yield answer


def _results(predictor: Predictor, pictures: list[Image.Image], temperature: float, patches: bool) -> Iterator[tuple]:
    from runs.predictor import probabilities

    answers = predictor(pictures, patches)
    chances = probabilities(answers.logits, temperature)
    return zip(chances, [None] * len(chances) if answers.patch_logits is None else answers.patch_logits, strict=True)


def read(image: Named, frame: int) -> Image.Image | str:
    """The image, or why it could not be read."""
    try:
        return read_image(image.path, frame)
    except UserError as error:
        return str(error)
    except Exception as error:  # whatever a corrupt file makes a library raise, the other images go on
        return f"The image {image.path} cannot be read ({type(error).__name__}: {error})."


def answered(image: Named, classnames: Sequence[str], chances: np.ndarray, abstain: float | None) -> Answer:
    """The likeliest classes by their probabilities (C,), the first of equals first."""
    order = np.argsort(-chances, kind="stable")[:SHOWN]
    likeliest = tuple((classnames[place], float(chances[place])) for place in order)
    sure = abstain is None or likeliest[0][1] >= abstain
    return Answer(image, likeliest[0][0] if sure else UNCERTAIN, likeliest)


def free_path(folder: Path, name: str, taken: set[Path]) -> Path:
    """Where an image's heat map goes: <its path below the folder that was given>.png, or with a number where two
    images have one name."""
    relative = Path(name)
    if relative.is_absolute() or ".." in relative.parts:
        relative = Path(relative.name)
    target, number = folder / f"{relative}.png", 2
    while target in taken:
        target, number = folder / f"{relative}-{number}.png", number + 1
    taken.add(target)
    return target


def _save_heatmap(target: Path, view: Image.Image, evidence: np.ndarray, answer: Answer) -> None:
    from runs.heatmaps import draw

    target.parent.mkdir(parents=True, exist_ok=True)
    page = draw(view, evidence, f"{answer.likeliest[0][0]} {answer.likeliest[0][1]:.1%}")
    with atomic_path(target) as temporary:
        page.save(temporary, format="PNG")


# Output


def line(answer: Answer) -> str:
    """The answer as a line of text."""
    name = answer.image.name.encode("utf-8", "backslashreplace").decode()
    if answer.problem:
        return f"{name}: not read. {answer.problem}".encode("utf-8", "backslashreplace").decode()
    classes = ", ".join(f"{classname} {chance:.1%}" for classname, chance in answer.likeliest)
    return f"{name}: {f'{UNCERTAIN} ({classes})' if answer.decision == UNCERTAIN else classes}"


@contextlib.contextmanager
def writer(path: Path | None):
    """A function that takes an answer to the standard output or, whole or not at all, to a CSV file."""
    if path is None:
        yield lambda answer: print(line(answer), flush=True)
        return
    if not path.parent.is_dir():
        raise UserError(f"The folder of {path} is not there: make it first.")
    ranks = range(1, SHOWN + 1)
    header = [
        "image",
        "decision",
        *(f"{what}_{rank}" for rank in ranks for what in ("class", "probability")),
        "problem",
    ]
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as f,
    ):
        rows = csv.writer(f)
        rows.writerow(header)

        def write(answer: Answer) -> None:
            cells = [cell for classname, chance in answer.likeliest for cell in (classname, f"{chance:.6f}")]
            cells += [""] * (2 * SHOWN - len(cells))
            rows.writerow(map(no_formula, [answer.image.name, answer.decision, *cells, answer.problem]))

        yield write


def no_formula(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula; the names of images and classes may be anybody's."""
    return f"'{cell}" if cell.startswith((*FORMULA, "\t", "\r")) else cell


def shown_progress(answers: Iterable[Answer], total: int, silent: bool) -> Iterator[Answer]:
    """The answers; where a long list is not seen line by line, how far it is, on the standard error."""
    if not silent or total < LONG_LIST:
        yield from answers
        return
    with contextlib.redirect_stdout(sys.stderr):
        yield from progress(answers, "classify", total=total, unit="image")
