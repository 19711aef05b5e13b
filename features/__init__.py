"""Outputs of frozen towers: computed in large batches, kept on disk, shared by methods and runs."""
