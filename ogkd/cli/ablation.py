"""OGKD's ablation on one data set: without each loss, with each graph, each number over its range.

Prints one table and draws two plots, of GAMMA and of TOP_K_RATIO. OGKD as configured is the benchmark's own run, in
OUTPUT; the variants are in OUTPUT/ablation/<OPTION>_<value>. Complete runs are skipped; a run that fails is reported
and the rest continue.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import cast

from ogkd.core import UserError
from ogkd.runs.engines.options import add_options, settings_of
from ogkd.runs.protocols import PROTOCOLS, Job, Places, ensure_generated, integer, locate, shots_of
from ogkd.runs.spec import shots_word

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
PLOTTED = ("GAMMA", "TOP_K_RATIO")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("dataset", help="one of configs/datasets/, a folder of your own images in DATA, or its path")
    p.add_argument("--protocol", choices=PROTOCOLS, default=PROTOCOLS[0])
    p.add_argument("--shots", default="16", help="shots of the few-shot protocol (default: 16)")
    p.add_argument("--rerun", action="store_true", help="remove the runs' earlier files and start afresh")
    add_options(p, "default: 1; one per core, at most 4, for PhantomCLIP")
    p.add_argument(
        "words", nargs="*", metavar="SEED",
        help="seeds (default: 1 2 3), then KEY VALUE pairs that change the configuration, after -- if options precede",
    )  # fmt: skip
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_intermixed_args(argv)
    seeds = list(takewhile(str.isdecimal, args.words))
    pairs = args.words[len(seeds) :]
    seeds = [integer(seed, "SEED", 0) for seed in seeds or ("1", "2", "3")]
    shots = shots_of(args.shots, "--shots")
    dataset, places = locate(args.dataset, Places())
    jobs = planned(args.protocol, dataset, seeds, shots, places, pairs)

    from ogkd.evaluation.collect import runs_in, warn
    from ogkd.reports.ablation import ablation_table
    from ogkd.reports.plots import save, sensitivity
    from ogkd.reports.render import document
    from ogkd.runs.engines import dry_run, go_through
    from ogkd.runs.engines.local import worker_count
    from ogkd.runs.ready import check_ready

    backbone = places.backbone_for(dataset)
    everything = [job.with_rerun(args.rerun) for of_option in jobs.values() for job in of_option]
    settings = settings_of(args, worker_count(args.jobs, backbone), backbone, places.output)
    if args.dry_run:
        dry_run(everything, settings)
        return
    ensure_generated(dataset, places.data)
    check_ready(spec for job in everything for spec in job.waiting())
    report = go_through(everything, settings)
    runs = {
        option: runs_in(folder for job in of_option for folder in job.folders()) for option, of_option in jobs.items()
    }
    if any(runs.values()):
        table = ablation_table([run for of_option in runs.values() for run in of_option], args.protocol)
        print("\n" + document([table]) + "\n")
        for note in table.notes:
            warn(note)
    number = shots_word(cast(int, everything[0].specs[0].shots))
    name = f"{dataset.replace(':', '_')}_{args.protocol}_{number}_{Path(backbone).name}"
    for option in PLOTTED:
        if drawn := [*runs[""], *runs[option]]:
            figure = sensitivity(drawn, f"TRAINER.{METHOD}.{option}")
            print(*save(figure, places.output / "ablation" / "plots" / f"{name}_{option.lower()}"), sep="\n")
    report.conclude()


def planned(
    protocol: str, dataset: str, seeds: Sequence[int], shots: int, places: Places, pairs: Sequence[str]
) -> dict[str, list[Job]]:
    """The jobs of each option's variants, and under "" those of OGKD as configured.

    Raises:
        UserError: the data set is unknown or not part of the protocol.
    """
    from ogkd.runs.config import resolve
    from ogkd.runs.plan import plan

    def of(places: Places, *more: str) -> list[Job]:
        return plan(protocol, [dataset], [METHOD], seeds, [shots], places, [*pairs, *more])

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
    return jobs


def has_geometry(dataset: str) -> bool:
    """Whether there is a file that describes how the data set's classes relate."""
    from ogkd.classes import geometry_file
    from ogkd.data.catalogue import load

    facts = load().find(dataset)
    return geometry_file(facts.name if facts else Path(dataset).name).is_file()
