"""OGKD's ablation on one data set: without each loss, with each graph, each number over its range, and what its two
distillation terms add to other methods (--students).

Prints one table. OGKD as configured is the benchmark's own run, in
OUTPUT; the variants are in OUTPUT/ablation/<OPTION>_<value>. Complete runs are skipped; a run that fails is reported
and the rest continue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, takewhile
from pathlib import Path

from ogkd.cli import many
from ogkd.core import UserError
from ogkd.core.words import underscored
from ogkd.runs.protocols import PROTOCOLS, Job, Places, locate, seeds_of, shots_of

METHOD = "OGKD"
# Each value of an option that differs from the configured one is a variant.
VARIANTS = {
    "LAMBDA_GAD": (0.0,),
    "LAMBDA_LGD": (0.0,),
    "LAMBDA_SCCM": (0.0,),
    "GRAPH": ("text", "geometry", "identity", "uniform"),
    "GAMMA": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    "TOP_K_RATIO": (0.1, 0.2, 0.4, 0.6, 0.8, 1.0),
    "ALPHA": (0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
    "SMOOTHING": ("log", "prob"),
    "TEXT_DROPOUT": (0.0, 0.1),
}


def main(argv: Sequence[str] | None = None) -> None:
    p = many.parser(__doc__)
    p.add_argument("dataset", help="one of configs/datasets/, a folder of your own images in DATA, or its path")
    p.add_argument("--protocol", type=underscored, choices=PROTOCOLS, default=PROTOCOLS[0])
    p.add_argument("--shots", default="16", help="shots of the few-shot protocol (default: 16)")
    p.add_argument(
        "words", nargs="*", metavar="SEED",
        help="seeds, or ranges such as 1-20 (default: 1-3), then KEY VALUE pairs that change the configuration",
    )  # fmt: skip
    p.add_argument(
        "--students", nargs="+", default=[], metavar="METHOD",
        help="prompt methods (or a group, see compare) that are run as they are, and with OGKD's distillation terms",
    )  # fmt: skip
    args = many.parse(p, argv)
    seeds = list(takewhile(lambda word: word[:1].isdecimal(), args.words))
    pairs = args.words[len(seeds) :]
    dataset, places = locate(args.dataset, many.places_of(args))
    shots = shots_of(args.shots, "--shots")
    jobs = planned(args.protocol, dataset, seeds_of(seeds or ["1-3"], "SEED"), shots, places, pairs, args.students)
    report = many.execute(chain(*jobs.values()), args, places, [dataset])
    if report is None:
        return
    from ogkd.evaluation.collect import runs_in
    from ogkd.reports.ablation import ablation_table

    if finished := runs_in(folder for job in chain(*jobs.values()) for folder in job.folders()):
        table = ablation_table(finished, args.protocol)
        many.show([table], table.notes)
    report.conclude()


def planned(
    protocol: str,
    dataset: str,
    seeds: Sequence[int],
    shots: int,
    places: Places,
    pairs: Sequence[str],
    students: Sequence[str] = (),
) -> dict[str, list[Job]]:
    """The jobs of each option's variants, under DISTIL those of students with OGKD's distillation terms and without,
    and under "" those of OGKD as configured.

    Raises:
        UserError: the data set is unknown or not part of the protocol, or a student takes no such terms.
    """
    from ogkd.evaluation.methods import expanded
    from ogkd.runs.config import resolve
    from ogkd.runs.plan import plan
    from ogkd.runs.registry import method_class

    def of(places: Places, *more: str, method: str = METHOD) -> list[Job]:
        return plan(protocol, [dataset], [method], seeds, [shots], places, [*pairs, *more])

    configured = of(places)
    if not configured:
        raise UserError(f"{dataset} is not part of {protocol}: choose another protocol with --protocol.")
    options = resolve(configured[0].specs[0]).cfg.TRAINER[METHOD]
    jobs = {"": configured}
    for option, values in VARIANTS.items():
        jobs[option] = []
        for value in values:
            if value != options[option] and (value != "geometry" or has_geometry(dataset)):
                label = f"{option}_{value:g}" if isinstance(value, float) else f"{option}_{value}"
                variant = replace(places, output=places.output / "ablation" / label)
                jobs[option] += of(variant, f"TRAINER.{METHOD}.{option}", str(value))
    for student in [method for method in expanded(students) if method != METHOD]:
        if "DISTIL" not in getattr(method_class(student), "options", ()):
            raise UserError(f"{student} takes no distillation terms: give prompt methods as --students, such as CoOp.")
        variant = replace(places, output=places.output / "ablation" / "DISTIL_ogkd")
        with_terms = of(variant, f"TRAINER.{student.upper()}.DISTIL", "ogkd", method=student)
        jobs["DISTIL"] = jobs.get("DISTIL", []) + of(places, method=student) + with_terms
    return jobs


def has_geometry(dataset: str) -> bool:
    """Whether there is a file that describes how the data set's classes relate."""
    from ogkd.classes import geometry_file
    from ogkd.data.catalogue import load

    facts = load().find(dataset)
    return geometry_file(facts.name if facts else Path(dataset).name).is_file()
