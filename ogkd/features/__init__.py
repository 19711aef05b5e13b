"""Features from frozen towers: computed in large batches, cached on disk, shared by methods and runs."""
