"""Contact sheets of the data sets and of the modalities: python -m phantom.contact_sheet [FOLDER]

Writes FOLDER/phantom.png, phantom_shift.png, phantom_grades.png and phantom_modalities.png.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from ogkd.phantom.dataset import DATASETS, SEED, draw_class
from ogkd.phantom.findings import CLASSES, GROUPS, Array
from ogkd.phantom.images import MODALITIES, draw

matplotlib.use("Agg")
COLUMNS = 6


def sheet(rows: list[tuple[str, list[Array]]], path: Path, columns: int, titles: tuple[str, ...] = ()) -> None:
    """Write titled rows of images, arranged in `columns` columns, filled downwards."""
    from matplotlib import pyplot as plt

    height = -(-len(rows) // columns)
    wide = len(rows[0][1])
    figure, axes = plt.subplots(
        height, wide * columns, figsize=(1.25 * wide * columns, 1.5 * height + 0.4), facecolor="white", squeeze=False
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for number, (title, images) in enumerate(rows):
        for k, image in enumerate(images):
            axis = axes[number % height, number // height * wide + k]
            axis.imshow(image, cmap="gray", vmin=0, vmax=255)
            if k == 0:
                axis.set_title(title, loc="left", fontsize=10)
    top = 1 - (0.65 if titles else 0.3) / (1.5 * height + 0.4)
    figure.subplots_adjust(left=0.01, right=0.99, top=top, bottom=0.01, wspace=0.04, hspace=0.24)
    for column, title in enumerate(titles):
        figure.text(0.01 + column * 0.99 / columns, 0.965, title, fontsize=13, weight="bold")
    figure.savefig(path, dpi=80)
    plt.close(figure)
    with Image.open(path) as made:
        small = made.convert("RGB").quantize(64)
    small.save(path, optimize=True)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in DATASETS.items():
        rows = [
            (f"{title} ({GROUPS[title]})" if title in GROUPS else title, [i for i, _ in draw_class(name, k, SEED, 6)])
            for k, title in enumerate(data.classes)
        ]
        if data.classes == CLASSES:
            sheet(rows, folder / f"{name}.png", 2, ("base classes", "novel classes"))
        else:
            sheet(rows, folder / f"{name}.png", 1)
    rows = [
        (kind, [draw(np.random.default_rng([SEED, k]), title, kind) for k, title in enumerate(CLASSES)])
        for kind in MODALITIES
    ]
    sheet(rows, folder / "phantom_modalities.png", 1)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
