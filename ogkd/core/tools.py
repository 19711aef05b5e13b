"""Seeds, environment and downloads, and the other names that Dassl keeps in this module."""

from __future__ import annotations

import os
import platform
import random
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
import torchvision

from ogkd.core.errors import UserError
from ogkd.core.files import (
    atomic_path,
    check_availability,
    check_isfile,
    get_most_similar_str_to_a_from_b,
    listdir_nohidden,
    mkdir_if_missing,
    read_json,
    tolist_if_not,
    write_json,
)
from ogkd.core.images import read_image

__all__ = [
    "check_availability",
    "check_isfile",
    "collect_env_info",
    "download_url",
    "get_most_similar_str_to_a_from_b",
    "listdir_nohidden",
    "mkdir_if_missing",
    "random_states",
    "read_image",
    "read_json",
    "restore_random_states",
    "set_random_seed",
    "tolist_if_not",
    "write_json",
]


def set_random_seed(seed: int) -> None:
    """Seed python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)


def random_states() -> dict[str, Any]:
    """Return the states of all random number generators, as tensors and plain values for a checkpoint."""
    state: Any = np.random.get_state()
    name, keys, *rest = state
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Restore the states from `random_states`; those of absent GPUs are ignored."""
    version, internal, gauss = states["python"]
    name, keys, *rest = states["numpy"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def download_url(url: str, dst: str | Path) -> None:
    """Download a file atomically.

    Raises:
        UserError: the download failed.
    """
    print(f'* url="{url}"\n* destination="{dst}"')
    try:
        with atomic_path(dst) as temporary:
            urllib.request.urlretrieve(url, temporary)
    except (OSError, ValueError) as error:
        raise UserError(f"{url} cannot be downloaded ({error}): fetch it by other means and put it at {dst}.") from None


def collect_env_info() -> str:
    """Describe the hardware and versions in use, one per line, for the log."""
    on_gpu = torch.cuda.is_available()
    facts = {
        "Python": platform.python_version(),
        "System": platform.platform(),
        "PyTorch": torch.__version__,
        "torchvision": torchvision.__version__,
        "NumPy": np.__version__,
        "Pillow": PIL.__version__,
        "CUDA": torch.version.cuda if on_gpu else "not in use",
        "GPU": ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) if on_gpu else "none",
        "CPU cores": os.cpu_count(),
        "Threads": torch.get_num_threads(),
    }
    return "\n".join(f"{name}: {value}" for name, value in facts.items())
