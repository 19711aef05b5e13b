"""Run one protocol of one method and print a table.

    ogkd base2new DATASET SEED [--method METHOD] [--settings SETTINGS] [KEY VALUE ...]
    ogkd few-shot DATASET SHOTS SEED [--method METHOD] [--settings SETTINGS] [KEY VALUE ...]
    ogkd transfer SOURCE TARGET SHOTS SEED [--method METHOD] [--settings SETTINGS] [KEY VALUE ...]
    python scripts/run.py METHOD base2new|few_shot|transfer ...      the same in a checkout

A data set is one of configs/datasets/, a folder of your own images in DATA (folder:NAME if it has the name of
a published data set), or the path of one. SEED is a number, or a range such as 1-3 for one run after another.
METHOD (default OGKD, with general teacher sentences where a folder of yours has none) may be in any case.
SHOTS is a number of images per class, or all. SETTINGS is published (as in the papers), universal (one
configuration for all data sets) or fast (8 crops of each training image, encoded once, and bf16 where the
device has it); the default is fast for a number of shots of your own images without a GPU, else published.
Environment: DATA (default data), OUTPUT (default output), BACKBONE (default BiomedCLIP; PhantomCLIP for phantom),
SETTINGS. KEY VALUE pairs change the configuration. A complete run is not repeated; an unfinished one resumes after its
last epoch. With --rerun, anywhere on the line, the runs' earlier files are removed and the runs start afresh.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ogkd.core import UserError
from ogkd.core.words import underscored
from ogkd.evaluation.methods import named
from ogkd.evaluation.protocol import BASE2NEW_SHOTS
from ogkd.runs.protocols import TRANSFER, Places, ensure_generated, job, locate, seeds_of, shots_of
from ogkd.runs.sentences import about_general_sentences, general_sentences

DEFAULT_METHOD = "OGKD"
# The arguments of each protocol after the method, and an example.
ARGUMENTS = {
    "base2new": ("DATASET SEED", "phantom 1"),
    "few_shot": ("DATASET SHOTS SEED", "phantom 16 1"),
    TRANSFER: ("SOURCE TARGET SHOTS SEED", "busi buid 16 1"),
}


def main(argv: Sequence[str] | None = None) -> int | None:
    words = list(sys.argv[1:] if argv is None else argv)
    wants_help = any(word in ("-h", "--help") for word in words)
    rerun = "--rerun" in words
    words = [word for word in words if word != "--rerun"]
    settings = _pop_option(words, "--settings")
    words[:2] = [underscored(word) if underscored(word) in ARGUMENTS else word for word in words[:2]]
    by_default = False
    if words[:1] and words[0] in ARGUMENTS:
        method_word = _pop_option(words, "--method")
        by_default = not method_word
        words.insert(0, method_word or DEFAULT_METHOD)
    if wants_help or len(words) < 2 or words[1] not in ARGUMENTS:
        print(__doc__.strip(), file=sys.stdout if wants_help else sys.stderr)
        return 0 if wants_help else 2
    method, protocol, *rest = named(words[0]), *words[1:]
    names, example = ARGUMENTS[protocol]
    wanted = names.split()
    if len(rest) < len(wanted):
        raise UserError(f"Give {names}, such as {example}.")
    if protocol == "base2new" and _has_shots(rest):
        raise UserError(f"base2new takes no SHOTS, it always has {BASE2NEW_SHOTS}: give {names}, such as {example}.")
    given = dict(zip(wanted, rest, strict=False))
    dataset, *targets = [given[name] for name in ("DATASET", "SOURCE", "TARGET") if name in given]
    shots = shots_of(given["SHOTS"]) if "SHOTS" in given else BASE2NEW_SHOTS
    seeds = seeds_of([given["SEED"]], "SEED")
    dataset, places = locate(dataset, Places(settings=settings) if settings else Places())
    for number, target in enumerate(targets):
        targets[number], of_target = locate(target, places)
        if of_target != places:
            raise UserError(f"{target} is not in {places.data}: SOURCE and TARGET must be in the same folder.")
    pairs = rest[len(wanted) :]
    without = general_sentences([method], dataset, pairs) if by_default else {}
    pairs += without.get(method, [])
    jobs = [job(protocol, method, dataset, shots, seed, places, pairs, targets).with_rerun(rerun) for seed in seeds]
    if without:  # now that it is known that there is such a data set
        print(about_general_sentences(dataset, without))
    for name in (dataset, *targets):
        ensure_generated(name, places.data)
    for one in jobs:
        one()
    folders = [folder for one in jobs for folder in one.folders()]

    if protocol == TRANSFER:
        from ogkd.reports.transfer import transfer_report

        print("\n" + transfer_report(folders, [(dataset, targets[0])], places.data)[0])
        return None
    from ogkd.evaluation.collect import runs_in
    from ogkd.reports.render import render
    from ogkd.reports.tables import TABLES

    (table,) = TABLES[protocol](runs_in(folders), seconds=True)
    print("\n" + render(table))
    if protocol == "base2new" and len(jobs[0].specs) == 1:
        print(f"What {method} learned here applies only to the base classes: it has no head for novel ones.")
    return None


def _pop_option(words: list[str], option: str) -> str:
    """Remove an option and its value from the words. Returns the value; "" if it is not there."""
    if option not in words:
        return ""
    place = words.index(option)
    value = words[place + 1 : place + 2]
    del words[place : place + 2]
    if not value:
        raise UserError(f"{option} needs a value.")
    return value[0]


def _has_shots(rest: Sequence[str]) -> bool:
    """Whether DATASET SHOTS SEED was given instead of DATASET SEED."""
    return rest[1] == "all" or (len(rest) > 2 and rest[2].isdecimal())
