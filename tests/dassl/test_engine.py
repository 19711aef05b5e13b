"""The engine keeps Dassl's promises and its own."""

import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import f1_score
from torch.optim.lr_scheduler import CosineAnnealingLR

from dassl.config import get_cfg_default
from dassl.data import DatasetWrapper, Datum, build_data_loader, build_transform
from dassl.evaluation import build_evaluator
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.optim.lr_scheduler import ConstantWarmupScheduler
from dassl.utils import MetricMeter, Registry
from ogkd.core import UserError, atomic_path, find_checkpoint, run_program, setup_logger, sweep, write_json
from ogkd.core.images import read_image
from ogkd.core.torchtools import load_checkpoint, resume_from_checkpoint, save_checkpoint


@pytest.fixture
def cfg():
    return get_cfg_default()


# Learning rates


@given(max_epoch=st.integers(1, 60), resumed_at=st.integers(0, 60))
def test_the_learning_rate_is_constant_for_one_epoch_and_then_a_cosine_also_after_a_resume(max_epoch, resumed_at):
    cfg = get_cfg_default().OPTIM
    cfg.NAME, cfg.LR, cfg.LR_SCHEDULER, cfg.MAX_EPOCH = "sgd", 0.0025, "cosine", max_epoch
    cfg.WARMUP_EPOCH, cfg.WARMUP_TYPE, cfg.WARMUP_CONS_LR = 1, "constant", 1e-5

    def fresh():
        optim = build_optimizer([torch.nn.Parameter(torch.zeros(2))], cfg)
        return optim, build_lr_scheduler(optim, cfg)

    optim, sched = fresh()
    for epoch in range(max_epoch):
        if epoch == resumed_at:
            states = optim.state_dict(), sched.state_dict()
            optim, sched = fresh()
            optim.load_state_dict(states[0])
            sched.load_state_dict(states[1])
        expected = 1e-5 if epoch == 0 else 0.5 * 0.0025 * (1 + math.cos(math.pi * (epoch - 1) / max_epoch))
        assert optim.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-9, abs=1e-15)
        optim.step()
        sched.step()


def test_linear_warm_up_rises_to_the_base_rate(cfg):
    options = cfg.OPTIM
    options.NAME, options.LR, options.WARMUP_EPOCH, options.WARMUP_TYPE = "sgd", 1.0, 4, "linear"
    optim = build_optimizer([torch.nn.Parameter(torch.zeros(1))], options)
    sched = build_lr_scheduler(optim, options)
    rates = []
    for _ in range(5):
        rates.append(optim.param_groups[0]["lr"])
        optim.step()
        sched.step()
    assert rates == pytest.approx([1e-5, 0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize("name", ["adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw"])
def test_every_optimiser_moves_the_parameters(cfg, name):
    layer = torch.nn.Linear(2, 1)
    before = layer.weight.detach().clone()
    cfg.OPTIM.NAME = name
    optim = build_optimizer(layer, cfg.OPTIM)
    layer(torch.ones(1, 2)).sum().backward()
    optim.step()
    assert not torch.equal(before, layer.weight)


def test_staged_rates_are_lower_for_old_layers(cfg):
    model = torch.nn.Sequential()
    model.add_module("old", torch.nn.Linear(1, 1))
    model.add_module("new", torch.nn.Linear(1, 1))
    cfg.OPTIM.STAGED_LR, cfg.OPTIM.NEW_LAYERS, cfg.OPTIM.LR = True, "new", 0.1
    groups = build_optimizer(model, cfg.OPTIM).param_groups
    assert [group["lr"] for group in groups] == pytest.approx([0.01, 0.1])


# Checkpoints


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.mark.parametrize("write", [pickle.dump, lambda obj, file: torch.save(obj, file)], ids=["pickle", "torch"])
def test_a_pickle_bomb_is_refused_and_does_not_go_off(tmp_path, write):
    path, trace = tmp_path / "model.pth.tar-1", tmp_path / "exploded"
    with path.open("wb") as file:
        write({"state_dict": Bomb(str(trace)), "epoch": 1}, file)
    with pytest.raises(UserError, match=r"model\.pth\.tar-1"):
        load_checkpoint(str(path))
    assert not trace.exists()


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path):
    layer = torch.nn.Linear(2, 2)
    save_checkpoint({"state_dict": layer.state_dict(), "epoch": 3}, str(tmp_path))
    other = torch.nn.Linear(2, 2)
    assert resume_from_checkpoint(str(tmp_path), other) == 3
    assert torch.equal(layer.weight, other.weight)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "model.pth.tar-3"]


def dassl_checkpoint(ctx, epoch=2):
    """What Dassl saves after steps of SGD under a cosine schedule with warm-up; the scheduler's attributes, which hold
    the cosine schedule and in it the optimiser as objects; and the scheduler."""
    optimizer = torch.optim.SGD([ctx], 0.1, momentum=0.9)
    scheduler = ConstantWarmupScheduler(optimizer, CosineAnnealingLR(optimizer, 10.0), 1, 1e-5)
    for _ in range(epoch):
        ctx.grad = torch.ones_like(ctx)
        optimizer.step()
        scheduler.step()
    kept = {name: value for name, value in vars(scheduler).items() if name != "optimizer"}
    state = {"ctx": ctx.detach().clone(), "token_prefix": torch.zeros(3, 1, 4)}
    content = {"state_dict": state, "epoch": epoch, "optimizer": optimizer.state_dict(), "val_result": 71.5}
    return content, kept, scheduler


@pytest.mark.parametrize("whole", [False, True], ids=["the scheduler's attributes", "the scheduler as an object"])
def test_a_checkpoint_that_dassl_wrote_restores_optimiser_and_schedule(tmp_path, whole):
    content, kept, scheduler = dassl_checkpoint(torch.nn.Parameter(torch.randn(2, 4)))
    path = tmp_path / "model.pth.tar-2"
    torch.save(content | {"scheduler": scheduler if whole else kept}, path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)

    found = load_checkpoint(str(path))
    assert torch.equal(found["state_dict"]["ctx"], content["state_dict"]["ctx"])
    assert (found["epoch"], found["val_result"]) == (2, 71.5)
    ctx = torch.nn.Parameter(torch.zeros(2, 4))
    optimizer = torch.optim.SGD([ctx], 0.1, momentum=0.9)
    mine = ConstantWarmupScheduler(optimizer, CosineAnnealingLR(optimizer, 10.0), 1, 1e-5)
    optimizer.load_state_dict(found["optimizer"])
    mine.load_state_dict(found["scheduler"])
    assert mine.successor.optimizer is optimizer
    for _ in range(5):
        scheduler.step()
        mine.step()
        assert mine.get_last_lr() == scheduler.get_last_lr()
    assert torch.equal(
        optimizer.state[ctx]["momentum_buffer"], scheduler.optimizer.state_dict()["state"][0]["momentum_buffer"]
    )


@pytest.mark.parametrize("place", ["optimizer", "scheduler", "val_result", "successor"])
def test_a_bomb_anywhere_in_dassls_checkpoint_is_refused_and_does_not_go_off(tmp_path, place):
    content, kept, scheduler = dassl_checkpoint(torch.nn.Parameter(torch.zeros(1)))
    bomb = Bomb(str(tmp_path / "exploded"))
    if place == "successor":
        scheduler.successor.fuse = bomb
    content |= {"scheduler": kept}
    content |= {} if place == "successor" else {place: bomb}
    path = tmp_path / "model.pth.tar-2"
    torch.save(content, path)
    with pytest.raises(UserError, match="holds more than tensors and plain values"):
        load_checkpoint(str(path))
    assert not (tmp_path / "exploded").exists()


def test_a_checkpoint_that_holds_itself_is_damaged(tmp_path):
    content = {"state_dict": {}, "epoch": 1}
    content["optimizer"] = content
    torch.save(content, tmp_path / "model.pth.tar-1")
    with pytest.raises(UserError, match="is damaged"):
        load_checkpoint(str(tmp_path / "model.pth.tar-1"))


# Images


def test_a_truncated_image_is_named_also_out_of_a_loader_process(tmp_path, cfg):
    path = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:500])
    cfg.DATALOADER.NUM_WORKERS = 1
    loader = build_data_loader(cfg, data_source=[Datum(str(path))], tfm=build_transform(cfg, False), is_train=False)
    with pytest.raises(UserError, match=r"cut\.png") as error:
        next(iter(loader))
    assert "Traceback" not in str(error.value)


@pytest.mark.parametrize("mode", ["I;16", "F", "L", "RGBA", "P", "1"])
def test_images_of_any_mode_become_eight_bit_rgb(tmp_path, mode):
    grey = np.linspace(0, 4000, 64).reshape(8, 8)
    made = {"I;16": grey.astype(np.uint16), "F": grey.astype(np.float32)}
    image = Image.fromarray(made.get(mode, (grey / 16).astype(np.uint8)))
    image = image if mode in made else image.convert(mode)
    path = tmp_path / ("image.tif" if mode == "F" else "image.png")
    image.save(path)
    read = read_image(path)
    assert read.mode == "RGB"
    assert np.asarray(read).min() == 0
    assert np.asarray(read).max() > 240


def test_views_of_an_image_are_as_many_as_asked_for(tmp_path, cfg):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    cfg.DATALOADER.K_TRANSFORMS, cfg.DATALOADER.RETURN_IMG0 = 2, True
    item = DatasetWrapper(cfg, [Datum(str(tmp_path / "a.png"))], build_transform(cfg), is_train=True)[0]
    assert len(item["img"]) == 2
    assert item["img0"].shape == (3, 224, 224)


@pytest.mark.parametrize("name", ["imagenet_policy", "randaugment", "gaussian_blur", "center_crop"])
def test_named_transforms_give_images_of_the_wanted_size(cfg, name):
    cfg.INPUT.TRANSFORMS = (name, "randomgrayscale", "normalize")
    assert build_transform(cfg)(Image.new("RGB", (50, 70))).shape == (3, 224, 224)


def test_an_unknown_transform_is_named(cfg):
    cfg.INPUT.TRANSFORMS = ("random_crap",)
    with pytest.raises(UserError, match="random_crap"):
        build_transform(cfg)


# Evaluation


@given(st.integers(1, 60), st.integers(1, 5), st.integers(0, 1000))
def test_results_agree_with_scikit_learn_and_a_loop_over_bins(n, classes, seed):
    rng = np.random.default_rng(seed)
    logits, label = rng.normal(size=(n, classes)) * 3, rng.integers(0, classes, n)
    evaluator = build_evaluator(get_cfg_default(), lab2cname={i: str(i) for i in range(classes)})
    for start in range(0, n, 7):
        evaluator.process(torch.tensor(logits[start : start + 7]), torch.tensor(label[start : start + 7]))
    results = evaluator.evaluate()
    predicted = logits.argmax(1)
    assert results["accuracy"] == pytest.approx(100 * np.mean(predicted == label))
    assert results["macro_f1"] == pytest.approx(
        100 * f1_score(label, predicted, average="macro", labels=np.unique(label), zero_division=0)
    )
    torch.testing.assert_close(evaluator.logits, torch.tensor(logits).float(), rtol=0, atol=0)
    assert evaluator.labels.tolist() == label.tolist()


def test_the_lines_that_people_grep_are_dassls(capsys, tmp_path):
    cfg = get_cfg_default()
    cfg.TEST.PER_CLASS_RESULT, cfg.TEST.COMPUTE_CMAT, cfg.OUTPUT_DIR = True, True, str(tmp_path)
    evaluator = build_evaluator(cfg, lab2cname={0: "a", 1: "b", 2: "c"})
    evaluator.process(torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]]), torch.tensor([0, 1]))
    assert evaluator.evaluate()["perclass_accuracy"] == 50.0
    printed = capsys.readouterr().out
    for line in ("=> result", "* total: 2", "* correct: 1", "* accuracy: 50.0%", "* error: 50.0%", "* macro_f1: 33.3%"):
        assert line in printed.splitlines()
    assert "* class: 0 (a)\ttotal: 1\tcorrect: 1\tacc: 100.0%" in printed
    assert "* class: 2 (c)\ttotal: 0\tcorrect: 0\tacc: -" in printed
    assert torch.load(tmp_path / "cmat.pt", weights_only=True).tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]


def test_top_k_accuracies_are_in_percent():
    output = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    assert [value.item() for value in compute_accuracy(output, torch.tensor([0, 1]), (1, 2, 5))] == [50.0, 100.0, 100.0]


# Small things


def test_a_registry_gives_what_was_registered_and_refuses_a_second_of_the_name():
    registry = Registry("THING")
    registry.register()(Bomb)
    assert registry.get("Bomb") is Bomb
    with pytest.raises(KeyError):
        registry.register(Bomb)
    with pytest.raises(KeyError, match="Bomb"):
        registry.get("Other")


def test_the_log_ends_where_it_is_told_to(tmp_path, capsys):
    restore = setup_logger(str(tmp_path))
    print("inside")
    restore()
    print("outside")
    assert (tmp_path / "log.txt").read_text() == "inside\n"
    assert capsys.readouterr().out == "inside\noutside\n"


def test_an_older_log_is_kept(tmp_path):
    for text in ("first", "second"):
        restore = setup_logger(str(tmp_path))
        print(text)
        restore()
    assert {path.read_text() for path in tmp_path.glob("log.txt*")} == {"first\n", "second\n"}


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.json"
    write_json([1], path)
    with pytest.raises(TypeError):
        write_json({"a": object()}, path)
    assert path.read_text() == "[\n 1\n]\n"
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_processes_left_is_swept_and_what_is_being_written_stays(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    with atomic_path(tmp_path / "a.json") as being_written:
        being_written.write_text("{}")
        own = f"-{os.getpid()}-"
        left = being_written.with_name(being_written.name.replace(own, f"-{int(dead.stdout)}-"))
        elsewhere = tmp_path / ".a.json.otherhost-1-00000000.part"
        old = tmp_path / ".b.json.otherhost-1-00000000.part"
        for path in (left, elsewhere, old):
            path.write_text("")
        os.utime(old, (0, 0))
        sweep(tmp_path)
        assert set(tmp_path.iterdir()) == {being_written, elsewhere}
    assert (tmp_path / "a.json").read_text() == "{}"


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    with atomic_path(tmp_path / "a") as one, atomic_path(tmp_path / "a") as two:
        one.write_text("one")
        two.write_text("two")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "one"


@pytest.mark.parametrize("names", [["model.pth.tar-2", "model.pth.tar-10"], ["model.pth.tar-3", "model-best.pth.tar"]])
def test_a_checkpoint_is_found_by_epoch_else_the_best_else_the_newest(tmp_path, names):
    for name in [*names, "model.pth.tar-x9", "model.pth.tar-", ".model.pth.tar-99.part"]:
        (tmp_path / name).write_bytes(b"")
    assert find_checkpoint(tmp_path).name == names[-1]
    assert find_checkpoint(tmp_path, int(names[0][-1])).name == names[0]
    with pytest.raises(UserError, match=r"epoch 7.*there are those of epochs"):
        find_checkpoint(tmp_path, 7)
    with pytest.raises(UserError, match="train first"):
        find_checkpoint(tmp_path / "none")


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (UserError("Give it."), 2, "error: Give it."),
        (OSError(28, "No space left on device", "/disk/x"), 2, "error: No space left on device (/disk/x); fix this"),
        (KeyboardInterrupt(), 130, "\nInterrupted.\n"),
        (torch.OutOfMemoryError("CUDA out of memory"), 2, "error: the GPU's memory is full"),
    ],
)
def test_every_program_says_in_one_sentence_what_its_user_can_fix(capsys, error, code, sentence):
    def main():
        raise error

    assert run_program(main) == code
    assert sentence in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        run_program(lambda: 1 / 0)


def test_meters_average_what_they_are_given():
    meter = MetricMeter()
    meter.update({"loss": 1.0})
    meter.update({"loss": torch.tensor(3.0)})
    assert str(meter) == "loss 3.0000 (2.0000)"
