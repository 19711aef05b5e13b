"""A contact sheet of the classes: python -m phantom.contact_sheet [FILE]"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np

from .findings import CLASSES, GROUPS
from .images import draw

matplotlib.use("Agg")
COLUMNS = 6


def main(path: Path) -> None:
    """Write the sheet: a row of images for each class, base classes on the left, novel ones on the right."""
    from matplotlib import pyplot as plt

    half = len(CLASSES) // 2
    figure, axes = plt.subplots(half, 2 * COLUMNS, figsize=(15, 8.6), facecolor="white")
    for i, name in enumerate(CLASSES):
        rng = np.random.default_rng(i)
        for k in range(COLUMNS):
            axis = axes[i % half, (i // half) * COLUMNS + k]
            axis.imshow(draw(rng, name), cmap="gray", vmin=0, vmax=255)
            axis.set_axis_off()
            if k == 0:
                axis.set_title(f"{name} ({GROUPS[name]})", loc="left", fontsize=11)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.91, bottom=0.01, wspace=0.04, hspace=0.22)
    figure.text(0.01, 0.965, "base classes", fontsize=14, weight="bold")
    figure.text(0.505, 0.965, "novel classes", fontsize=14, weight="bold")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/phantom.png"))
