#!/usr/bin/env python3
"""One method on one data set: base-to-novel or few-shot, ending with a table.

    python scripts/run.py METHOD base2new DATASET SEED [KEY VALUE ...]
    python scripts/run.py METHOD few_shot DATASET SHOTS SEED [KEY VALUE ...]

DATASET is one of configs/datasets/ or a folder of your own images below DATA. Environment: DATA (default data),
OUTPUT (default output), BACKBONE (default BiomedCLIP; PhantomCLIP for phantom). KEY VALUE pairs change the
configuration. A complete run is not repeated, an unfinished one continues from its last epoch.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main(arguments: list[str]) -> None:
    from dassl.utils import UserError
    from phantom.dataset import ensure_dataset
    from runs.protocols import BASE2NEW_SHOTS, Place, Protocol, backbone_folder, integer
    from tables import base2new_table, few_shot_table

    method, protocol, *rest = arguments
    wanted = ["DATASET", "SEED"] if protocol == "base2new" else ["DATASET", "SHOTS", "SEED"]
    if len(rest) < len(wanted):
        raise UserError(f"Give {' '.join(wanted)}, as in: bash scripts/{method.lower()}/{protocol}.sh "
                        f"{'phantom 1' if protocol == 'base2new' else 'phantom 16 1'}.")  # fmt: skip
    dataset, *numbers = rest[: len(wanted)]
    shots = integer(numbers[0], "SHOTS", 1) if protocol == "few_shot" else BASE2NEW_SHOTS
    seed = integer(numbers[-1], "SEED", 0)

    place = Place()
    if dataset == "phantom":
        ensure_dataset(place.data)
    run = Protocol(method, dataset, shots, seed, rest[len(wanted) :], place)
    chosen = {"methods": [method], "seeds": [seed], "backbone": backbone_folder(run.backbone), "seconds": True}
    if protocol == "base2new":
        _, novel = run.base2new()
        print("\n" + base2new_table(place.output, dataset, **chosen))
        if novel is None:
            print(f"What {method} learned here belongs to the base classes: it has no head for novel ones.")
    else:
        run.few_shot()
        print("\n" + few_shot_table(place.output, dataset, **chosen))


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] in ("-h", "--help") or sys.argv[2] not in ("base2new", "few_shot"):
        print(__doc__.strip(), file=sys.stdout if "-h" in sys.argv or "--help" in sys.argv else sys.stderr)
        sys.exit(0 if "-h" in sys.argv or "--help" in sys.argv else 2)
    from train import command_line

    sys.exit(command_line(lambda: main(sys.argv[1:])))
