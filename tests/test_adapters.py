"""Adapters and probes: what they see of the training images, what the validation images choose, which options count."""

import pytest
import torch
import torch.nn.functional as F

from ogkd.cli import train
from ogkd.core import UserError
from ogkd.core.seeds import derived_seed
from ogkd.runs.registry import method_class
from ogkd.runs.spec import RunSpec
from ogkd.tuning.feature_method import FeatureMethod
from tests.support.runs import configured, killed_at, learned, same, trainer_of
from tests.test_methods import AT_ONCE, HEADLESS

pytestmark = pytest.mark.slow

AUGMENTED = ("FEATURES.TRAIN_VIEW", "augmented")
OF_FEATURES = [name for name in HEADLESS if issubclass(method_class(name), FeatureMethod)]


def augmented(method):
    """Pairs for augmented views, at most two of each image where they are many."""
    return (*AUGMENTED, *((f"TRAINER.{method.upper()}.VIEWS", "2") if "VIEWS" in method_class(method).options else ()))


def without_validation(trainer):
    trainer.val_loader = trainer.dm.val_loader = None
    return trainer


def prepared(words):
    trainer = trainer_of(words)
    trainer.before_train()
    return trainer


# Training views


@pytest.mark.parametrize("method", OF_FEATURES)
def test_augmented_views_change_what_is_learned_and_the_seed_decides_how_with_and_without_a_cache(
    arguments, tmp_path, method
):
    cache = ("FEATURES.CACHE_DIR", str(tmp_path / "cache"))
    runs = {"cold": cache, "warm": cache, "none": ("FEATURES.CACHE_DIR", "")}
    for name, pairs in runs.items():
        train.main(configured(arguments, method, *augmented(method), *pairs, output=tmp_path / name))
    train.main(configured(arguments, method, output=tmp_path / "plain"))
    cold, warm, none, plain = (learned(tmp_path / name) for name in (*runs, "plain"))
    assert same(cold, warm) and same(cold, none)
    assert not same(cold, plain)


@pytest.mark.parametrize("method", [name for name in OF_FEATURES if name not in AT_ONCE])
def test_with_augmented_views_a_killed_run_ends_with_the_same_parameters(arguments, tmp_path, method):
    torch.set_num_threads(1)
    train.main(configured(arguments, method, *augmented(method), output=tmp_path / "whole"))
    words = configured(arguments, method, *augmented(method), "TRAIN.PRINT_FREQ", "1", output=tmp_path / "broken")
    killed_at(RunSpec.parse(words), "epoch [3/3] batch [1/")
    train.main(words)
    assert same(learned(tmp_path / "whole"), learned(tmp_path / "broken"))


@pytest.mark.parametrize("method", [name for name in OF_FEATURES if name not in AT_ONCE])
def test_only_methods_that_were_published_so_see_new_views_in_each_epoch(arguments, method):
    trainer = prepared(configured(arguments, method, *AUGMENTED))
    epochs = []
    for trainer.epoch in (0, 1, 0):
        trainer.before_epoch()
        batches = list(trainer.train_loader_x)
        epochs.append(torch.cat([batch["features"].global_token for batch in batches]).sort(0).values)
    assert torch.equal(epochs[0], epochs[2])
    assert torch.equal(epochs[0], epochs[1]) == (method not in ("CLIPAdapter", "TipAdapterF"))


def test_an_augmented_view_is_half_of_the_image_or_more_and_is_flipped_in_half_of_the_draws(arguments):
    trainer = trainer_of(configured(arguments, "CLIPAdapter", *AUGMENTED))
    crop, flip = trainer.task.views.loader.dataset.transform.transforms[:2]
    assert tuple(crop.scale) == (0.5, 1.0)
    assert flip.p == 0.5


def test_views_that_are_none_are_refused(arguments):
    with pytest.raises(UserError, match=r"FEATURES.TRAIN_VIEW is 'mirrored'.*plain or augmented"):
        train.main(configured(arguments, "LinearProbe", "FEATURES.TRAIN_VIEW", "mirrored"))


@pytest.mark.parametrize("method", ["TipAdapter", "TipAdapterF"])
def test_a_key_is_the_mean_of_its_augmented_views(arguments, method):
    name = f"TRAINER.{method.upper()}.AUGMENT_EPOCHS"
    one, three = (prepared(configured(arguments, method, *AUGMENTED, name, str(n))) for n in (1, 3))
    views = [one.task.views(torch_seed) for torch_seed in seeds_before_the_first_epoch(one, 3)]
    torch.testing.assert_close(one.method.cache.keys.data, views[0])
    mean = F.normalize(sum(views) / 3, dim=-1)
    torch.testing.assert_close(three.method.cache.keys.data, mean)
    assert not torch.allclose(mean, views[0])


def seeds_before_the_first_epoch(trainer, count):
    """The seeds that the engine would give to epochs -1, -2, ..."""
    return [derived_seed(trainer.cfg.SEED, epoch) for epoch in range(-1, -1 - count, -1)]


def test_many_plain_views_are_refused_since_they_are_all_the_same(arguments):
    with pytest.raises(UserError, match=r"AUGMENT_EPOCHS is 10.*TRAIN_VIEW augmented"):
        train.main(configured(arguments, "TipAdapter", "TRAINER.TIPADAPTER.AUGMENT_EPOCHS", "10"))


# What the validation images choose


@pytest.mark.parametrize("method", AT_ONCE)
def test_a_run_killed_after_its_one_fit_goes_on_from_it(arguments, tmp_path, method):
    train.main(configured(arguments, method, output=tmp_path / "whole"))
    words = configured(arguments, method, output=tmp_path / "broken")
    killed_at(RunSpec.parse(words), "Evaluate on the *test* set")
    assert not (tmp_path / "broken" / "results.json").exists()
    train.main(words)
    assert "Resuming after epoch 1" in (tmp_path / "broken" / "log.txt").read_text()
    assert same(learned(tmp_path / "whole"), learned(tmp_path / "broken"))


def test_tip_adapter_fs_search_belongs_to_the_keys_of_the_best_epoch(arguments):
    trainer = trainer_of(configured(arguments, "TipAdapterF"))
    trainer.train()
    model, (features, labels) = trainer.method.cache, trainer.task.validation_set
    found = (model.alpha.item(), model.beta.item())
    accuracy = (model(features).argmax(-1) == labels).float().mean()
    model.alpha.fill_(1.0), model.beta.fill_(1.0)
    assert (model(features).argmax(-1) == labels).float().mean() <= accuracy
    trainer.method.search(trainer.task)
    assert (model.alpha.item(), model.beta.item()) == found


@pytest.mark.parametrize(
    ("method", "remedy"),
    [
        ("LinearProbe", ("TRAINER.LINEARPROBE.C", "1.0")),
        ("TipAdapter", ("TRAINER.TIPADAPTER.SEARCH", "False")),
        ("TipAdapterF", ("TEST.FINAL_MODEL", "last_step", "TRAINER.TIPADAPTERF.SEARCH", "False")),
        ("LPPlusPlus", ("TEST.FINAL_MODEL", "last_step")),
    ],
)
def test_without_validation_images_a_method_says_what_to_set_instead(arguments, tmp_path, method, remedy):
    key = remedy[0]
    with pytest.raises(UserError, match=rf"no validation images.*{key}"):
        without_validation(trainer_of(configured(arguments, method))).train()
    without_validation(trainer_of(configured(arguments, method, *remedy, output=tmp_path / "remedied"))).train()
    assert learned(tmp_path / "remedied")


def test_the_linear_probe_takes_a_validation_part_that_lacks_classes(arguments):
    trainer = trainer_of(configured(arguments, "LinearProbe"))
    features, labels = trainer.task.validation_set
    trainer.task.validation_set = (features[labels < 3], labels[labels < 3])
    trainer.train()
    assert trainer.method.linear.coef.isfinite().all()
    assert trainer.method.linear.coef.any(1).all()


# Options that count


def test_lp_plus_plus_refuses_an_optimiser_that_its_step_sizes_do_not_belong_to(arguments):
    with pytest.raises(UserError, match=r"OPTIM.NAME is 'adam'"):
        train.main(configured(arguments, "LPPlusPlus", "OPTIM.NAME", "adam"))


@pytest.mark.parametrize(
    ("method", "pairs"),
    [
        ("CLIPAdapter", ("TRAINER.CLIPADAPTER.RATIO", "0.5")),
        ("CLIPAdapter", ("TRAINER.CLIPADAPTER.NORMALIZE", "False")),
        ("LPPlusPlus", ("TRAINER.LPPLUSPLUS.BIAS", "True")),
        ("LinearProbe", ("TRAINER.LINEARPROBE.C", "0.01")),
        ("TipAdapter", ("TRAINER.TIPADAPTER.SEARCH", "False", "TRAINER.TIPADAPTER.ALPHA", "0.3")),
    ],
)
def test_an_option_changes_what_is_learned(arguments, tmp_path, method, pairs):
    train.main(configured(arguments, method, output=tmp_path / "default"))
    train.main(configured(arguments, method, *pairs, output=tmp_path / "other"))
    assert not same(learned(tmp_path / "default"), learned(tmp_path / "other"))
