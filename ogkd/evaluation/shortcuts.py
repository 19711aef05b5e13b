"""Finds what tells the classes without a look at the picture: sizes, modes, suffixes, brightness, borders.

If the images of one class come from another camera or program, a model can learn that instead of the disease.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ogkd.core.opening import THUMB, Look
from ogkd.core.words import listed
from ogkd.evaluation.shares import Shares, interval

MOST = 5000  # images that are looked at
FEWEST = 8  # images, or patients, of a class
FOLDS = 4
LEVEL = 0.99  # of the interval, as several features are tried
# How far above chance, as a share of what is possible, the interval must be. What is in the picture may be the disease.
OF_FILE, OF_PICTURE = 0.1, 0.6


def shortcuts(classes: Mapping[str, Sequence[Look]], patients: Mapping[str, str] | None = None) -> list[str]:
    """Return a phrase about the feature that tells the classes best, if one does; else [].

    classes: class name -> its images; unreadable ones do not count. Brightness, border and size of the file are tried
    if all are looked at closely. patients: image -> patient.
    """
    looks = [(name, look) for name, of in classes.items() for look in of if not look.problem]
    looks = looks[:: -(-len(looks) // MOST) or 1]
    units = {look.path: (patients or {}).get(look.path) or look.path for _, look in looks}
    people = Counter(name for name, _ in {(name, units[look.path]) for name, look in looks})
    names = [name for name in classes if people[name] >= FEWEST]
    looks = [(name, look) for name, look in looks if name in names]
    if len(names) < 2:
        return []
    labels = np.array([names.index(name) for name, _ in looks])
    groups = np.unique([units[look.path] for _, look in looks], return_inverse=True)[1]
    chance, candidates = 1 / len(names), []
    for what, (margin, columns, words) in _features([look for _, look in looks]).items():
        if all(len(np.unique(column)) == 1 for column in columns):
            continue
        right = _predicted(np.column_stack(columns), labels, groups) == labels
        shares = Shares(right.astype(float), labels, np.full(len(names), chance))
        low, high = interval(shares, groups, LEVEL)
        if low > chance + margin * (1 - chance):
            mean = float(np.mean([right[labels == label].mean() for label in range(len(names))]))
            candidates.append((mean, low, high, what, words if words else columns[0]))
    if not candidates:
        return []
    mean, low, high, what, values = max(candidates, key=lambda one: one[0])
    others = [one[3] for one in candidates if one[3] != what]
    also = f"; so {'does' if len(others) == 1 else 'do'} {listed(others, most=9)}" if others else ""
    return [
        f"{what} alone predicts the class: {_example(values, labels, names)}. A classifier that sees nothing else has "
        f"a balanced accuracy of {100 * mean:.1f} % [{100 * low:.1f}, {100 * high:.1f}] on {len(looks)} images, by "
        f"cross-validation (chance {100 * chance:.1f} %){also}: if it is not the disease, prepare the images of all "
        "classes in the same way"
    ]


def _features(looks: Sequence[Look]) -> dict[str, tuple[float, list, list[str] | None]]:
    """Return feature -> the margin above chance, its columns of numbers, and its values in words, if it has some."""
    sizes = [f"{look.size[0]}x{look.size[1]} pixels" for look in looks]
    modes, suffixes = [look.mode for look in looks], [Path(look.path).suffix.lower() or "no suffix" for look in looks]
    width, height = np.array([look.size for look in looks]).T
    of_file: dict[str, tuple[float, list, list[str] | None]] = {
        "the size of the images": (OF_FILE, [width, height], sizes),
        "the colour mode": (OF_FILE, [np.unique(modes, return_inverse=True)[1]], modes),
        "the kind of file": (OF_FILE, [np.unique(suffixes, return_inverse=True)[1]], suffixes),
    }
    if not all(look.thumbnail for look in looks):
        return of_file
    grey = np.stack([np.frombuffer(look.thumbnail, np.uint8) for look in looks]).reshape(-1, THUMB, THUMB) / 1.0
    rim = np.concatenate([grey[:, 0], grey[:, -1], grey[:, 1:-1, 0], grey[:, 1:-1, -1]], axis=1)
    density = np.array([look.bytes for look in looks]) / (width * height)
    return of_file | {
        "the size of the files (bytes per pixel)": (OF_PICTURE, [density], None),
        "the mean brightness (0 to 255)": (OF_PICTURE, [grey.mean((1, 2))], None),
        "the border (its brightness, 0 to 255)": (OF_PICTURE, [rim.mean(1), rim.std(1)], None),
    }


def _predicted(features: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the label of each image, (N,), by a small tree that has not seen it, nor its patient."""
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(
        max_leaf_nodes=4 * int(labels.max() + 1), min_samples_leaf=3, class_weight="balanced", random_state=0
    )
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    return cross_val_predict(tree, features, labels, groups=groups, cv=folds)


def _example(values: Sequence, labels: np.ndarray, names: Sequence[str]) -> str:
    """Return in words what sets one class apart."""
    if isinstance(values[0], str):
        of = np.array(values)

        def apart(label: int, value: str) -> float:
            return float((of[labels == label] == value).mean() - (of[labels != label] == value).mean())

        pairs = [(label, value) for label in range(len(names)) for value, _ in Counter(values).most_common(20)]
        label, value = max(pairs, key=lambda pair: apart(*pair))
        mine, other = (100 * float((of[where] == value).mean()) for where in (labels == label, labels != label))
        return f"{mine:.0f} % of the images of {names[label]!r} are {value}, {other:.0f} % of the others"
    ranks = np.argsort(np.argsort(values)) / len(labels)
    label = max(range(len(names)), key=lambda one: abs(ranks[labels == one].mean() - ranks[labels != one].mean()))
    mine, other = (np.quantile(np.asarray(values)[where], (0.1, 0.9)) for where in (labels == label, labels != label))
    return (
        f"for most images of {names[label]!r} it is {mine[0]:.3g} to {mine[1]:.3g}, for most others {other[0]:.3g} to "
        f"{other[1]:.3g}"
    )
