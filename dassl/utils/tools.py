"""Seeds and environment."""

from __future__ import annotations

import os
import platform
import random

import numpy as np
import PIL
import torch
import torchvision


def set_random_seed(seed: int) -> None:
    """Seed python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)


def collect_env_info() -> str:
    """What computes here, a line each, for the log."""
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
