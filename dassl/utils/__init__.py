"""Helpers that trainers and data sets written for Dassl import from here."""

from .errors import UserError
from .files import (
    atomic_path,
    check_availability,
    check_isfile,
    get_most_similar_str_to_a_from_b,
    is_disk_full,
    listdir_nohidden,
    mkdir_if_missing,
    read_json,
    tolist_if_not,
    write_json,
)
from .images import read_image
from .logger import Logger, setup_logger
from .meters import AverageMeter, MetricMeter
from .progress import progress
from .registry import Registry
from .tools import collect_env_info, set_random_seed
from .torchtools import (
    checkpoints_in,
    count_num_param,
    init_network_weights,
    load_checkpoint,
    load_pretrained_weights,
    open_all_layers,
    open_specified_layers,
    restore,
    resume_from_checkpoint,
    save_checkpoint,
)

__all__ = [
    "AverageMeter",
    "Logger",
    "MetricMeter",
    "Registry",
    "UserError",
    "atomic_path",
    "check_availability",
    "check_isfile",
    "checkpoints_in",
    "collect_env_info",
    "count_num_param",
    "get_most_similar_str_to_a_from_b",
    "init_network_weights",
    "is_disk_full",
    "listdir_nohidden",
    "load_checkpoint",
    "load_pretrained_weights",
    "mkdir_if_missing",
    "open_all_layers",
    "open_specified_layers",
    "progress",
    "read_image",
    "read_json",
    "restore",
    "resume_from_checkpoint",
    "save_checkpoint",
    "set_random_seed",
    "setup_logger",
    "tolist_if_not",
    "write_json",
]
