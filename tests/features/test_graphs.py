"""FEATURES.CUDA_GRAPHS: a recorded step learns what the tower itself learns. A GPU is not needed: `replaying` keeps a
recording in memory that its next call overwrites, as a CUDA graph does."""

from functools import partial

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ogkd.cli import train
from ogkd.features.graphs import ReplayedCLIP, with_graphs
from ogkd.models import load
from ogkd.tuning import clip_trainer
from tests.support.runs import learned, same
from tests.support.tiny_models import biomedclip


def replaying(step, example, calls=None):
    """As torch.cuda.make_graphed_callables: one memory for inputs, outputs and gradients of all calls."""
    static, mask = example
    torch.rand(3)  # warm-up uses random numbers
    memory = {"gradient": torch.empty_like(static)}

    class Replay(torch.autograd.Function):
        @staticmethod
        def forward(ctx, embeddings, given):
            assert embeddings.shape == static.shape
            static.data.copy_(embeddings)
            mask.copy_(given)
            with torch.enable_grad():
                out = step(static, mask)
            memory["graph"] = out
            memory.setdefault("out", torch.empty_like(out)).copy_(out.detach())
            if calls is not None:
                calls.append(tuple(static.shape))
            return memory["out"].detach()

        @staticmethod
        def backward(ctx, gradient):
            memory["gradient"].copy_(torch.autograd.grad(memory["graph"], static, gradient, retain_graph=True)[0])
            return memory["gradient"].detach(), None

    return Replay.apply


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(str(biomedclip(tmp_path_factory.mktemp("weights"))))


def step_of(model, dropout=0.0):
    """Texts and gradients of two different steps."""
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        embeddings = torch.randn(3, 7, model.context_width, requires_grad=True)
        mask = torch.arange(7) < torch.tensor([[5], [6 + seed], [7]])
        text = model.encode_text(embeddings, mask, dropout=dropout)
        text.square().sum().backward()
        results += [text.detach(), embeddings.grad]
    return results


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_replayed_step_is_the_towers_own_bit_for_bit(model, dropout):
    calls = []
    replayed = ReplayedCLIP(model, partial(replaying, calls=calls))
    assert same(*(dict(enumerate(step_of(one, dropout))) for one in (model, replayed)))
    assert calls == [(3, 7, model.context_width)] * 2


def test_texts_of_two_calls_before_a_backward_pass_do_not_share_memory(model):
    replayed = ReplayedCLIP(model, replaying)
    inputs = [torch.randn(2, 5, model.context_width, requires_grad=True) for _ in range(2)]
    mask = torch.ones(2, 5, dtype=torch.bool)
    expected, found = [
        torch.autograd.grad(sum(one.encode_text(each, mask).square().sum() for each in inputs), inputs)
        for one in (model, replayed)
    ]
    assert all(torch.equal(*pair) for pair in zip(expected, found, strict=True))


@pytest.mark.parametrize("method", ["CoOp", "ProGrad", "MaPLe"])
def test_a_run_learns_the_same_prompt_with_recorded_steps(arguments, tmp_path, monkeypatch, method):
    calls = []
    train.main(arguments(method, output=tmp_path / "tower"))
    monkeypatch.setattr(clip_trainer, "with_graphs", lambda m, _on: ReplayedCLIP(m, partial(replaying, calls=calls)))
    train.main(arguments(method, output=tmp_path / "recorded"))
    assert same(learned(tmp_path / "tower"), learned(tmp_path / "recorded"))
    assert bool(calls) == (method != "MaPLe")  # MaPLe changes the tower inside


def test_a_failed_recording_is_said_once_and_the_tower_itself_runs(model, capsys):
    def failing(step, example):
        raise RuntimeError("no capture")

    replayed = ReplayedCLIP(model, failing)
    assert same(*(dict(enumerate(step_of(one))) for one in (model, replayed)))
    assert capsys.readouterr().out.count("no capture") == 1


def test_on_a_cpu_the_option_has_no_effect(model):
    assert with_graphs(model, True) is model


def test_a_step_reads_nothing_back_from_the_device(model, monkeypatch):
    """What would stop a recording: a value that the program waits for. Fake tensors have none."""
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with FakeTensorMode(allow_non_fake_inputs=True):
        embeddings = torch.randn(3, 7, model.context_width, requires_grad=True)
        mask = torch.ones(3, 7, dtype=torch.bool)
        model.encode_text(embeddings, mask).sum().backward()
    assert embeddings.grad.shape == embeddings.shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_graph_learns_what_the_tower_learns(model):
    model = model.to("cuda")
    replayed = with_graphs(model, True)
    for expected, found in zip(step_of(model), step_of(replayed), strict=True):
        assert torch.allclose(expected, found, rtol=1e-4, atol=1e-6)
