"""The picture of OGKD's idea: python docs/idea.py [FILE], by default docs/idea.png.

The image, the sentence and the classes are Phantom's and the class graph is that of ogkd/classes/Phantom.yaml. The
teacher's and the student's probabilities are made up; the target is computed from the teacher's along the graph.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ogkd.classes import class_graph_matrix
from ogkd.phantom.dataset import draw_class
from ogkd.phantom.findings import CLASSES

matplotlib.use("Agg")

SHOWN = ("spiculated mass", "smooth mass", "simple cyst", "septated cyst")
TEACHER = np.array([0.86, 0.06, 0.05, 0.03])
STUDENT = np.array([0.45, 0.17, 0.23, 0.15])
GAMMA, ALPHA = 0.5, 2.0
LETTERS = "ABCD"
IMAGE, PATCHES = 3, 8  # which of the drawn images; patches per side

WIDTH, HEIGHT = 16.0, 9.3
FROZEN, TAUGHT, LEARNED, LOSS, INK = "#dfe6ee", "#2f6f9f", "#d9731a", "#8a3ea8", "#222222"


def main(path: Path) -> None:
    figure = plt.figure(figsize=(10, 10 * HEIGHT / WIDTH), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
    axes.set_axis_off()
    teacher_lane(axes)
    image_lane(axes)
    student_lane(axes)
    losses(axes)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160, metadata={"Software": None})
    plt.close(figure)
    with Image.open(path) as made:
        small = made.convert("RGB").quantize(128)
    small.save(path, optimize=True)


def teacher_lane(axes: Axes) -> None:
    lane(axes, 8.95, "TEACHER", "what is written about each class", TAUGHT)
    for shift in (0.16, 0.08, 0.0):
        box(axes, 0.4 + shift, 6.75 - shift, 3.3, 1.35, "", "white", edge=TAUGHT)
    text(axes, 2.05, 7.42, "50 sentences per class:\n“… a star shaped focus\nwith radiating strands …”", size=8.6)
    box(axes, 4.75, 6.8, 1.8, 1.2, "text tower\n(frozen)", FROZEN)
    arrow(axes, (3.9, 7.4), (4.75, 7.4), TAUGHT)
    arrow(axes, (6.55, 7.4), (7.1, 7.4), TAUGHT)
    bars(axes, 7.05, 6.62, TEACHER, TAUGHT, "teacher’s opinion", names=True)
    arrow(axes, (10.3, 7.4), (10.75, 7.4), TAUGHT)
    graph(axes, 10.7, 6.45)
    arrow(axes, (12.85, 7.4), (13.3, 7.4), TAUGHT)
    graph_matrix = class_graph_matrix("geometry", SHOWN, "Phantom", ALPHA)
    bars(axes, 13.35, 6.62, (1 - GAMMA) * TEACHER + GAMMA * TEACHER @ graph_matrix, TAUGHT, "target")


def image_lane(axes: Axes) -> None:
    image, finding = draw_class("phantom", CLASSES.index(SHOWN[0]), 0, IMAGE + 1)[IMAGE]
    picture(axes, image, 0.55, 3.75, 1.75)
    text(axes, 1.42, 5.7, "image", size=9.2)
    box(axes, 3.05, 4.05, 1.8, 1.2, "image tower\n(frozen)", FROZEN)
    arrow(axes, (2.3, 4.65), (3.05, 4.65), INK)
    arrow(axes, (4.85, 4.9), (5.65, 5.3), INK)
    arrow(axes, (4.85, 4.4), (5.65, 4.0), INK)
    picture(axes, image, 5.7, 4.78, 1.15)
    text(axes, 7.0, 5.35, "whole image", size=8.6, ha="left")
    picture(axes, image, 5.7, 3.4, 1.15)
    text(axes, 7.0, 3.97, "its patches", size=8.6, ha="left")
    step, side = 1.15 / PATCHES, image.shape[0] // PATCHES
    share = finding.reshape(PATCHES, side, PATCHES, side).mean((1, 3))  # of each patch that the finding covers
    for row, column in np.ndindex(PATCHES, PATCHES):
        place, chosen = (5.7 + column * step, 3.4 + (PATCHES - 1 - row) * step), share[row, column] > 0.05
        axes.add_patch(Rectangle(place, step, step, fill=False, edgecolor="white", linewidth=0.3, zorder=3))
        if chosen:
            axes.add_patch(Rectangle(place, step, step, facecolor=LOSS, alpha=0.6, linewidth=0, zorder=4))
    arrow(axes, (6.45, 5.98), (6.88, 7.25), INK, dashed=True)
    arrow(axes, (6.75, 3.35), (7.65, 1.58), INK, dashed=True)


def picture(axes: Axes, image: np.ndarray, left: float, bottom: float, size: float) -> None:
    axes.imshow(image, cmap="gray", extent=(left, left + size, bottom, bottom + size), aspect="auto", zorder=2)


def student_lane(axes: Axes) -> None:
    lane(axes, 2.6, "STUDENT", "four context vectors are learned", LEARNED)
    for number in range(4):
        box(axes, 0.45 + 0.62 * number, 1.05, 0.54, 0.8, f"V{number + 1}", LEARNED, colour="white")
    text(axes, 2.98, 1.45, "“spiculated mass.”", size=8.6, ha="left")
    box(axes, 5.4, 0.85, 1.8, 1.2, "text tower\n(frozen)", FROZEN)
    arrow(axes, (4.98, 1.45), (5.4, 1.45), LEARNED)
    arrow(axes, (7.2, 1.45), (13.2, 1.45), LEARNED)
    text(axes, 10.1, 1.68, "compared with the image and with its patches", size=8.6, colour=LEARNED)
    bars(axes, 13.35, 0.67, STUDENT, LEARNED, "student’s answer")


def losses(axes: Axes) -> None:
    arrow(axes, (14.35, 6.5), (14.35, 2.75), LOSS, width=2.2)
    box(axes, 9.35, 4.86, 4.6, 0.98, "GAD: agree on the whole image", "white", edge=LOSS, colour=LOSS, bold=True)
    box(axes, 9.35, 3.48, 4.6, 0.98, "LGD: agree on the patches that\nspeak most for the true class", "white",
        edge=LOSS, colour=LOSS, bold=True)  # fmt: skip
    for height in (5.35, 3.97):
        arrow(axes, (8.45, height), (9.35, height), LOSS)
        arrow(axes, (13.95, height), (14.35, height), LOSS, style="-", width=2.2)
    axes.plot([14.35, 14.35, 1.65], [0.62, 0.25, 0.25], color=LOSS, linewidth=1.6, linestyle=(0, (4, 2)), zorder=1)
    arrow(axes, (1.65, 0.25), (1.65, 1.0), LOSS)
    text(axes, 8.0, 0.47, "the training changes nothing but the four vectors", size=9.2, colour=LOSS, bold=True)


def graph(axes: Axes, left: float, bottom: float) -> None:
    """Phantom's classes, joined the thicker the closer they are."""
    weights = class_graph_matrix("geometry", SHOWN, "Phantom", ALPHA)
    corners = np.add([(0.45, 1.45), (1.75, 1.45), (1.75, 0.4), (0.45, 0.4)], (left, bottom))
    for one in range(len(SHOWN)):
        for other in range(one):
            (x1, y1), (x2, y2) = corners[one], corners[other]
            axes.plot([x1, x2], [y1, y2], color=TAUGHT, linewidth=14 * weights[one, other], zorder=1, alpha=0.6)
    for (x, y), letter in zip(corners, LETTERS, strict=True):
        axes.scatter([x], [y], s=330, color="white", edgecolor=TAUGHT, zorder=3)
        text(axes, x, y, letter, size=8.6, zorder=6)
    text(axes, left + 1.1, bottom + 2.1, "class graph", size=9.2, colour=TAUGHT, bold=True)
    text(axes, left + 1.1, bottom - 0.12, "related classes share", size=8.6)


def bars(
    axes: Axes, left: float, bottom: float, values: np.ndarray, colour: str, title: str, names: bool = False
) -> None:
    """Horizontal bars of probabilities, one per class."""
    start = left + (1.8 if names else 0.35)
    for number, (letter, name, value) in enumerate(zip(LETTERS, SHOWN, values, strict=True)):
        height = bottom + 1.2 - 0.36 * number
        axes.add_patch(Rectangle((start, height), 1.3 * value, 0.26, color=colour, zorder=2))
        label = f"{name}  {letter}" if names else letter
        text(axes, start - 0.08, height + 0.12, label, size=8, ha="right")
    axes.plot([start, start], [bottom + 0.05, bottom + 1.52], color=INK, linewidth=0.8)
    text(axes, left + (1.8 if names else 0.9), bottom + 1.77, title, size=9.2, colour=colour, bold=True)


def lane(axes: Axes, height: float, name: str, what: str, colour: str) -> None:
    text(axes, 0.4, height, name, size=11, ha="left", colour=colour, bold=True)
    text(axes, 2.15, height, what, size=9.2, ha="left", colour=colour)


def box(
    axes: Axes, x: float, y: float, width: float, height: float, words: str, fill: str,
    edge: str = INK, colour: str = INK, bold: bool = False,
) -> None:  # fmt: skip
    shape = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.09", facecolor=fill,
                           edgecolor=edge, linewidth=1.1, zorder=2)  # fmt: skip
    axes.add_patch(shape)
    text(axes, x + width / 2, y + height / 2, words, size=9.2, colour=colour, bold=bold)


def arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, style: str = "-|>",
    width: float = 1.4, dashed: bool = False,
) -> None:  # fmt: skip
    line = (0, (3, 2)) if dashed else "-"
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle=style, mutation_scale=12, linewidth=width, linestyle=line,
                                   color=colour, shrinkA=0, shrinkB=0, zorder=1))  # fmt: skip


def text(
    axes: Axes, x: float, y: float, words: str, size: float, ha: str = "center", colour: str = INK, bold: bool = False,
    zorder: int = 5,
) -> None:  # fmt: skip
    weight = "bold" if bold else "normal"
    axes.text(x, y, words, fontsize=size, ha=ha, va="center", color=colour, weight=weight, zorder=zorder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("idea.png"))
