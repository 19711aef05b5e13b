"""The section FEATURES of the configuration."""

from __future__ import annotations

from yacs.config import CfgNode

from ogkd.core.places import cache_folder


def feature_settings() -> CfgNode:
    """The defaults of FEATURES."""
    node = CfgNode()
    node.CACHE_DIR = str(cache_folder())  # features of frozen towers, shared by all runs; "": no cache
    node.IMAGES_AT_ONCE = 0  # images per pass of the image tower; 0: 256 on a GPU, 32 on a CPU
    node.TRAIN_VIEW = "plain"  # views that adapters and probes learn from: plain (as in the test) or augmented
    node.PRECISION = "fp32"  # of the frozen towers; bf16, if the device supports it, is faster but less exact
    node.PACKED_TEXT = False  # on a CPU, compute a BERT as PackedBert does: faster, rounded differently
    node.CUDA_GRAPHS = False  # replay the text tower's step as one CUDA graph; no effect on a CPU
    node.CROPS = 0  # crops per training image, reused by all epochs; 0: a new one each epoch, as published
    node.CROPS_GB = 8.0  # limit for these crops on disk, or in memory without CACHE_DIR
    return node
