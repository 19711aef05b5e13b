"""What trainers and data sets written for Dassl import, call, catch and grep is here, and draws what Dassl draws."""

import importlib
import inspect
import sys
import urllib.parse

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dassl.config import cfg_default, get_cfg_default
from dassl.data import DatasetBase, DatasetWrapper, Datum, build_transform
from dassl.data.samplers import build_sampler
from dassl.engine import SimpleNet, TrainerBase, TrainerX, TrainerXU
from dassl.evaluation import build_evaluator
from dassl.modeling import Backbone
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import (
    Logger,
    check_availability,
    download_url,
    load_checkpoint,
    read_json,
    save_checkpoint,
)
from ogkd.core import UserError

TOOLS = (
    "mkdir_if_missing check_isfile read_json write_json set_random_seed download_url read_image collect_env_info "
    "listdir_nohidden get_most_similar_str_to_a_from_b check_availability tolist_if_not"
)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("dassl.config", "get_cfg_default clean_cfg cfg_default"),
        ("dassl.data", "DataManager DatasetWrapper"),
        ("dassl.data.data_manager", "build_data_loader DataManager DatasetWrapper"),
        ("dassl.data.datasets", "DATASET_REGISTRY build_dataset Datum DatasetBase"),
        ("dassl.data.samplers", "build_sampler"),
        ("dassl.data.transforms", "INTERPOLATION_MODES build_transform"),
        ("dassl.engine", "TRAINER_REGISTRY build_trainer TrainerX TrainerXU TrainerBase SimpleTrainer SimpleNet"),
        ("dassl.evaluation", "build_evaluator EVALUATOR_REGISTRY EvaluatorBase Classification"),
        ("dassl.metrics", "compute_accuracy"),
        ("dassl.modeling", "Backbone BACKBONE_REGISTRY build_backbone"),
        ("dassl.modeling.backbone", "Backbone build_backbone BACKBONE_REGISTRY resnet18 resnet50 resnet101"),
        ("dassl.optim", "build_optimizer build_lr_scheduler"),
        ("dassl.optim.radam", "RAdam PlainRAdam AdamW"),
        ("dassl.engine.trainer", "TrainerX SimpleTrainer SimpleNet MetricMeter AverageMeter SummaryWriter"),
        ("dassl.utils", f"{TOOLS} Logger setup_logger AverageMeter MetricMeter Registry save_checkpoint"),
        ("dassl.utils.tools", TOOLS),
        ("dassl.utils.torchtools", "load_pretrained_weights count_num_param"),
    ],
)
def test_names_are_where_dassl_has_them(module, names):
    found = importlib.import_module(module)
    assert [name for name in names.split() if not hasattr(found, name)] == []


HOOKS = """
    register_model get_model_names save_model resume_model_if_exist load_model set_model_mode update_lr detect_anomaly
    init_writer close_writer write_scalar train before_train after_train before_epoch after_epoch run_epoch test
    parse_batch_train parse_batch_test forward_backward model_inference model_zero_grad model_backward model_update
    model_backward_and_update get_current_lr check_cfg build_data_loader build_model best_result start_epoch max_epoch
    output_dir cfg device dm model optim sched evaluator train_loader_x train_loader_u val_loader test_loader
    num_classes num_source_domains lab2cname epoch batch_idx num_batches time_start
"""


def test_a_trainer_may_use_every_public_name_that_is_not_dassls(tmp_path):
    cfg = get_cfg_default()
    cfg.OUTPUT_DIR = str(tmp_path)
    trainer = Mixed(cfg)
    trainer.train()
    of_forks = {"prograd_backward_and_update"}
    public = {name for name in dir(trainer) if not name.startswith("_")}
    assert public - set(HOOKS.split()) == of_forks


def test_scalars_are_written_where_tensorboard_is_installed_and_nowhere_else(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    from dassl.engine.trainer import SummaryWriter

    writer = SummaryWriter(log_dir=str(tmp_path))
    writer.add_scalar("loss", 1.0, 1)
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_radam_decays_weights_apart_from_the_gradient():
    value = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = build_optimizer([value], optim(NAME="radam", LR=0.1, WEIGHT_DECAY=0.5))
    (3 * value).sum().backward()
    optimizer.step()
    assert value.item() == pytest.approx(2.0 - 0.1 * 0.5 * 2.0 - 0.1 * 3.0)


def test_defaults_are_a_copy_that_can_be_changed():
    cfg = get_cfg_default()
    cfg.SEED = cfg_default.SEED + 7
    assert get_cfg_default().SEED == cfg_default.SEED == -1


# Errors


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: check_availability("CoOpp", ["CoOp"]), ValueError),
        (lambda: build_sampler("Nothing"), ValueError),
        (lambda: build_optimizer(torch.nn.Linear(1, 1), optim(NAME="lion")), ValueError),
        (lambda: build_lr_scheduler(None, optim(LR_SCHEDULER="step")), ValueError),
        (lambda: DatasetBase.is_input_domain_valid(DatasetBase.__new__(DatasetBase), ["art"]), ValueError),
        (lambda: DatasetBase.check_input_domains(DatasetBase.__new__(DatasetBase), [], ["art"]), ValueError),
        (lambda: load_checkpoint("no/such/model.pth.tar-1"), FileNotFoundError),
        (lambda: read_json("no/such/file.json"), FileNotFoundError),
        (lambda: Datum("no/such/image.png", classname="cat"), FileNotFoundError),
    ],
)
def test_errors_are_one_sentence_and_what_dassl_raises(call, error):
    with pytest.raises(error) as caught:
        call()
    assert isinstance(caught.value, UserError)
    assert str(caught.value)
    assert "\n" not in str(caught.value)


def optim(**options):
    cfg = get_cfg_default().OPTIM
    for name, value in options.items():
        cfg[name] = value
    return cfg


# Data


def test_the_image_without_augmentation_is_normalised_as_the_others(tmp_path):
    Image.fromarray(np.full((8, 8, 3), 51, np.uint8)).save(tmp_path / "a.png")
    cfg = get_cfg_default()
    cfg.INPUT.SIZE, cfg.DATALOADER.RETURN_IMG0 = (8, 8), True
    cfg.INPUT.TRANSFORMS, cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD = ("normalize",), [0.1] * 3, [0.5] * 3
    item = DatasetWrapper(cfg, [Datum(str(tmp_path / "a.png"))], build_transform(cfg, False))[0]
    assert torch.allclose(item["img0"], torch.full((3, 8, 8), 0.2))
    assert torch.equal(item["img0"], item["img"])


# Trainers


class Mixed(TrainerXU):
    """A trainer that builds its own loaders, which are lists."""

    def build_data_loader(self):
        self.train_loader_x = [{"img": torch.ones(2, 3), "label": torch.tensor([0, 1])}] * 3
        self.train_loader_u = [{"img": torch.zeros(1, 3)}] * 2
        self.test_loader = self.train_loader_x
        self.num_classes, self.num_source_domains, self.lab2cname = 2, 0, {0: "a", 1: "b"}
        self.val_loader = None

    def build_model(self):
        self.model = torch.nn.Linear(3, 2)
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.register_model("linear", self.model, self.optim)

    def forward_backward(self, batch_x, batch_u):
        x, y, u = self.parse_batch_train(batch_x, batch_u)
        assert (x.shape, y.shape, u.shape) == ((2, 3), (2,), (1, 3))
        self.prograd_backward_and_update(F.cross_entropy(self.model(x), y), self.model(u).square().sum())
        return {}


class Labelled(Mixed, TrainerX):
    """The same with only labelled images."""

    run_epoch = TrainerX.run_epoch

    def build_data_loader(self):
        super().build_data_loader()
        del self.train_loader_u, self.val_loader

    def forward_backward(self, batch):
        return super().forward_backward(batch, {"img": torch.zeros(1, 3)})


@pytest.mark.parametrize("trainer", [Mixed, Labelled])
@pytest.mark.parametrize("reseed", [True, False])
def test_loaders_may_be_lists_and_an_unlabelled_one_may_be_absent(tmp_path, trainer, reseed, capsys):
    cfg = get_cfg_default()
    cfg.OUTPUT_DIR, cfg.SEED, cfg.OPTIM.MAX_EPOCH, cfg.TRAIN.RESEED_EPOCHS = str(tmp_path), 1, 2, reseed
    trainer(cfg).train()
    printed = capsys.readouterr().out
    for line in ("epoch [2/2] batch [3/3]", "Finish training", "Deploy the last-epoch model", "* accuracy: 50.0%"):
        assert line in printed
    assert f"Checkpoint saved to {tmp_path / 'linear' / 'model.pth.tar-2'}" in printed


def stepped(gradient_a, gradient_b, share):
    """What one step of rate 1 changes at 0, with losses that have these gradients."""
    trainer = TrainerBase()
    model = torch.nn.Linear(len(gradient_a), 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    trainer.register_model("m", model, torch.optim.SGD(model.parameters(), 1.0))
    a, b = (torch.tensor([gradient]) for gradient in (gradient_a, gradient_b))
    trainer.prograd_backward_and_update((model.weight * a).sum(), (model.weight * b).sum(), share)
    return -model.weight.detach()[0]


NUMBERS = st.lists(st.floats(-5, 5, width=32).filter(lambda x: abs(x) > 0.01), min_size=3, max_size=3)


@given(NUMBERS, NUMBERS, st.sampled_from([0.0, 0.5, 1.0]))
def test_a_step_of_prograd_takes_out_what_conflicts_and_nothing_else(gradient_a, gradient_b, share):
    got = stepped(gradient_a, gradient_b, share).double().numpy()
    a, b = np.float64(gradient_a), np.float64(gradient_b)
    unit = b / np.linalg.norm(b)
    expected = a - share * (a @ unit) * unit if a @ b < 0 else a
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


# Evaluation


def test_a_prediction_outside_the_named_classes_is_wrong_and_counts(capsys):
    cfg = get_cfg_default()
    cfg.TEST.PER_CLASS_RESULT = True
    evaluator = build_evaluator(cfg, lab2cname={0: "a", 1: "b"})
    logits = torch.eye(4)[[0, 3, 3, 1]]
    evaluator.process(logits, torch.tensor([0, 0, 1, 1]))
    results = evaluator.evaluate()
    assert results["perclass_accuracy"] == results["accuracy"] == 50.0
    assert "* class: 0 (a)\ttotal: 2\tcorrect: 1\tacc: 50.0%" in capsys.readouterr().out


# Networks and operations


def test_a_network_is_built_of_a_backbone_by_name_and_no_head_is_ignored():
    cfg = get_cfg_default()
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.PRETRAINED = "resnet18", False
    network = SimpleNet(cfg, cfg.MODEL, 3)
    assert isinstance(network.backbone, Backbone)
    logits, features = network(torch.rand(2, 3, 32, 32), return_feature=True)
    assert (logits.shape, features.shape, network.fdim) == ((2, 3), (2, 512), 512)
    cfg.MODEL.HEAD.NAME = "mlp"
    with pytest.raises(UserError, match="head 'mlp'"):
        SimpleNet(cfg, cfg.MODEL, 3)


# Files


def test_a_file_is_downloaded_whole_or_not_at_all(tmp_path):
    (tmp_path / "source").write_bytes(b"content")
    download_url((tmp_path / "source").as_uri(), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"content"
    missing = urllib.parse.urljoin((tmp_path / "source").as_uri(), "missing")
    with pytest.raises(UserError, match="cannot be downloaded"):
        download_url(missing, tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "source"]


def test_a_logger_copies_what_is_printed_to_its_file(tmp_path, capsys):
    logger = Logger(str(tmp_path / "deep" / "log.txt"))
    logger.write("a line\n")
    logger.close()
    assert (tmp_path / "deep" / "log.txt").read_text() == capsys.readouterr().out == "a line\n"


def test_a_saved_checkpoint_is_named_where_dassl_names_it(tmp_path, capsys):
    state = {"module.w": torch.zeros(1)}
    save_checkpoint({"state_dict": state, "epoch": 4}, str(tmp_path), is_best=True)
    assert list(load_checkpoint(str(tmp_path / "model-best.pth.tar"))["state_dict"]) == ["w"]
    assert (tmp_path / "checkpoint").read_text() == "model.pth.tar-4\n"
    assert f"Checkpoint saved to {tmp_path / 'model.pth.tar-4'}" in capsys.readouterr().out


def test_signatures_take_what_dassl_passes():
    def takes(function):
        return list(inspect.signature(function).parameters)

    assert takes(TrainerXU.parse_batch_train) == ["self", "batch_x", "batch_u"]
    assert takes(TrainerX.prograd_backward_and_update) == ["self", "loss_a", "loss_b", "lambda_", "names"]
    assert takes(DatasetBase.download_data) == ["self", "url", "dst", "from_gdrive"]
    assert takes(DatasetWrapper._transform_image) == ["self", "tfm", "img0"]
