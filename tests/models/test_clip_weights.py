"""Weights files: nothing in them runs, damaged files are refused, and there is one copy in memory."""

import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from ogkd import models
from ogkd.models import weights
from tests.support import random_weights, tiny_models

SAFE, BIN = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return tiny_models.biomedclip(tmp_path_factory.mktemp("original"))


@pytest.fixture
def folder(tmp_path, original):
    shutil.copytree(original, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def bin_folder(original, tmp_path):
    return tiny_models.with_state(original, tmp_path / "bin", tiny_models.biomedclip_state(original))


class Bomb:
    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


def test_an_empty_weights_file_is_reported_by_name(folder):
    (folder / SAFE).write_bytes(b"")
    with pytest.raises(models.ModelError, match=rf"{SAFE} is empty: replace it with an intact copy"):
        models.load(folder)


@pytest.mark.parametrize(("name", "share"), [(SAFE, 0.999), (BIN, 0.999)])
def test_a_truncated_weights_file_is_reported_by_name(request, name, share):
    folder = request.getfixturevalue("bin_folder" if name == BIN else "folder")
    os.truncate(folder / name, int(share * (folder / name).stat().st_size))
    with pytest.raises(models.ModelError, match=rf"{name} is damaged"):
        models.load(folder)


@pytest.mark.parametrize("old_format", [False, True])
def test_a_pickle_bomb_does_not_go_off(bin_folder, old_format):
    victim = bin_folder / "touched"
    content = {"logit_scale": Bomb(victim)}
    if old_format:
        (bin_folder / BIN).write_bytes(pickle.dumps(content))
    else:
        torch.save(content, bin_folder / BIN)
    with pytest.raises(models.ModelError, match="damaged or holds something other than tensors"):
        models.load(bin_folder)
    assert not victim.exists()


@pytest.mark.parametrize("content", [{}, {"a": 1}, {0: torch.zeros(2)}, torch.zeros(2)])
def test_a_file_of_something_else_is_refused(bin_folder, content):
    torch.save(content, bin_folder / BIN)
    with pytest.raises(models.ModelError, match="holds no state dict"):
        models.load(bin_folder)


def test_a_folder_without_configuration_says_what_to_put_there(folder):
    (folder / "open_clip_config.json").unlink()
    with pytest.raises(models.ModelError, match=r"has no configuration: put open_clip_config.json"):
        models.load(folder)


def test_a_folder_without_weights_says_what_to_put_there(folder):
    (folder / SAFE).unlink()
    with pytest.raises(models.ModelError, match=rf"has no weights: put {SAFE} or"):
        models.load(folder)


def test_weights_in_several_files_are_refused_with_how_to_join_them(folder):
    (folder / SAFE).rename(folder / f"{SAFE}.index.json")
    with pytest.raises(models.ModelError, match=r"in several files .* max_shard_size"):
        models.load(folder)


class Follows(torch.nn.Module):
    """As some of timm's Swin, it computes a buffer on the device of a parameter."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Parameter(torch.zeros(3))
        self.register_buffer("index", torch.arange(3, device=self.table.device), persistent=False)


def test_buffers_that_follow_a_parameter_have_their_values():
    assert weights.built(Follows, "timm", Path("config.json")).index.tolist() == [0, 1, 2]


@pytest.mark.parametrize("text", ["{", '{"model_cfg": {"embed_dim": 4}}'])
def test_a_damaged_configuration_is_reported_by_name(folder, text):
    (folder / "open_clip_config.json").write_text(text)
    with pytest.raises(models.ModelError, match=r"configuration .*open_clip_config.json (is not|lacks)"):
        models.image_spec(folder)
    with pytest.raises(models.ModelError, match=r"configuration .*open_clip_config.json (is not|lacks)"):
        models.load(folder)


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("vision_cfg", {"timm_model_name": "no_such_trunk"}),
        ("vision_cfg", {"no_such_option": 1}),
        ("text_cfg", {"hf_pooler_type": "no_such_pooler"}),
    ],
)
def test_a_configuration_that_cannot_be_built_is_an_error_of_one_sentence(folder, section, change):
    tiny_models.edit(folder / "open_clip_config.json", model_cfg={section: change})
    with pytest.raises(models.ModelError, match="open_clip cannot build") as caught:
        models.load(folder)
    assert "\n" not in str(caught.value)


def test_a_text_tower_that_is_no_bert_asks_for_its_configuration(folder):
    other = {"text_cfg": {"hf_model_name": "org/some-roberta-base"}}
    tiny_models.edit(folder / "open_clip_config.json", model_cfg=other)
    with pytest.raises(models.ModelError, match=r"put its config.json beside the weights"):
        models.load(folder)


def test_a_damaged_tokenizer_is_an_error_of_one_sentence(folder):
    (folder / "tokenizer.json").write_text("{")
    (folder / "vocab.txt").unlink()
    with pytest.raises(models.ModelError, match=r"The tokenizer in .* cannot be read"):
        models.load(folder)


def test_an_unknown_name_lists_the_known_ones():
    for function in (models.load, models.image_spec):
        with pytest.raises(models.ModelError, match=r'no model or folder "Clippy".*: choose one of BiomedCLIP, CLIP'):
            function("Clippy")


@pytest.mark.parametrize("name", ["hf-hub:name", "hf-hub:a b/c", "hf-hub:a/b/c"])
def test_a_malformed_repository_name_says_how_to_write_it(name):
    with pytest.raises(models.ModelError, match='write it as "hf-hub:org/name"'):
        models.load(name)


def anonymous_bytes():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    pytest.skip("this system does not tell anonymous memory apart")


@pytest.mark.parametrize("file_format", ["safetensors", "bin"])
def test_loading_keeps_no_second_copy_of_the_weights(tmp_path, monkeypatch, file_format):
    size = random_weights.SIZES["tiny"]._replace(vocabulary=30522, width=512, intermediate=2048)
    monkeypatch.setitem(random_weights.SIZES, "wide", size)
    random_weights.write(tmp_path, "wide", file_format=file_format)
    models.load(tmp_path)  # what the first load imports is not counted
    before = anonymous_bytes()
    model = models.load(tmp_path)
    held = sum(parameter.nbytes for parameter in model.parameters())
    assert held > 90e6
    assert anonymous_bytes() - before < held / 3
