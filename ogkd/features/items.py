"""Dassl's list of images, with transforms that a seed and the item's number decide."""

from __future__ import annotations

import dassl.data.data_manager
from ogkd.core.seeds import derived_seed, seeded

if hasattr(dassl.data.data_manager.DatasetWrapper, "epoch_seed"):
    DatasetWrapper = dassl.data.data_manager.DatasetWrapper
else:  # upstream's

    class DatasetWrapper(dassl.data.data_manager.DatasetWrapper):  # type: ignore[no-redef]
        """If `epoch_seed` is set, the transform of item i depends only on `epoch_seed` and i: not on earlier draws, nor
        on the worker process."""

        epoch_seed: int | None = None

        def __getitem__(self, index: int) -> dict:
            if self.epoch_seed is None:
                return super().__getitem__(index)
            with seeded(derived_seed(self.epoch_seed, index)):
                return super().__getitem__(index)
