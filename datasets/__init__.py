"""Data sets under the names that CoOp's users expect. Files put here are imported too."""

import ogkd  # noqa: F401  datasets.catalogue and others are former names
