"""The ground floor: errors, atomic files, images, hashes, logs, progress and checkpoints.

Names that need PyTorch are imported on first use, so that programs which only read files start at once.
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
    check_isfile,
    did_you_mean,
    expanded,
    get_most_similar_str_to_a_from_b,
    is_disk_full,
    listdir_nohidden,
    mkdir_if_missing,
    parse_json,
    read_json,
    sweep,
    tolist_if_not,
    write_json,
)
from ogkd.core.images import read_image
from ogkd.core.logger import Logger, setup_logger
from ogkd.core.progress import progress

if TYPE_CHECKING:
    from ogkd.core.tools import collect_env_info, download_url, random_states, restore_random_states, set_random_seed
    from ogkd.core.torchtools import (
        adjust_learning_rate,
        count_num_param,
        init_network_weights,
        load_checkpoint,
        load_pretrained_weights,
        open_all_layers,
        open_specified_layers,
        restore,
        resume_from_checkpoint,
        save_checkpoint,
        set_bn_to_eval,
    )

__all__ = [
    "Diverged",
    "Logger",
    "MissingFile",
    "MissingKey",
    "UserError",
    "WrongValue",
    "adjust_learning_rate",
    "atomic_path",
    "brief",
    "cause_of",
    "check_availability",
    "check_isfile",
    "checkpoints_in",
    "collect_env_info",
    "count_num_param",
    "did_you_mean",
    "download_url",
    "expanded",
    "find_checkpoint",
    "first_line",
    "get_most_similar_str_to_a_from_b",
    "init_network_weights",
    "is_disk_full",
    "is_out_of_memory",
    "listdir_nohidden",
    "load_checkpoint",
    "load_pretrained_weights",
    "mkdir_if_missing",
    "models_in",
    "open_all_layers",
    "open_specified_layers",
    "parse_json",
    "progress",
    "random_states",
    "read_image",
    "read_json",
    "report_error",
    "restore",
    "restore_random_states",
    "resume_from_checkpoint",
    "run_program",
    "save_checkpoint",
    "set_bn_to_eval",
    "set_random_seed",
    "setup_logger",
    "sweep",
    "tolist_if_not",
    "write_json",
]
_WITH_TORCH = ("tools", "torchtools")


def __getattr__(name: str) -> object:
    if name in __all__:
        for module in _WITH_TORCH:
            found = getattr(importlib.import_module(f".{module}", __name__), name, None)
            if found is not None:
                globals()[name] = found
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
