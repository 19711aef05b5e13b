"""The default configuration: every key, with the value it has unless a file, an argument or a KEY VALUE pair sets
another.

Keys and values are Dassl's; keys added by this toolbox are marked.
"""

from __future__ import annotations

from yacs.config import CfgNode


def default_config() -> CfgNode:
    """Return a new node that holds all defaults."""
    cfg = CfgNode()
    cfg.VERSION = 1
    cfg.OUTPUT_DIR = "./output"
    cfg.RESUME = ""  # run folder to continue from
    cfg.SEED = -1  # below 0: not seeded
    cfg.USE_CUDA = True
    cfg.VERBOSE = True

    cfg.INPUT = CfgNode()
    cfg.INPUT.SIZE = (224, 224)  # height, width
    cfg.INPUT.FRAME = 0  # frame or page to read from a file of several, counted from 1; 0: the middle one
    cfg.INPUT.INTERPOLATION = "bilinear"  # bilinear, bicubic or nearest
    cfg.INPUT.RESIZE = ""  # for testing: shortest (side, then a crop), shortest_down, squash or longest; added here
    cfg.INPUT.TRANSFORMS = ()  # names in dassl.data.transforms
    cfg.INPUT.NO_TRANSFORM = False
    cfg.INPUT.PIXEL_MEAN = [0.485, 0.456, 0.406]
    cfg.INPUT.PIXEL_STD = [0.229, 0.224, 0.225]
    cfg.INPUT.CROP_PADDING = 4
    cfg.INPUT.RRCROP_SCALE = (0.08, 1.0)
    cfg.INPUT.CUTOUT_N = 1
    cfg.INPUT.CUTOUT_LEN = 16
    cfg.INPUT.GN_MEAN = 0.0
    cfg.INPUT.GN_STD = 0.15
    cfg.INPUT.RANDAUGMENT_N = 2
    cfg.INPUT.RANDAUGMENT_M = 10
    cfg.INPUT.COLORJITTER_B = 0.4
    cfg.INPUT.COLORJITTER_C = 0.4
    cfg.INPUT.COLORJITTER_S = 0.4
    cfg.INPUT.COLORJITTER_H = 0.1
    cfg.INPUT.RGS_P = 0.2  # probability of random greyscale
    cfg.INPUT.GB_P = 0.5  # probability of Gaussian blur
    cfg.INPUT.GB_K = 21  # kernel size of Gaussian blur

    cfg.DATASET = CfgNode()
    cfg.DATASET.ROOT = ""
    cfg.DATASET.NAME = ""
    cfg.DATASET.SOURCE_DOMAINS = ()
    cfg.DATASET.TARGET_DOMAINS = ()
    cfg.DATASET.NUM_LABELED = -1
    cfg.DATASET.NUM_SHOTS = -1
    cfg.DATASET.VAL_PERCENT = 0.1
    cfg.DATASET.STL10_FOLD = -1
    cfg.DATASET.CIFAR_C_TYPE = ""
    cfg.DATASET.CIFAR_C_LEVEL = 1
    cfg.DATASET.ALL_AS_UNLABELED = False

    cfg.DATALOADER = CfgNode()
    cfg.DATALOADER.NUM_WORKERS = 4  # at most, started where they pay (ogkd.core.workers.Loader)
    cfg.DATALOADER.MEMORY_SHARE = 0.25  # added here; of the available memory, for decoded images; 0: none
    cfg.DATALOADER.K_TRANSFORMS = 1  # views of each training image
    cfg.DATALOADER.RETURN_IMG0 = False  # also return the image after resizing alone
    for part, sampler in (("TRAIN_X", "RandomSampler"), ("TRAIN_U", "RandomSampler"), ("TEST", "SequentialSampler")):
        loader = cfg.DATALOADER[part] = CfgNode()
        if part == "TRAIN_U":
            loader.SAME_AS_X = True
        loader.SAMPLER = sampler
        loader.BATCH_SIZE = 32
        if part != "TEST":
            loader.N_DOMAIN = 0
            loader.N_INS = 16

    cfg.MODEL = CfgNode()
    cfg.MODEL.INIT_WEIGHTS = ""
    cfg.MODEL.BACKBONE = CfgNode()
    cfg.MODEL.BACKBONE.NAME = ""
    cfg.MODEL.BACKBONE.PRETRAINED = True
    cfg.MODEL.HEAD = CfgNode()
    cfg.MODEL.HEAD.NAME = ""
    cfg.MODEL.HEAD.HIDDEN_LAYERS = ()
    cfg.MODEL.HEAD.ACTIVATION = "relu"
    cfg.MODEL.HEAD.BN = True
    cfg.MODEL.HEAD.DROPOUT = 0.0

    cfg.OPTIM = CfgNode()
    cfg.OPTIM.NAME = "adam"
    cfg.OPTIM.LR = 0.0003
    cfg.OPTIM.WEIGHT_DECAY = 5e-4
    cfg.OPTIM.MOMENTUM = 0.9
    cfg.OPTIM.SGD_DAMPNING = 0
    cfg.OPTIM.SGD_NESTEROV = False
    cfg.OPTIM.RMSPROP_ALPHA = 0.99
    cfg.OPTIM.ADAM_BETA1 = 0.9
    cfg.OPTIM.ADAM_BETA2 = 0.999
    cfg.OPTIM.ADAM_EPS = 1e-8  # added here
    cfg.OPTIM.STAGED_LR = False
    cfg.OPTIM.NEW_LAYERS = ()
    cfg.OPTIM.BASE_LR_MULT = 0.1
    cfg.OPTIM.LR_SCHEDULER = "single_step"
    cfg.OPTIM.STEPSIZE = (-1,)
    cfg.OPTIM.GAMMA = 0.1
    cfg.OPTIM.MAX_EPOCH = 10
    cfg.OPTIM.WARMUP_EPOCH = -1
    cfg.OPTIM.WARMUP_TYPE = "linear"  # linear or constant
    cfg.OPTIM.WARMUP_CONS_LR = 1e-5
    cfg.OPTIM.WARMUP_MIN_LR = 1e-5
    cfg.OPTIM.WARMUP_RECOUNT = True

    cfg.TRAIN = CfgNode()
    cfg.TRAIN.CHECKPOINT_FREQ = 0  # in epochs; 0: only after the last one
    cfg.TRAIN.KEEP_CHECKPOINTS = True  # added here; False: keep only the newest
    cfg.TRAIN.RESEED_EPOCHS = False  # added here; True: reseed the generators for each epoch
    cfg.TRAIN.PRINT_FREQ = 10  # in batches
    cfg.TRAIN.COUNT_ITER = "train_x"  # train_x, train_u or smaller_one

    cfg.TEST = CfgNode()
    cfg.TEST.EVALUATOR = "Classification"
    cfg.TEST.PER_CLASS_RESULT = False
    cfg.TEST.COMPUTE_CMAT = False  # save it to <OUTPUT_DIR>/cmat.pt
    cfg.TEST.NO_TEST = False
    cfg.TEST.SPLIT = "test"  # or val
    cfg.TEST.FINAL_MODEL = "last_step"  # or best_val

    cfg.TRAINER = CfgNode()
    cfg.TRAINER.NAME = ""
    return cfg
