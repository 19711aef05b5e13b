"""FEATURES.CROPS and FEATURES.PRECISION: off by default, deterministic, shared, and refused where they cannot be."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from ogkd.cli import train
from ogkd.core import UserError
from ogkd.features.crops import CropStore
from ogkd.features.encode import encode_images
from ogkd.features.keys import model_key
from ogkd.features.precision import at_precision, has_bf16
from ogkd.models import load
from ogkd.phantom.dataset import write_dataset
from ogkd.runs.spec import RunSpec
from tests.support.runs import killed_at, learned, same, trainer_of

pytestmark = pytest.mark.slow

CROPS = ("FEATURES.CROPS", "2", "OPTIM.MAX_EPOCH", "5")
BF16 = ("FEATURES.PRECISION", "bf16")
needs_bf16 = pytest.mark.skipif(not has_bf16(torch.device("cpu")), reason="this CPU has no bf16")


@pytest.fixture
def own_cache(tmp_path):
    """A cache that no other test fills."""
    return tmp_path / "cache"


def entries(cache):
    return {path.name: path.stat().st_mtime_ns for path in cache.glob("*.safetensors")}


def images_encoded(words):
    """How many images a run's image tower sees in training."""
    trainer, seen = trainer_of(words), []
    tower = trainer.clip_model.image_tower
    handle = tower.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    try:
        trainer.before_train()
        trainer.before_epoch()
        trainer.run_epoch()
    finally:
        handle.remove()
    return sum(seen)


def test_the_same_seed_learns_the_same_bits_with_a_cold_a_warm_and_no_cache(arguments, tmp_path, own_cache):
    for name, cache in (("cold", own_cache), ("warm", own_cache), ("none", "")):
        train.main(arguments("OGKD", *CROPS, "FEATURES.CACHE_DIR", str(cache), output=tmp_path / name))
    assert learned(tmp_path / "cold")
    assert same(learned(tmp_path / "cold"), learned(tmp_path / "warm"))
    assert same(learned(tmp_path / "cold"), learned(tmp_path / "none"))


def test_a_killed_run_resumes_with_the_crops_that_it_would_have_seen(arguments, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    options = (*CROPS, "TRAIN.PRINT_FREQ", "1")
    train.main(arguments("OGKD", *options, output=whole))
    killed_at(RunSpec.parse(arguments("OGKD", *options, output=broken)), "epoch [4/5] batch [2/2]")
    train.main(arguments("OGKD", *options, output=broken))
    assert same(learned(whole), learned(broken))


def test_coop_and_ogkd_share_the_crops(arguments, own_cache):
    options = (*CROPS, "FEATURES.CACHE_DIR", str(own_cache))
    first = trainer_of(arguments("CoOp", *options))
    assert images_encoded(arguments("CoOp", *options)) == 2 * len(first.dm.dataset.train_x)
    assert images_encoded(arguments("OGKD", *options)) == 0


def test_more_shots_encode_only_the_images_that_fewer_shots_lacked(arguments, own_cache):
    options = (*CROPS, "FEATURES.CACHE_DIR", str(own_cache))
    few = trainer_of(arguments("CoOp", *options, "DATASET.NUM_SHOTS", "1")).dm.dataset.train_x
    many = trainer_of(arguments("CoOp", *options, "DATASET.NUM_SHOTS", "4")).dm.dataset.train_x
    images_encoded(arguments("CoOp", *options, "DATASET.NUM_SHOTS", "1"))
    new = {item.impath for item in many} - {item.impath for item in few}
    assert images_encoded(arguments("CoOp", *options, "DATASET.NUM_SHOTS", "4")) == 2 * len(new)


def test_another_seed_draws_other_crops(arguments, own_cache):
    options = (*CROPS, "FEATURES.CACHE_DIR", str(own_cache))
    images_encoded(arguments("CoOp", *options))
    before = entries(own_cache)
    assert images_encoded(arguments("CoOp", *options, "SEED", "2")) > 0
    assert entries(own_cache).items() > before.items()


@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 5), st.integers(0, 5))
def test_each_crop_of_an_image_is_shown_once_before_any_comes_again(count, seed, row, cycle):
    store = CropStore.__new__(CropStore)
    store.count, store.seed = count, seed
    shown = [store.crop_of(row, epoch) for epoch in range(cycle * count, (cycle + 1) * count)]
    assert sorted(shown) == list(range(count))


def test_a_batch_holds_for_each_image_the_tokens_of_the_crop_whose_turn_it_is(arguments, own_cache):
    words = arguments("OGKD", *CROPS, "FEATURES.CACHE_DIR", str(own_cache))
    trainer = trainer_of(words)
    trainer.before_train()
    (batch, *_) = trainer.train_loader_x
    crops = trainer.train_loader_x._crops
    tokens = torch.stack([crop.global_tokens for crop in crops])
    assert tokens.shape == (len(crops), 2, trainer.clip_model.embed_dim)
    assert ((tokens[:, 0] * tokens[:, 1]).sum(-1) < 0.9999).all()
    torch.testing.assert_close(tokens.norm(dim=-1), torch.ones(len(crops), 2))
    for place, row in enumerate(batch["index"].tolist()):
        which = trainer.train_loader_x.crop_of(row, 0)
        assert torch.equal(batch["features"].global_token[place], crops[row].global_tokens[which])
        assert torch.equal(batch["features"].patch_tokens[place], crops[row].patch_tokens[which].float())
        assert batch["label"][place] == trainer.dm.dataset.train_x[row].label


def test_crops_are_of_the_frame_that_is_chosen(arguments, tmp_path, own_cache):
    write_dataset(tmp_path / "data" / "Phantom", counts={"train": 2, "val": 1, "test": 1})
    for path in (tmp_path / "data").rglob("*.png"):
        with Image.open(path) as image:
            first = image.convert("RGB")
        first.save(path, save_all=True, append_images=[ImageOps.invert(first)])
    shown = []
    for frame in ("1", "2"):
        options = ("FEATURES.CACHE_DIR", str(own_cache), "DATASET.ROOT", str(tmp_path / "data"), "INPUT.FRAME", frame)
        trainer = trainer_of(arguments("CoOp", *CROPS, "DATASET.NUM_SHOTS", "1", *options))
        trainer.before_train()
        (batch, *_) = trainer.train_loader_x
        shown.append(batch["features"].global_token)
    assert not torch.allclose(*shown)


def test_a_corrupt_entry_is_encoded_again(arguments, tmp_path, own_cache, capsys):
    options = (*CROPS, "FEATURES.CACHE_DIR", str(own_cache))
    train.main(arguments("OGKD", *options, output=tmp_path / "first"))
    for path in own_cache.glob("*.safetensors"):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    train.main(arguments("OGKD", *options, output=tmp_path / "again"))
    assert "corrupt; recomputing them" in capsys.readouterr().out
    assert same(learned(tmp_path / "first"), learned(tmp_path / "again"))


def test_a_run_without_the_options_encodes_each_epoch_anew(arguments, own_cache):
    trainer = trainer_of(arguments("CoOp", "FEATURES.CACHE_DIR", str(own_cache)))
    assert not isinstance(trainer.train_loader_x, CropStore)
    assert trainer.clip_model is at_precision(trainer.clip_model, "fp32")


def test_a_run_that_only_tests_encodes_no_crops(arguments, tmp_path, own_cache):
    cache = ("FEATURES.CACHE_DIR", str(own_cache))
    results = train.main(arguments("CoOp", *CROPS, *cache, output=tmp_path / "base"))
    assert results["changed"]["FEATURES.CROPS"] == 2
    before = entries(own_cache)
    words = ["--model-dir", str(tmp_path / "base"), "--eval-only"]
    train.main(words + arguments("CoOp", *CROPS, *cache, "SEED", "2"))
    assert entries(own_cache) == before


@pytest.mark.parametrize("method", ["MaPLe", "TipAdapter"])
def test_a_method_that_the_crops_do_not_reach_says_so(arguments, capsys, method):
    trainer_of(arguments(method, *CROPS))
    assert "FEATURES.CROPS has no effect on" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("FEATURES.CROPS", "-1"), r"FEATURES.CROPS is -1, but it must be at least 0"),
        (("FEATURES.CROPS", "2", "SEED", "-1"), r"the run has none: add --seed 1"),
        (("FEATURES.PRECISION", "fp16"), r"FEATURES.PRECISION is 'fp16', but it must be fp32 or bf16"),
        (("FEATURES.CROPS", "2", "FEATURES.CROPS_GB", "0.0001"), r"lower FEATURES.CROPS, .*--settings published"),
    ],
    ids=["negative", "no seed", "precision", "too large"],
)
def test_what_cannot_be_is_one_sentence(arguments, own_cache, options, message):
    with pytest.raises(UserError, match=message):
        train.main(arguments("CoOp", "FEATURES.CACHE_DIR", str(own_cache), *options))


def test_a_cpu_without_bf16_refuses_it(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    with pytest.raises(UserError, match="this CPU has no bf16"):
        at_precision(load("PhantomCLIP"), "bf16")


@needs_bf16
@pytest.mark.parametrize("method", ["OGKD", "MaPLe"])
def test_bf16_is_deterministic_and_gives_finite_fp32_parameters(arguments, tmp_path, method):
    for name in ("one", "two"):
        train.main(arguments(method, *BF16, "OPTIM.MAX_EPOCH", "2", output=tmp_path / name))
    one = learned(tmp_path / "one")
    assert same(one, learned(tmp_path / "two"))
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in one.values())


@needs_bf16
def test_features_of_both_precisions_are_near_but_kept_apart():
    model = load("PhantomCLIP")
    low = at_precision(model, "bf16")
    assert at_precision(model, "bf16") is low
    images = torch.randn(3, 3, model.image_size, model.image_size)
    exact, fast = encode_images(model, images, patches=True), encode_images(low, images, patches=True)
    for a, b in zip(exact, fast, strict=True):
        assert b.dtype == torch.float32
        assert (a * b).sum(-1).min() > 0.99
        assert not torch.equal(a, b)
    assert torch.equal(encode_images(model, images).global_token, exact.global_token)  # as it was
    assert model_key(low) == model_key(model) | {"precision": "bf16"}
