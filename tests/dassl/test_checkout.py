"""The methods in a checkout of CoOp's family: registered beside its trainers, and with the same losses on its Dassl."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from yacs.config import CfgNode

import dassl.engine
import ogkd
import ogkd.trainers
from dassl.config import get_cfg_default
from dassl.utils import Registry
from ogkd.tuning import registration
from tests.conftest import ROOT

UPSTREAM = os.environ.get("UPSTREAM_DASSL", "")  # a folder that holds upstream's package dassl
NAMES = {
    "dassl.config": "get_cfg_default clean_cfg",
    "dassl.data": "DataManager DatasetWrapper",
    "dassl.data.data_manager": "DataManager DatasetWrapper build_data_loader",
    "dassl.data.datasets": "DATASET_REGISTRY DatasetBase Datum build_dataset",
    "dassl.data.transforms": "INTERPOLATION_MODES build_transform",
    "dassl.data.transforms.transforms": "AVAI_CHOICES",
    "dassl.engine": "TRAINER_REGISTRY TrainerX SimpleTrainer TrainerBase build_trainer",
    "dassl.evaluation": "EVALUATOR_REGISTRY build_evaluator",
    "dassl.metrics": "compute_accuracy",
    "dassl.modeling": "BACKBONE_REGISTRY",
    "dassl.optim": "build_optimizer build_lr_scheduler",
    "dassl.optim.lr_scheduler": "AVAI_SCHEDS",
    "dassl.optim.optimizer": "AVAI_OPTIMS",
    "dassl.utils": "Registry",
    "dassl.utils.registry": "Registry",
}
"""Names of upstream's Dassl that this project may use."""


def test_nothing_is_imported_that_upstream_lacks_or_that_a_checkout_has_under_the_same_name():
    for file in (*ROOT.glob("ogkd/**/*.py"), *ROOT.glob("trainers/*.py")):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if not isinstance(node, ast.ImportFrom) or node.level or not node.module:
                continue
            assert node.module.partition(".")[0] not in ("clip", "datasets", "trainers", "configs"), (file, node.module)
            if node.module.partition(".")[0] == "dassl":
                assert {name.name for name in node.names} <= set(NAMES[node.module].split()), (file, node.module)


@pytest.fixture
def registry(monkeypatch):
    """An empty registry of trainers, as a checkout's Dassl has it, and no method registered."""
    empty = Registry("TRAINER")
    monkeypatch.setattr(dassl.engine, "TRAINER_REGISTRY", empty)
    monkeypatch.setattr(registration, "_registered", {})
    monkeypatch.setattr(registration, "_offers", [])
    return empty


def test_a_checkouts_names_stay_its_own_and_ours_get_a_prefix(registry, capsys):
    theirs = registry.register(type("CoOp", (), {}))
    cfg = get_cfg_default()
    cfg.TRAINER.COOP = CfgNode({"N_CTX": 16})
    cfg.TRAINER.PROGRAD = CfgNode({"LAMBDA": 1})  # a section whose trainer is not imported
    ogkd.extend_cfg(cfg)
    ogkd.extend_cfg(cfg)
    assert registry.get("CoOp") is theirs and cfg.TRAINER.COOP == {"N_CTX": 16} and cfg.TRAINER.PROGRAD == {"LAMBDA": 1}
    assert {"OGKD", "MaPLe", "OGKD_CoOp", "OGKD_ProGrad"} <= set(registry.registered_names())
    assert cfg.TRAINER.OGKD_COOP.N_CTX == 4 and "TAU" in cfg.TRAINER.OGKD
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and re.search(r"CoOp is .*own; ours is OGKD_CoOp", "\n".join(lines))


def test_no_value_of_the_checkouts_configuration_changes(registry):
    cfg = get_cfg_default()
    cfg.TRAIN.RESEED_EPOCHS = False
    before = cfg.clone()
    ogkd.extend_cfg(cfg)

    def unchanged(old, new):
        return all(unchanged(v, new[k]) if isinstance(v, CfgNode) else v == new[k] for k, v in old.items())

    assert unchanged(before, cfg)


PROGRAM = """
import hashlib, random, sys
from unittest import mock
import numpy as np, torch
from PIL import Image
from torch.optim import lr_scheduler

class Old(lr_scheduler.LRScheduler):  # upstream's schedules pass an argument that PyTorch no longer has
    def __init__(self, optimizer, last_epoch=-1, verbose=False):
        super().__init__(optimizer, last_epoch)

if "ours" not in sys.argv:
    lr_scheduler._LRScheduler = Old
    for name in ("wilds", "gdown", "torch.utils.tensorboard"):
        sys.modules[name] = mock.MagicMock()
torch.set_num_threads(1)
import ogkd.trainers
from dassl import __file__ as place
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import build_trainer
from dassl.utils import set_random_seed
import ogkd

@DATASET_REGISTRY.register()
class Drawn(DatasetBase):
    def __init__(self, cfg):
        def items(part, count):
            made = []
            for i in range(count):
                path = f"{cfg.DATASET.ROOT}/{part}{i}.png"
                pixels = np.random.default_rng(i).integers(0, 255, (40, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path)
                made.append(Datum(path, i % 2, classname=["round", "star"][i % 2]))
            return made
        super().__init__(train_x=items("train", 8), val=items("val", 4), test=items("test", 6))

def run(method, folder, epochs, *pairs):
    cfg = get_cfg_default()
    ogkd.extend_cfg(cfg)
    spec = ogkd.models.image_spec("PhantomCLIP")
    cfg.merge_from_list([
        "TRAINER.NAME", method, "DATASET.NAME", "Drawn", "DATASET.ROOT", sys.argv[1],
        "OUTPUT_DIR", f"{sys.argv[1]}/{folder}",
        "INPUT.SIZE", (spec.size, spec.size), "INPUT.PIXEL_MEAN", list(spec.mean), "INPUT.PIXEL_STD", list(spec.std),
        "INPUT.INTERPOLATION", "bicubic", "INPUT.TRANSFORMS", ("random_resized_crop", "random_flip", "normalize"),
        "MODEL.BACKBONE.NAME", "PhantomCLIP", "FEATURES.CACHE_DIR", "", "SEED", 1, "USE_CUDA", False, "VERBOSE", False,
        "DATALOADER.NUM_WORKERS", 0, "DATALOADER.TRAIN_X.BATCH_SIZE", 4, "OPTIM.NAME", "sgd", "OPTIM.LR", 0.002,
        "OPTIM.MAX_EPOCH", epochs, "OPTIM.LR_SCHEDULER", "cosine", "OPTIM.WARMUP_EPOCH", 1, "OPTIM.WARMUP_TYPE",
        "constant", "TRAIN.CHECKPOINT_FREQ", 1, "TRAIN.RESEED_EPOCHS", True, *pairs])
    cfg.freeze()
    set_random_seed(1)
    trainer = build_trainer(cfg)
    trainer.train()
    digest = hashlib.sha256()
    for model in trainer._models.values():
        for name, value in sorted(model.state_dict().items()):
            digest.update(value.numpy().tobytes())
    print("RESULT", method, folder, digest.hexdigest(), trainer.test(), file=sys.stderr)
    return trainer

import ogkd.models
run("OGKD", "ogkd", 2, "TRAINER.OGKD.PROMPTS", "templates")
run("MaPLe", "maple", 2)
run("TipAdapter", "tip", 2, "FEATURES.TRAIN_VIEW", "augmented")
run("CoOp", "coop", 2, "TEST.FINAL_MODEL", "best_val")
import pathlib
pathlib.Path(f"{sys.argv[1]}/coop/prompt_learner/model.pth.tar-2").unlink()
run("CoOp", "coop", 2, "TEST.FINAL_MODEL", "best_val")
print("DASSL", place, file=sys.stderr)
"""


def results(tmp_path, name, path):
    """What PROGRAM prints with these folders on Python's path."""
    folder = tmp_path / name
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), name], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [line for line in done.stderr.splitlines() if line.startswith(("RESULT", "DASSL"))]


@pytest.mark.slow
@pytest.mark.skipif(not UPSTREAM, reason="UPSTREAM_DASSL names no folder with upstream's package dassl")
def test_on_upstreams_dassl_every_kind_of_method_learns_what_it_learns_on_ours(tmp_path):
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "ogkd").symlink_to(ROOT / "ogkd")  # without dassl/ and clip/ beside it
    *theirs, place = results(tmp_path, "theirs", [UPSTREAM, tmp_path / "alone"])
    *ours, _ = results(tmp_path, "ours", [ROOT])
    assert Path(place.removeprefix("DASSL ")).is_relative_to(Path(UPSTREAM).resolve())
    assert len(ours) == 5 and theirs == ours
    assert ours[3] == ours[4], "a killed run resumes to the same bits"
