"""The ground floor: errors, atomic files, images, hashes, logs and progress.

images.py, which needs NumPy and Pillow, and torchtools.py are imported by name, so that other programs start at once.
"""

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

__all__ = [
    "Diverged", "Logger", "MissingFile", "MissingKey", "UserError", "WrongValue", "atomic_path", "brief", "cause_of",
    "check_availability", "checkpoints_in", "did_you_mean", "expanded", "find_checkpoint", "first_line",
    "get_most_similar_str_to_a_from_b", "is_disk_full", "is_out_of_memory", "models_in", "parse_json", "progress",
    "read_json", "report_error", "run_program", "setup_logger", "sweep", "write_json",
]  # fmt: skip
