"""Adapters and probes: what they see of the training images, what the validation images choose, which options count."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import train
from dassl.utils import UserError, load_checkpoint
from runs.spec import RunSpec
from tests.support.runs import configured, killed_at, learned, same, trainer_of
from tests.test_methods import AT_ONCE, HEADLESS

pytestmark = pytest.mark.slow

AUGMENTED = ("FEATURES.TRAIN_VIEW", "augmented")


def without_validation(trainer):
    trainer.val_loader = trainer.dm.val_loader = None
    return trainer


# Training views


@pytest.mark.parametrize("method", HEADLESS)
def test_augmented_views_change_what_is_learned_and_the_seed_decides_how(arguments, tmp_path, method):
    for name, pairs in (("plain", ()), ("one", AUGMENTED), ("same", AUGMENTED)):
        train.main(configured(arguments, method, *pairs, output=tmp_path / name))
    assert same(learned(tmp_path / "one"), learned(tmp_path / "same"))
    assert not same(learned(tmp_path / "one"), learned(tmp_path / "plain"))


@pytest.mark.parametrize("method", HEADLESS)
def test_augmented_views_are_the_same_from_a_cold_a_warm_and_no_cache(arguments, tmp_path, method):
    cache = str(tmp_path / "cache")
    for name, folder in (("cold", cache), ("warm", cache), ("none", "")):
        train.main(configured(arguments, method, *AUGMENTED, "FEATURES.CACHE_DIR", folder, output=tmp_path / name))
    assert same(learned(tmp_path / "cold"), learned(tmp_path / "warm"))
    assert same(learned(tmp_path / "cold"), learned(tmp_path / "none"))


@pytest.mark.parametrize("method", [name for name in HEADLESS if name not in AT_ONCE])
def test_with_augmented_views_a_killed_run_ends_with_the_same_parameters(arguments, tmp_path, method):
    torch.set_num_threads(1)
    train.main(configured(arguments, method, *AUGMENTED, output=tmp_path / "whole"))
    words = configured(arguments, method, *AUGMENTED, "TRAIN.PRINT_FREQ", "1", output=tmp_path / "broken")
    killed_at(RunSpec.parse(words), "epoch [3/3] batch [1/")
    train.main(words)
    assert same(learned(tmp_path / "whole"), learned(tmp_path / "broken"))


@pytest.mark.parametrize("method", HEADLESS)
def test_only_methods_that_learn_by_epochs_of_steps_see_new_views_in_each(arguments, method):
    trainer = trainer_of(configured(arguments, method, *AUGMENTED))
    epochs = []
    for trainer.epoch in (0, 1, 0):
        trainer.before_epoch()
        batches = list(trainer.train_loader_x)
        epochs.append(torch.cat([batch["features"].global_token for batch in batches]).sort(0).values)
    assert torch.equal(epochs[0], epochs[2])
    assert torch.equal(epochs[0], epochs[1]) == (method not in ("CLIPAdapter", "TipAdapterF"))


def test_an_augmented_view_is_half_of_the_image_or_more_and_is_flipped_in_half_of_the_draws(arguments):
    trainer = trainer_of(configured(arguments, "CLIPAdapter", *AUGMENTED))
    crop, flip = trainer.views.loader.dataset.transform.transforms[:2]
    assert tuple(crop.scale) == (0.5, 1.0)
    assert flip.p == 0.5


def test_views_that_are_none_are_refused(arguments):
    with pytest.raises(UserError, match=r"FEATURES.TRAIN_VIEW is 'mirrored'.*plain or augmented"):
        train.main(configured(arguments, "LinearProbe", "FEATURES.TRAIN_VIEW", "mirrored"))


@pytest.mark.parametrize("method", ["TipAdapter", "TipAdapterF"])
def test_a_key_is_the_mean_of_its_augmented_views(arguments, method):
    name = f"TRAINER.{method.upper()}.AUGMENT_EPOCHS"
    one, three = (trainer_of(configured(arguments, method, *AUGMENTED, name, str(n))) for n in (1, 3))
    views = [one.views(torch_seed) for torch_seed in seeds_before_the_first_epoch(one, 3)]
    torch.testing.assert_close(one.cache_model.keys.data, views[0])
    mean = F.normalize(sum(views) / 3, dim=-1)
    torch.testing.assert_close(three.cache_model.keys.data, mean)
    assert not torch.allclose(mean, views[0])


def seeds_before_the_first_epoch(trainer, count):
    """The seeds that the engine would give to epochs -1, -2, ..."""
    seeds = []
    for trainer.epoch in range(-1, -1 - count, -1):
        trainer.before_epoch()
        seeds.append(trainer.train_loader_x.epoch_seed)
    return seeds


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


@pytest.mark.parametrize("method", ["TipAdapterF", "LPPlusPlus"])
def test_the_epoch_that_is_best_on_the_validation_images_is_tested(arguments, tmp_path, method):
    trainer = trainer_of(configured(arguments, method, "OPTIM.MAX_EPOCH", "6", "TRAINER.TIPADAPTERF.SEARCH", "False"))
    accuracies, states, after_epoch = [], [], trainer.after_epoch

    def spy():
        after_epoch()
        features, labels = trainer.validation_set
        accuracies.append((trainer.classifier()(features).argmax(-1) == labels).sum().item())
        states.append({name: value.clone() for name, value in trainer._models[name_of(trainer)].state_dict().items()})

    trainer.after_epoch = spy
    trainer.train()
    best = [epoch for epoch, accuracy in enumerate(accuracies) if accuracy == max(accuracies)]
    chosen = best[0] if method == "TipAdapterF" else best[-1]
    tested = trainer._models[name_of(trainer)].state_dict()
    assert all(torch.equal(tested[name], value) for name, value in states[chosen].items())
    kept = load_checkpoint(str(tmp_path / "run" / name_of(trainer) / "model-best.pth.tar"))
    assert kept["epoch"] == chosen + 1


def name_of(trainer):
    (name,) = trainer.get_model_names()
    return name


def test_tip_adapter_fs_search_belongs_to_the_keys_of_the_best_epoch(arguments):
    trainer = trainer_of(configured(arguments, "TipAdapterF"))
    trainer.train()
    model, (features, labels) = trainer.cache_model, trainer.validation_set
    found = (model.alpha.item(), model.beta.item())
    accuracy = (trainer.classifier()(features).argmax(-1) == labels).float().mean()
    model.alpha.fill_(1.0), model.beta.fill_(1.0)
    assert (trainer.classifier()(features).argmax(-1) == labels).float().mean() <= accuracy
    model.search(trainer)
    assert (model.alpha.item(), model.beta.item()) == found


def test_tip_adapter_fs_learning_rate_is_a_cosine_by_the_step(arguments, tmp_path):
    trainer = trainer_of(configured(arguments, "TipAdapterF", "OPTIM.LR", "0.01"))
    rates, update = [], trainer.update

    def spy(terms):
        rates.append(trainer.get_current_lr())
        update(terms)

    trainer.update = spy
    trainer.train()
    steps = 3 * -(-24 // 4)
    expected = [0.005 * (1 + np.cos(np.pi * step / steps)) for step in range(steps)]
    np.testing.assert_allclose(rates, expected, rtol=1e-9)


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
    features, labels = trainer.validation_set
    trainer.validation_set = (features[labels < 3], labels[labels < 3])
    trainer.train()
    assert trainer.model.coef.isfinite().all()
    assert trainer.model.coef.any(1).all()


def test_the_linear_probe_is_the_fit_of_the_c_that_is_given(arguments):
    from sklearn.linear_model import LogisticRegression

    trainer = trainer_of(configured(arguments, "LinearProbe", "TRAINER.LINEARPROBE.C", "3.0"))
    trainer.train()
    features, labels = (x.numpy() for x in trainer.training_set)
    expected = LogisticRegression(C=3.0, max_iter=1000).fit(features, labels)
    test = trainer.split_features("test")[0]
    probability = trainer.classifier()(test).softmax(-1).numpy()
    np.testing.assert_allclose(probability, expected.predict_proba(test.numpy()), atol=1e-5)


# Options that count


@pytest.mark.parametrize(("lr", "momentum", "decay"), [(1.0, 0.9, 0.0), (0.5, 0.0, 0.0), (0.25, 0.5, 0.01)])
def test_lp_plus_plus_honours_the_rate_the_momentum_and_the_decay(arguments, lr, momentum, decay):
    pairs = ("OPTIM.LR", str(lr), "OPTIM.MOMENTUM", str(momentum), "OPTIM.WEIGHT_DECAY", str(decay))
    pairs += ("DATALOADER.TRAIN_X.BATCH_SIZE", "1000", "TRAINER.LPPLUSPLUS.ALPHA_EVERY", "2")
    trainer = trainer_of(configured(arguments, "LPPlusPlus", *pairs, "TEST.FINAL_MODEL", "last_step"))
    features, labels = (x.double().numpy() if x.is_floating_point() else x.numpy() for x in trainer.training_set)
    text = trainer.probe.text.double().numpy()
    weight, alpha = (trainer.probe.linear.weight, trainer.probe.alpha)
    weight, alpha = weight.detach().double().numpy().copy(), alpha.detach().double().numpy().copy()
    velocity = np.zeros_like(weight)
    one_hot = np.eye(len(text))[labels]
    agreement = features @ text.T
    weight_step = 4 * len(features) / np.linalg.eigvalsh(features.T @ features)[-1]
    alpha_step = len(features) / (4 * (agreement**2).sum(0).max())
    for epoch in range(3):
        logits = features @ weight.T + alpha * agreement
        probability = np.exp(logits - logits.max(1, keepdims=True))
        error = (probability / probability.sum(1, keepdims=True) - one_hot) / len(features)
        velocity = momentum * velocity + error.T @ features + decay * weight
        weight = weight - lr * weight_step * velocity
        if epoch == 1:
            alpha = alpha - lr * alpha_step * (error * agreement).sum(0)
    trainer.train()
    np.testing.assert_allclose(trainer.probe.linear.weight.detach().numpy(), weight, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(trainer.probe.alpha.detach().numpy(), alpha, rtol=1e-4)


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
