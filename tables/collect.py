"""Finding runs below a folder and reading what they found."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dassl.utils import UserError

# Rows in the order of the README's table of methods, and their names in print.
DISPLAY = {
    "ZeroShot": "Zero-shot",
    "ZeroShotEnsemble": "Zero-shot ensemble",
    "CLIPAdapter": "CLIP-Adapter",
    "TipAdapter": "Tip-Adapter",
    "TipAdapterF": "Tip-Adapter-F",
    "LinearProbe": "Linear probe",
    "LPPlusPlus": "LP++",
    "CoOp": "CoOp",
    "CoCoOp": "CoCoOp",
    "KgCoOp": "KgCoOp",
    "ProGrad": "ProGrad",
    "MaPLe": "MaPLe",
    "BiomedCoOp": "BiomedCoOp",
    "OGKD": "OGKD",
}
NEEDED = ("method", "subsample", "shots", "seed", "accuracy", "seconds", "config", "fingerprints")


@dataclass(frozen=True)
class Run:
    """One finished run. `dataset` and `backbone` are the names of its folders, `kind` is train_base, test_new or
    few_shot."""

    kind: str
    dataset: str
    backbone: str
    method: str
    shots: int
    seed: int
    results: dict
    path: Path


def collect(output: Path) -> list[Run]:
    """All finished runs below a folder: those with a results.json. A damaged one is named and left out.

    Raises:
        UserError: there is no such folder, or nothing in it is finished.
    """
    if not output.is_dir():
        raise UserError(f"There is no folder {output} with results.")
    runs = []
    for path in sorted(output.rglob("results.json")):
        run = _read(path)
        if run is not None:
            runs.append(run)
    if not runs:
        waiting = unfinished(output)
        begun = f"; {len(waiting)} runs are unfinished, the first is {waiting[0][0]}" if waiting else ""
        raise UserError(f"No run below {output} is finished{begun}.")
    return runs


def _read(path: Path) -> Run | None:
    try:
        results = json.loads(path.read_text())
        if not isinstance(results, dict) or any(key not in results for key in NEEDED):
            raise ValueError("it lacks what a run writes")
        # <kind>/<dataset>/shots_<n>/<method>/<backbone>/seed<k>/results.json
        kind, dataset, _, _, backbone = path.parts[-7:-2]
    except (ValueError, OSError) as error:
        print(f"Warning: {path} is damaged ({error}) and left out; delete it and run again.")
        return None
    return Run(
        kind, dataset, backbone, results["method"], int(results["shots"]), int(results["seed"]), results, path.parent
    )


def unfinished(output: Path) -> list[tuple[Path, int]]:
    """Run folders that have begun but hold no results, with the last epoch saved."""
    found = []
    for config in sorted(output.rglob("config.yaml")):
        folder = config.parent
        if not (folder / "results.json").is_file():
            numbers = [path.name.rpartition("-")[2] for path in folder.glob("*/model.pth.tar-*")]
            found.append((folder, max((int(number) for number in numbers if number.isdigit()), default=0)))
    return found


def row_order(methods: Iterable[str]) -> list[str]:
    """Methods in the order of the tables; unknown ones last, by name."""
    known = list(DISPLAY)
    return sorted(set(methods), key=lambda name: (known.index(name) if name in known else len(known), name))
