"""The ground floor: errors, atomic files, images, hashes, logs, progress and checkpoints.

Names that need PyTorch, NumPy or Pillow are imported on first use, so that programs without images start at once.
"""

import importlib
from typing import TYPE_CHECKING

from ogkd.core.checkpoints import checkpoints_in, find_checkpoint, models_in
from ogkd.core.errors import (
    Diverged,
    MissingFile,
    MissingKey,
    UserError,
    WrongValue,
    brief,
    cause_of,
    first_line,
    is_out_of_memory,
    report_error,
    run_program,
)
from ogkd.core.files import (
    atomic_path,
    check_availability,
    did_you_mean,
    expanded,
    get_most_similar_str_to_a_from_b,
    is_disk_full,
    parse_json,
    read_json,
    sweep,
    write_json,
)
from ogkd.core.logger import Logger, setup_logger
from ogkd.core.progress import progress

if TYPE_CHECKING:
    from ogkd.core.images import read_image
    from ogkd.core.torchtools import (
        collect_env_info,
        load_checkpoint,
        random_states,
        restore,
        restore_random_states,
        resume_from_checkpoint,
        save_checkpoint,
        set_random_seed,
    )

__all__ = [
    "Diverged", "Logger", "MissingFile", "MissingKey", "UserError", "WrongValue", "atomic_path", "brief", "cause_of",
    "check_availability", "checkpoints_in", "collect_env_info", "did_you_mean", "expanded", "find_checkpoint",
    "first_line", "get_most_similar_str_to_a_from_b", "is_disk_full", "is_out_of_memory", "load_checkpoint",
    "models_in", "parse_json", "progress", "random_states", "read_image", "read_json", "report_error", "restore",
    "restore_random_states", "resume_from_checkpoint", "run_program", "save_checkpoint", "set_random_seed",
    "setup_logger", "sweep", "write_json",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "ogkd.core.images" if name == "read_image" else "ogkd.core.torchtools"
    value = globals()[name] = getattr(importlib.import_module(module), name)
    return value
