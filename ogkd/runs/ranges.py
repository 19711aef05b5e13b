"""The allowed values of configuration keys, beyond their types.

Upper bounds catch typing errors, such as a number of epochs with a few zeros too many, which would otherwise only show
as a hang or as memory running out. Names from an open set, such as evaluators, are checked where they are looked up.
"""

from __future__ import annotations

from dassl.data.transforms import INTERPOLATION_MODES
from dassl.data.transforms.transforms import AVAI_CHOICES
from dassl.optim.lr_scheduler import AVAI_SCHEDS
from dassl.optim.optimizer import AVAI_OPTIMS
from ogkd.core.schema import Rule, each, number, one_of, or_empty, whole
from ogkd.data.sampling import DRAWS
from ogkd.data.trial_images import is_trial
from ogkd.features.precision import PRECISIONS
from ogkd.runs.spec import PRESETS, SUBSETS

MOST_EPOCHS = MOST_IMAGES = 1_000_000
MOST_SHOTS = 100_000  # images of one class
MOST_WORKERS = 256
LARGEST_SIDE = 4096  # in pixels
LARGEST_RATE, LARGEST_MULTIPLE = 1e32, 1e6  # their product still fits into single precision
LARGEST_SEED = 2**63 - 1  # the largest seed that PyTorch's generators accept on every device

share, positive, natural = number(0, 1), number(above=0), number(0)
decay = Rule(lambda value: 0 <= value < 1, "at least 0 and less than 1")
words = Rule(lambda values: all(isinstance(value, str) for value in values), "a list of names")
_batch = number(1, MOST_IMAGES)


def _is_scale(values: tuple[float, float]) -> bool:
    low, high = values
    return 0 < low <= high <= 1


RANGES = {
    "SEED": number(most=LARGEST_SEED),
    "SETTINGS": one_of(*PRESETS),
    "INPUT.SIZE": Rule(
        lambda size: len(size) == 2 and (size == (0, 0) or all(whole(s) and 1 <= s <= LARGEST_SIDE for s in size)),
        f"a height and a width of 1 to {LARGEST_SIDE} pixels, such as (224, 224), or (0, 0) for the backbone's",
    ),
    "INPUT.INTERPOLATION": or_empty(one_of(*INTERPOLATION_MODES)),
    "INPUT.RESIZE": or_empty(one_of("shortest", "shortest_down", "squash", "longest")),
    "INPUT.TRANSFORMS": Rule(
        lambda names: all(name in AVAI_CHOICES for name in names), f"a list of names out of {', '.join(AVAI_CHOICES)}"
    ),
    "DATASET.SOURCE_DOMAINS": words,
    "DATASET.TARGET_DOMAINS": words,
    "OPTIM.NEW_LAYERS": words,
    "INPUT.PIXEL_MEAN": or_empty(each(number(), 3)),
    "INPUT.PIXEL_STD": or_empty(each(positive, 3)),
    "INPUT.CROP_PADDING": number(0, LARGEST_SIDE),
    "INPUT.RRCROP_SCALE": Rule(_is_scale, "two shares of the image's area with 0 < least <= greatest <= 1"),
    "INPUT.CUTOUT_N": number(0, 1000),
    "INPUT.CUTOUT_LEN": number(0, LARGEST_SIDE),
    "INPUT.FRAME": number(0, MOST_IMAGES),
    "INPUT.GN_MEAN": number(),
    "INPUT.GN_STD": natural,
    "INPUT.RANDAUGMENT_N": number(0, 100),
    "INPUT.RANDAUGMENT_M": number(0, 30),
    "INPUT.COLORJITTER_B": natural,
    "INPUT.COLORJITTER_C": natural,
    "INPUT.COLORJITTER_S": natural,
    "INPUT.COLORJITTER_H": number(0, 0.5),
    "INPUT.RGS_P": share,
    "INPUT.GB_P": share,
    "INPUT.GB_K": Rule(lambda size: 1 <= size <= LARGEST_SIDE and size % 2 == 1, "odd and at least 1"),
    "DATASET.TRIAL": or_empty(Rule(is_trial, "val or a fold, such as 2/5")),
    "DATASET.NUM_SHOTS": Rule(
        lambda shots: shots == -1 or 1 <= shots <= MOST_SHOTS, f"1 to {MOST_SHOTS:,}, or -1 for all images"
    ),
    "DATASET.DRAW": one_of(*DRAWS),
    "DATASET.SUBSAMPLE_CLASSES": one_of(*SUBSETS),
    "DATALOADER.NUM_WORKERS": number(0, MOST_WORKERS),
    "DATALOADER.MEMORY_SHARE": share,
    "DATALOADER.K_TRANSFORMS": number(1, 100),
    "DATALOADER.TRAIN_X.BATCH_SIZE": _batch,
    "DATALOADER.TRAIN_U.BATCH_SIZE": _batch,
    "DATALOADER.TEST.BATCH_SIZE": _batch,
    "DATALOADER.TRAIN_X.N_INS": _batch,
    "DATALOADER.TRAIN_U.N_INS": _batch,
    "FEATURES.IMAGES_AT_ONCE": number(0, MOST_IMAGES),
    "FEATURES.PRECISION": one_of(*PRECISIONS),
    "FEATURES.CROPS": number(0, MOST_EPOCHS),
    "FEATURES.CROPS_GB": positive,
    "FEATURES.TRAIN_VIEW": one_of("plain", "augmented"),
    "OPTIM.NAME": one_of(*AVAI_OPTIMS),
    "OPTIM.LR": number(above=0, most=LARGEST_RATE),
    "OPTIM.WEIGHT_DECAY": number(0, LARGEST_RATE),
    "OPTIM.MOMENTUM": share,
    "OPTIM.SGD_DAMPNING": share,
    "OPTIM.RMSPROP_ALPHA": share,
    "OPTIM.ADAM_BETA1": decay,
    "OPTIM.ADAM_BETA2": decay,
    "OPTIM.ADAM_EPS": natural,
    "OPTIM.BASE_LR_MULT": number(0, LARGEST_MULTIPLE),
    "OPTIM.LR_SCHEDULER": one_of(*AVAI_SCHEDS),
    "OPTIM.STEPSIZE": Rule(
        lambda steps: len(steps) > 0 and all(whole(step) and -1 <= step <= MOST_EPOCHS for step in steps),
        "a list of epochs, whole numbers, or (-1,) for none",
    ),
    "OPTIM.GAMMA": share,
    "OPTIM.MAX_EPOCH": number(1, MOST_EPOCHS),
    "OPTIM.WARMUP_EPOCH": number(most=MOST_EPOCHS),
    "OPTIM.WARMUP_TYPE": one_of("linear", "constant"),
    "OPTIM.WARMUP_CONS_LR": number(0, LARGEST_RATE),
    "OPTIM.WARMUP_MIN_LR": number(0, LARGEST_RATE),
    "TRAIN.CHECKPOINT_FREQ": number(-1, MOST_EPOCHS),
    "TRAIN.PRINT_FREQ": number(1, MOST_IMAGES),
    "TRAIN.COUNT_ITER": one_of("train_x", "train_u", "smaller_one"),
    "TEST.SPLIT": one_of("test", "val"),
    "TEST.FINAL_MODEL": one_of("last_step", "best_val"),
    "TEST.CALIBRATE_ON": one_of("auto", "drawn", "all"),
}
