"""ResNet-18: its weights by file, folder or hub, what it computes, and what it leaves."""

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch.func import functional_call
from torchvision.transforms import Normalize

from ogkd.core import UserError
from ogkd.models import image_spec
from tests.support import numbered
from tests.support.toy_clip import ToyCLIP
from tests.test_trainings import adam, gradient_of
from trainers.resnet18 import ResNet18

SPEC = image_spec("PhantomCLIP")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights in the format of the hub's repository, in its folder."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("resnet18")
    save_file(timm.create_model("resnet18").state_dict(), folder / "model.safetensors")
    return folder


def started(**options):
    method = ResNet18(numbered.CfgNode(ResNet18.options.defaults() | options), ToyCLIP({}, 6, SPEC), numbered.NAMES)
    method.prepare(None)
    return method


def test_training_starts_at_the_weights_of_a_folder_or_file_and_at_a_new_classifier(weights):
    source = timm.create_model("resnet18", checkpoint_path=weights / "model.safetensors").eval()
    torch.save(source.state_dict() | {"conv1.weight": torch.ones(64, 3, 7, 7)}, weights / "torchvision.pth")
    method = started(WEIGHTS=str(weights)).eval()
    raw = torch.rand(2, 3, SPEC.size, SPEC.size)
    out = method.encode(Normalize(SPEC.mean, SPEC.std)(raw), patches=True)
    expected = source.forward_features(Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(raw))
    torch.testing.assert_close(out.global_token, expected.mean((2, 3)), rtol=1e-3, atol=1e-4)
    by_patch = method.patch_classifier()(out)
    torch.testing.assert_close(by_patch.mean(1), method.classifier()(out.global_token), rtol=1e-3, atol=1e-4)
    other = started(WEIGHTS=str(weights / "torchvision.pth"))
    assert (other.network.conv1.weight == 1).all()
    assert method.network.fc.weight.shape == (3, 512)


def test_the_weights_are_part_of_a_runs_fingerprint(weights):
    options = numbered.CfgNode({"WEIGHTS": str(weights)})
    assert len(ResNet18.fingerprints(options, "phantom")["ResNet-18's weights"]) == 64


@pytest.mark.parametrize(
    ("name", "words"),
    [("nowhere.pth", "no file or folder"), ("./timm/there", "no file or folder"), ("timm/resnet18.tv_in1k", "hub")],
)
def test_weights_that_are_not_there_are_named_in_a_sentence(monkeypatch, tmp_path, name, words):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=words):
        started(WEIGHTS=name)


def test_weights_of_another_network_are_refused(tmp_path):
    save_file(timm.create_model("resnet10t").state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="not hold the weights of a ResNet-18"):
        started(WEIGHTS=str(tmp_path))


def test_it_learns_by_cross_entropy_as_in_float64():
    method = started(WEIGHTS="random").train()
    start = {name: value.detach().clone() for name, value in method.named_parameters()}
    whole = started(WEIGHTS="random").double().train()
    batches = [(numbered.numbers(n, 4, 3, 64, 64), torch.tensor([0, 1, 2, 0])) for n in (1, 2)]

    def loss(learned, images, label):
        pixels = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(
            images * torch.tensor(SPEC.std)[:, None, None] + torch.tensor(SPEC.mean)[:, None, None]
        )
        mine = {name.removeprefix("network."): value for name, value in learned.items()}
        return F.cross_entropy(functional_call(whole.network, mine, (pixels,)), label)

    rates = [1e-3, 5e-4]
    expected = adam(start, rates, gradient_of(loss), batches, decay=0.1, by_step=True)
    optimiser = torch.optim.AdamW(method.parameters(), weight_decay=0.1)
    for rate, (images, label) in zip(rates, batches, strict=True):
        optimiser.param_groups[0]["lr"] = rate
        terms, _ = method.losses(images, label)
        method.zero_grad()
        method.backward(terms)
        optimiser.step()
    name = "network.fc.weight"
    torch.testing.assert_close(dict(method.named_parameters())[name].double(), expected[name], rtol=1e-3, atol=1e-5)
