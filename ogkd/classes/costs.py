"""Distances between classes and the costs of mistakes."""

from __future__ import annotations

import numpy as np

from ogkd.classes.files import Geometry, Tree


def distances(geometry: Geometry) -> np.ndarray:
    """Return the distances (C, C) between classes, float64 in 0..1, symmetric with a zero diagonal.

    Tree: the height of two classes' lowest common ancestor over the height of the tree (Bertinetto et al., "Making
    Better Mistakes", CVPR 2020, arXiv 1912.09393). A class has height 0, a group 1 more than its highest child.
    Order: |i - j| / (number of classes - 1).
    """
    everything = geometry.all_classnames
    if geometry.is_ordered:
        grade = np.arange(len(everything), dtype=float)
        full = abs(grade[:, None] - grade) / (len(everything) - 1)
    else:
        height, heights = _ancestor_heights(geometry.tree)
        full = heights / height
    index = [everything.index(name) for name in geometry.classnames]
    return full[np.ix_(index, index)]


def costs(geometry: Geometry) -> np.ndarray:
    """Return the costs (C, C) of mistakes, float64 in 0..1: one row per true class, one column per predicted class.

    The diagonal is zero. A cost is the distance unless the geometry overrides it; overrides need not be symmetric.
    """
    matrix = distances(geometry)
    index = {name: i for i, name in enumerate(geometry.classnames)}
    for true, row in geometry.overrides.items():
        for predicted, cost in row.items():
            if true in index and predicted in index:
                matrix[index[true], index[predicted]] = cost
    return matrix


def _ancestor_heights(node: Tree | None) -> tuple[int, np.ndarray]:
    """Return a node's height, and the heights (L, L) of the lowest common ancestors of the L classes below it."""
    if node is None:
        return 0, np.zeros((1, 1))
    below = [_ancestor_heights(child) for child in node.values()]
    height = 1 + max(child_height for child_height, _ in below)
    matrix = np.full((sum(len(block) for _, block in below),) * 2, float(height))
    start = 0
    for _, block in below:
        end = start + len(block)
        matrix[start:end, start:end] = block
        start = end
    return height, matrix
