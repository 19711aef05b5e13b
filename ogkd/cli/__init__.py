"""The command line: `ogkd COMMAND ARGUMENTS`. Each command is one module with a `main`, which scripts/ calls too."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ogkd import __version__
from ogkd.core import UserError, did_you_mean, run_program


class Command(NamedTuple):
    """A command: its module, words that are put before the user's arguments, and one line of help."""

    module: str
    words: tuple[str, ...]
    help: str


DEMO = ("phantom", "--protocol", "base2new", "--seeds", "1", "--methods", "ZeroShot", "CoOp", "OGKD", "--seconds")
COMMANDS = {
    "demo": Command("cli.compare", DEMO, "zero-shot, CoOp and OGKD on the bundled data set Phantom"),
    "base2new": Command("cli.run", ("base2new",), "train on the base classes, test base and novel: DATASET SEED"),
    "few-shot": Command("cli.run", ("few_shot",), "train and test on all classes: DATASET SHOTS SEED"),
    "transfer": Command("cli.run", ("transfer",), "train on one data set, test on another: SOURCE TARGET SHOTS SEED"),
    "tune": Command("cli.tune", (), "search for the settings of methods, with equally many trials for each"),
    "compare": Command("cli.compare", (), "several methods and seeds on one data set"),
    "ablation": Command("cli.ablation", (), "what each part of OGKD contributes"),
    "reproduce": Command("cli.reproduce", (), "the papers' tables"),
    "transfers": Command("cli.transfer", (), "the transfer table of several methods"),
    "verify": Command("cli.verify", (), "test released prompts beside their published accuracies"),
    "train": Command("cli.train", (), "one run, with CoOp's arguments"),
    "predict": Command("predict.command", (), "classify images with a trained prompt"),
    "evaluate": Command("cli.evaluate", (), "test a trained prompt on another hospital's labelled images"),
    "corrupt": Command("cli.corrupt", (), "test a trained prompt on noisy, blurred and otherwise corrupted images"),
    "try": Command("predict.page", (), "a local page that classifies the images dropped on it"),
    "embed": Command("predict.embed", (), "the frozen model's features of images, as arrays"),
    "tables": Command("cli.tables", (), "tables of finished runs"),
    "report": Command("cli.report", (), "one HTML page over finished runs"),
    "export": Command("cli.export_prompt", (), "pack a trained prompt to hand over"),
    "interpret": Command("cli.interpret_prompt", (), "the words nearest to learned vectors"),
    "download": Command("cli.download", (), "weights and data sets"),
    "convert": Command("cli.convert", (), "a model folder from weights that a training wrote"),
    "check-data": Command("cli.check_data", (), "look through a folder of images"),
    "split": Command("cli.split", (), "split a folder of images by patient"),
    "check-prompts": Command("prompts.check_cli", (), "check banks of teacher sentences"),
    "import-prompts": Command("prompts.importing", (), "read a published bank of sentences"),
}


def usage() -> str:
    """The list of commands."""
    lines = [f"  {name:15} {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: ogkd COMMAND [ARGUMENTS]; `ogkd COMMAND --help` explains one", "", *lines])


def entry(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    return run_program(lambda: _run(list(sys.argv[1:] if argv is None else argv)))


def _run(words: list[str]) -> object:
    name, *words = words or ["--help"]
    if name in ("-h", "--help"):
        return print(usage())
    if name == "--version":
        return print(f"ogkd {__version__}")
    command = COMMANDS.get(name.replace("_", "-"))
    if command is None:
        raise UserError(f"There is no command '{name}'{did_you_mean(name, [*COMMANDS])}: `ogkd --help` lists them.")
    sys.argv[0] = f"ogkd {name}"  # what argparse prints
    main: Callable[[Sequence[str]], object] = importlib.import_module(f"ogkd.{command.module}").main
    return main([*command.words, *words])
