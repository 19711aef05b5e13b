"""What the benchmark fixes, and which settings do not count when runs are compared."""

from __future__ import annotations

BASE2NEW_SHOTS = 16
"""Training images per class of the base classes in base-to-novel."""

SCORES = {"accuracy": "accuracy", "balanced_accuracy": "balanced_accuracy", "likelihood": "nll"}
"""By what a search for settings compares its trials, and the metric of each."""

PLACES = (
    "OUTPUT_DIR", "RESUME", "VERBOSE", "DATASET.ROOT", "FEATURES.CACHE_DIR", "FEATURES.CROPS_GB", "TRAIN.PRINT_FREQ",
    "DATALOADER.NUM_WORKERS", "DATALOADER.MEMORY_SHARE",
)  # fmt: skip
"""Locations and display settings, which do not change what a run computes."""
