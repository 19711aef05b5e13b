"""Data sets under the names that CoOp's users expect. Files put here are imported too."""
