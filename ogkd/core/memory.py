"""How much memory is left."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")


def available_bytes(system: Path = Path("/proc"), groups: Path = GROUPS) -> float:
    """Memory that this process can still take, within the limits of its container or Slurm job; infinite where the
    system does not say."""
    return max(0.0, min([_of_machine(system), *_of_groups(system, groups)]))


def _of_machine(system: Path) -> float:
    with contextlib.suppress(OSError, StopIteration):
        lines = (system / "meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024.0 for line in lines if line.startswith("MemAvailable:"))
    with contextlib.suppress(OSError, ValueError, AttributeError):  # macOS; Windows has no sysconf
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    return math.inf


def _of_groups(system: Path, groups: Path) -> list[float]:
    """What is left in the control group of this process and in those above it (cgroup v2)."""
    left = []
    with contextlib.suppress(OSError, StopIteration):
        lines = (system / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
        own = groups / next(line.removeprefix("0::/") for line in lines if line.startswith("0::/"))
        for group in (own, *own.parents):
            with contextlib.suppress(OSError, ValueError, KeyError):  # the root has none; "max" is no limit
                limit = int((group / "memory.max").read_text())
                facts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
                used = int((group / "memory.current").read_text()) - int(facts["inactive_file"])
                left.append(float(limit - used))
            if group == groups:
                break
    return left
