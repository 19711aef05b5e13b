"""Each public hook of a method, used from end to end on a tiny model."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ogkd import models
from ogkd.core import UserError
from ogkd.predict.predictor import Predictor
from ogkd.predict.trained import from_run
from ogkd.runs.registry import method_class
from ogkd.tuning.backbone import load_backbone
from ogkd.tuning.edits import Edits, LowRank, SingularValues, block_layers
from ogkd.tuning.method import Method
from ogkd.tuning.options import Option, Options
from ogkd.tuning.prompt_method import PromptMethod
from ogkd.tuning.templates import TEMPLATE
from tests.support import tiny_models
from tests.support.check_method import SmallRuns
from tests.support.methods import build, offered
from tests.support.runs import killed_at, same
from tests.test_trainings import BATCHES, CLASSES, IMAGES, WIDTH
from trainers.coop import CoOp


def trained(method, folder, batches=BATCHES, **options):
    """A method after its training on two batches an epoch."""
    folder.mkdir(exist_ok=True)
    with offered(method):
        built = build(method.__name__, folder, CLASSES, width=WIDTH, OPTIM__LR=0.1, CTX_INIT="", **options)
        built.train(batches)
    return built


# The optimiser and its schedule


class ByStep(CoOp):
    schedule_by_step = True

    def optimiser(self, optim, steps):
        self.rates, optimiser = [], torch.optim.Adagrad(self.parameters(), lr=1.0)
        return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.5**step)

    def after_step(self, epoch, rate):
        self.rates.append((epoch, rate))


def test_an_optimiser_and_a_schedule_by_step_of_ones_own(tmp_path):
    built = trained(ByStep, tmp_path, OPTIM__MAX_EPOCH=2)
    assert built.method.rates == [(0, 1.0), (0, 0.5), (1, 0.25), (1, 0.125)]
    assert isinstance(built.trainer.optim, torch.optim.Adagrad)


# Means over epochs, and stopping


class Averaged(CoOp):
    def epoch_weight(self, epoch, epochs):
        self.seen = [*getattr(self, "seen", []), self.prompt_learner.ctx.detach().clone()]
        return float(epoch)


def test_what_is_learned_is_the_weighted_mean_over_epochs(tmp_path):
    built = trained(Averaged, tmp_path, OPTIM__MAX_EPOCH=3)
    _, second, third = built.method.seen
    assert not torch.allclose(second, third)
    torch.testing.assert_close(built.learned["ctx"].detach(), (second + 2 * third) / 3)


class Stopping(CoOp):
    def stops(self, accuracies):
        return len(accuracies) == 2

    def epoch_weight(self, epoch, epochs):
        return 1.0


def test_training_stops_by_the_validation_images(tmp_path):
    built = trained(Stopping, tmp_path / "two", images=IMAGES, OPTIM__MAX_EPOCH=5)
    assert built.trainer.epoch == 1
    assert len(built.trainer._accuracies) == 2


def test_a_stopped_mean_over_epochs_survives_a_kill(tmp_path, data, cache):
    with offered(Stopping):
        runs = SmallRuns("Stopping", tmp_path, data, cache)
        pairs = ("OPTIM.MAX_EPOCH", "3", "TRAIN.PRINT_FREQ", "1")
        assert runs.run("first", *pairs)["training"]["last_loss"]
        killed_at(runs.spec("killed", *pairs), "epoch [2/3] batch [1/")
        runs.run("killed", *pairs)
        assert same(runs.learned("first"), runs.learned("killed"))
        assert list((tmp_path / "first/prompt_learner").glob("*-2"))


# Views and terms


class TwoViews(CoOp):
    views = 2

    def losses(self, inputs, label):
        assert len(inputs) == 2
        apart = (inputs[0].global_token - inputs[1].global_token).norm(dim=-1)
        assert (apart > 0).all()
        both = [super(TwoViews, self).losses(view, label) for view in inputs]
        return {"ce": both[0][0]["ce"] + both[1][0]["ce"]}, both[0][1]


def test_the_views_of_an_image_come_apart(tmp_path, data, cache):
    with offered(TwoViews):
        runs = SmallRuns("TwoViews", tmp_path, data, cache)
        runs.run("first", "OPTIM.MAX_EPOCH", "1")
        runs.run("again", "OPTIM.MAX_EPOCH", "1")
        assert same(runs.learned("first"), runs.learned("again"))


class Spread:
    """A loss term for any prompt method: text features lie apart."""

    def terms(self, features, label, text, logits):
        return super().terms(features, label, text, logits) | {"spread": 0.1 * (text @ text.t()).mean()}


@pytest.mark.parametrize("method", ["CoOp", "KgCoOp", "ProGrad"])
def test_a_term_of_ones_own_joins_those_of_any_prompt_method(tmp_path, method):
    spread = type(f"Spread{method}", (Spread, method_class(method)), {})
    with offered(spread):
        built = build(spread.__name__, tmp_path, CLASSES, width=WIDTH, CTX_INIT="")
        built.prepare()
        terms, _ = built.losses(*BATCHES[0])
    assert {"ce", "spread"} <= terms.keys()


# The towers


class ClassVectors(PromptMethod):
    """Vectors of each class at the input of the text tower's last layer."""

    def build(self):
        super().build()
        shape = len(self.classnames), self.options.N_CTX, self.clip_model.context_width
        self.vectors = nn.Parameter(torch.randn(shape))

    def text_features(self):
        sentences, mask = self.prompt_learner()
        deep, places = {self.clip_model.text_layers - 1: self.vectors}, self.prompt_learner.context_positions()
        return F.normalize(self.clip_model.encode_text(sentences, mask, deep, places), dim=-1)


class Edited(Method):
    """Low-rank edits of the image tower, singular values of the text tower; compared before the projection."""

    frozen_images = False
    options = Options(RANK=Option(2, "rank of the edits", least=1))

    def build(self):
        model, rank = self.clip_model, self.options.RANK
        image, text = ([n for n in block_layers(model) if n.startswith(t)] for t in ("image_tower", "text_tower"))
        self.image = Edits(model, lambda weight, parts: LowRank(weight, rank, parts=parts), image)
        self.text = Edits(model, SingularValues, text)
        self.head = nn.Linear(model.vision_width, model.embed_dim, bias=False)
        with torch.no_grad():
            for parameter in self.image.parameters():
                parameter.normal_(std=0.2)
        self.edited = (self.text.applied(self.image.applied(model)),)

    def encode(self, images, patches=False):
        out = self.edited[0].encode_image(images.to(self.device), projected=False)
        return out._replace(global_token=F.normalize(out.global_token, dim=-1))

    def text_features(self):
        tokens = self.clip_model.tokenize([TEMPLATE.format(name) for name in self.classnames])
        return F.normalize(self.edited[0].encode_text(self.clip_model.embed(tokens.ids), tokens.mask), dim=-1)

    def losses(self, inputs, label):
        logits = self.classifier()(self.encode(inputs).global_token)
        return {"ce": F.cross_entropy(logits, label)}, logits

    def classifier(self):
        text = self.scale * self.text_features() @ self.head.weight
        return lambda features: features @ text.t()


@pytest.mark.parametrize("method", [ClassVectors, Edited])
def test_a_method_that_changes_the_towers_trains_validates_and_predicts_what_it_tested(tmp_path, data, cache, method):
    with offered(method):
        runs = SmallRuns(method.__name__, tmp_path, data, cache)
        tested = runs.first and runs.predictions("first")
        assert (tmp_path / "first" / "val_predictions.npz").is_file()
        assert all(value.abs().sum() > 0 for value in runs.learned("first").values())
        load_backbone.cache_clear()
        images = [data / "Phantom" / "Phantom" / image for image in tested.images]
        predicted = Predictor(from_run(tmp_path / "first")).logits(images)
        torch.testing.assert_close(torch.tensor(predicted), torch.tensor(tested.logits), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("tower", ["biomedclip", "native_clip", "transformers_clip"])
@pytest.mark.parametrize(
    "make", [lambda weight, parts: LowRank(weight, 2, parts=parts), SingularValues], ids=["low rank", "singular"]
)
def test_every_linear_map_of_both_towers_can_be_edited_and_the_model_stays_as_it_is(tmp_path, tower, make):
    getattr(tiny_models, tower)(tmp_path / "model")
    model = models.load(str(tmp_path / "model"))
    images, tokens = torch.randn(1, 3, model.image_size, model.image_size), model.tokenize(["a cyst."])
    edits = Edits(model, make)
    assert len(edits.of) == len(model.linear_layers())
    features = []
    for one in (model, edits.applied(model)):
        text = one.encode_text(one.embed(tokens.ids), tokens.mask)
        features.append(torch.cat([one.encode_image(images).global_token, text]))
    torch.testing.assert_close(*features, rtol=1e-4, atol=1e-4)
    features[1].square().sum().backward()
    moved = [
        edit
        for edit in edits.of.values()
        if any(p.grad.abs().sum() > 0 for p in edit.parameters() if p.grad is not None)
    ]
    assert len(moved) >= 0.8 * len(edits.of)  # all but maps that a pooled output does not use
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_method_that_encodes_images_in_its_own_way_says_so():
    with pytest.raises(TypeError, match="frozen_images = False"):
        type("Wrong", (Method,), {"encode": lambda self, images: None})


def test_parameters_of_another_shape_are_refused():
    method = Method(Options().defaults(), load_backbone("PhantomCLIP", "cpu"), CLASSES)
    with pytest.raises(UserError, match=r"there holds .* where this method"):
        method.load_learned({"x": torch.zeros(1)}, "there")
