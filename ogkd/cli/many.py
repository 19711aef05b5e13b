"""What the commands that execute many runs share: options, the check of what is there, the engine, tables."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from ogkd.evaluation.methods import GROUPS
from ogkd.runs.engines.options import add_options, settings_of
from ogkd.runs.protocols import Job, Places, check_dataset, ensure_generated, seeds_of, shots_of
from ogkd.runs.spec import PRESETS

if TYPE_CHECKING:
    from ogkd.reports.render import Table
    from ogkd.runs.engines.report import Report

KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)+")  # of the configuration


class Seeds(argparse.Action):
    """Reads `seeds_of` the words of an option."""

    def __call__(
        self, parser: argparse.ArgumentParser, args: argparse.Namespace, words: Any, option: Any = None
    ) -> None:
        setattr(args, self.dest, seeds_of(words))


def parser(description: str | None, several_settings: bool = False) -> argparse.ArgumentParser:
    """A parser with the options that each of these commands has."""
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--settings", choices=PRESETS, action="append" if several_settings else "store",
        help="default: SETTINGS, or fast for your own images without a GPU, else published; universal: one "
        "configuration for all data sets; search: the best of a search (see tune)",
    )  # fmt: skip
    p.add_argument("--rerun", action="store_true", help="remove the runs' earlier files and start afresh")
    add_options(p)
    return p


def grid_parser(
    description: str | None, shots: Sequence[int] = (16,), several_settings: bool = False
) -> argparse.ArgumentParser:
    """The same with options for methods, seeds, shots and the metric."""
    p = parser(description, several_settings)
    groups = ", ".join(f"{name} (those that {what})" for name, what in GROUPS.items())
    p.add_argument(
        "--methods", nargs="+",
        help=f"by class, title or script folder, in any case, or a group: {groups}; default: all",
    )  # fmt: skip
    p.add_argument("--seeds", nargs="+", action=Seeds, default=[1, 2, 3], help="seeds, or ranges such as 1-20")
    p.add_argument(
        "--shots", nargs="+", type=partial(shots_of, what="--shots"), default=list(shots),
        help="images per class, not for base-to-novel; all: every image",
    )  # fmt: skip
    p.add_argument("--metric", default="accuracy", help="what the tables show (default: accuracy)")
    return p


def add_bank(p: argparse.ArgumentParser) -> None:
    """Add `--bank`, which `banks_of` reads."""
    p.add_argument(
        "--bank", default="",
        help="teacher sentences: published (those of each method's own paper, downloaded unless they are there), a "
        "file or address of these, a checkout of BiomedCoOp or OGKD, a folder of <DATASET>.json files, or the name of "
        "a bank; default: this project's, or your own",
    )  # fmt: skip


def banks_of(word: str, methods: Sequence[str], datasets: Sequence[str]) -> dict[str, str]:
    """The bank of each method that has a teacher, as `--bank` says; {} without it."""
    if not word:
        return {}
    from ogkd.prompts.paper_banks import banks
    from ogkd.runs.registry import method_class

    chosen = banks(word, datasets)
    has_teacher = [name for name in methods if "PROMPT_BANK" in getattr(method_class(name), "options", ())]
    return {name: chosen.of(name) for name in has_teacher}


def without_sentences(
    args: argparse.Namespace, methods: Sequence[str], dataset: str, places: Places
) -> dict[str, list[str]]:
    """The pair of each method by which its teacher uses general sentences, where a folder of your own images has none;
    a note says so."""
    from ogkd.runs.sentences import about_general_sentences, general_sentences

    check_dataset(dataset, places.data)
    if pairs := general_sentences(methods, dataset, args.pairs):
        print(about_general_sentences(dataset, pairs), file=sys.stderr)
    return pairs


def parse(p: argparse.ArgumentParser, words: Sequence[str] | None) -> argparse.Namespace:
    """The arguments of a command with KEY VALUE pairs, wherever these are among the words.

    They are moved to the end, after `--`, as in `--seeds 1 KEY VALUE` the option would take them for seeds.
    """
    rest, pairs, left = list[str](), list[str](), iter(sys.argv[1:] if words is None else words)
    for word in left:
        if word == "--":
            pairs += left
        elif KEY.fullmatch(word):
            pairs += [word, *islice(left, 1)]
        else:
            rest.append(word)
    return p.parse_intermixed_args([*rest, "--", *pairs] if pairs else rest)


def places_of(args: argparse.Namespace) -> Places:
    """The places and settings of the environment and the command line."""
    given: dict[str, Any] = {name: vars(args).get(name) for name in ("backbone", "settings")}
    return Places(**{name: value for name, value in given.items() if value and not isinstance(value, list)})


def import_ahead(args: argparse.Namespace, places: Places, dataset: str) -> None:
    """If runs will be parallel on this machine, import what their processes need while this one plans them."""
    settings = settings_of(args, places.backbone_for(dataset), places.output)
    if settings.engine == "local" and (settings.jobs or 1) > 1 and not args.dry_run:
        from ogkd.runs.engines import local

        local.import_ahead()


def execute(jobs: Iterable[Job], args: argparse.Namespace, places: Places, datasets: Iterable[str]) -> Report | None:
    """Execute the jobs on the engine of the command line; None if it only asks what would be executed.

    Raises:
        UserError: an option of the engine is wrong, or data sets or weights are missing.
    """
    from ogkd.runs.engines import dry_run, go_through
    from ogkd.runs.ready import check_ready

    jobs, datasets = [job.with_rerun(args.rerun) for job in jobs], list(datasets)
    settings = settings_of(args, places.backbone_for(datasets[0]), places.output)
    if args.dry_run:
        dry_run(jobs, settings)
        return None
    check_ready(spec for job in jobs for spec in job.waiting())
    for dataset in datasets:
        ensure_generated(dataset, places.data)
    return go_through(jobs, settings)


def show(tables: Sequence[Table], notes: Iterable[str]) -> None:
    """Print tables, and notes on stderr."""
    from ogkd.evaluation.collect import warn
    from ogkd.reports.render import document

    print("\n" + document(tables))
    for note in notes:
        warn(note)
