"""Models that have a name here: fetched from a server that speaks as the hub does; what is said where it refuses; and
weights that a training wrote, whose names are put into open_clip's."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from ogkd import models
from ogkd.cli.convert import main as convert
from ogkd.cli.download import main as download
from ogkd.core import UserError, run_program
from ogkd.models import sources
from ogkd.models.checkpoints import CHECKPOINTS
from ogkd.models.named import named_models
from tests.support import tiny_models
from tests.support.download_server import Served, serving
from tests.support.wordpiece import write_tokenizer

FETCHED = [one for one in named_models().values() if one.repository and not one.unsupported]
COMMIT = "1234567890123456789012345678901234567890"
SIGLIP = {"SigLIP2-B-16": tiny_models.open_clip_siglip, "MedSigLIP": tiny_models.transformers_siglip}
FORMATS = {
    "open_clip": tiny_models.native_clip,
    "openai": tiny_models.native_clip,
    "transformers": tiny_models.transformers_clip,
    "pmc_clip": tiny_models.pmc_clip,
    "keep": tiny_models.keep,
}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub, and a cache of its own, for commands in this process."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with serving() as server:
        yield server


def serve(hub, facts, folder: Path) -> None:
    """Put a tiny model in the format of a named one on the hub."""
    if facts.name == "BiomedCLIP":
        tiny_models.biomedclip(folder)
    elif facts.format == "checkpoint":
        tiny_models.checkpoint(folder / facts.weights, facts.name.removesuffix("-B-16"))
    elif facts.name in SIGLIP:
        SIGLIP[facts.name](folder)
    else:
        FORMATS[facts.format](folder)
    kind = f"{facts.kind}s/" if facts.kind else ""
    hub.put_repository(kind + facts.repository, folder, facts.revision or COMMIT)
    tokenizer = folder.with_name("tokenizer")
    tokenizer.mkdir()
    write_tokenizer(tokenizer, 1024, 77)
    if facts.tokenizer not in (None, facts.repository):
        hub.put_repository(facts.tokenizer, tokenizer, COMMIT)


def run(capsys, *words):
    """(exit status, standard output, standard error) of `ogkd download`."""
    capsys.readouterr()
    return run_program(lambda: download(list(words))), *capsys.readouterr()


@pytest.mark.parametrize("facts", FETCHED, ids=lambda facts: facts.name)
def test_each_name_is_fetched_with_its_revision_and_licence(hub, tmp_path, capsys, facts):
    serve(hub, facts, tmp_path / "tiny")
    status, out, err = run(capsys, "weights", facts.name, "--endpoint", hub.url)
    assert (status, err) == (0, "")
    assert facts.repository in out and (facts.revision or COMMIT) in out
    assert facts.licence in out and facts.card in out
    before = len(hub.requests)
    assert run(capsys, "weights", facts.name, "--check")[0] == 0 and len(hub.requests) == before


def test_a_name_is_understood_in_any_spelling():
    for word, name in (("DermLIP ViT-B/16", "DermLIP-ViT-B-16"), ("unimed_clip b/16", "UniMed-CLIP-B-16")):
        assert models.model_named(word) == name


@pytest.mark.parametrize(("status", "header"), [(401, "GatedRepo"), (403, "GatedRepo"), (401, ""), (403, "")])
def test_a_gated_model_says_where_to_ask_and_which_token_to_set(hub, capsys, status, header):
    for name in ("config.json", "model.safetensors", "pytorch_model.bin"):
        hub.put(f"/google/medsiglip-448/resolve/main/{name}", Served(status=status, headers={"X-Error-Code": header}))
    code, _, err = run(capsys, "weights", "MedSigLIP", "--endpoint", hub.url)
    assert code == 2 and len(err.splitlines()) == 1
    assert "gated" in err and "https://huggingface.co/google/medsiglip-448" in err and "HF_TOKEN" in err


def test_a_repository_that_was_renamed_is_fetched_under_its_new_name_with_a_note(hub, tmp_path, capsys):
    tiny_models.transformers_clip(tmp_path / "tiny")
    for path in hub.put_repository("someone/plip2", tmp_path / "tiny", COMMIT):
        hub.put(f"/vinid/plip/resolve/main/{path}", Served(redirect=f"/someone/plip2/resolve/main/{path}"))
    status, out, err = run(capsys, "weights", "PLIP", "--endpoint", hub.url)
    assert (status, err) == (0, "")
    assert "vinid/plip is now called someone/plip2" in out


def test_a_repository_that_is_gone_may_have_moved(hub, capsys):
    status, _, err = run(capsys, "weights", "PLIP", "--endpoint", hub.url)
    assert status == 2 and len(err.splitlines()) == 1
    assert "renamed" in err and "removed" in err and "https://huggingface.co/vinid/plip" in err


@pytest.mark.parametrize(("name", "words"), [("CheXzero", "convert"), ("CONCH", "cannot be used here")])
def test_a_model_that_is_not_on_the_hub_or_cannot_be_used_says_so(capsys, name, words):
    status, _, err = run(capsys, "weights", name)
    assert status == 2 and len(err.splitlines()) == 1 and words in err and named_models()[name].card in err
    with pytest.raises(models.ModelError, match=words):
        models.load(name)


@pytest.mark.parametrize("name", ["PLIP", "UniMed-CLIP-B-16", "PathGen-CLIP"])
def test_an_exported_folder_knows_its_model_and_revision(hub, tmp_path, capsys, name):
    facts, plain = named_models()[name], tmp_path / "plain"
    serve(hub, facts, tmp_path / "tiny")
    status, _, err = run(capsys, "weights", name, "--endpoint", hub.url, "--export", str(plain))
    assert status == 0, err
    assert sources.facts_of(plain) == facts == sources.facts_of(f"hf-hub:{facts.repository}")
    assert sources.revision_of(plain) == sources.revision_of(name) == (facts.revision or COMMIT)
    by_name, exported = models.load(name), models.load(plain)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(by_name.encode_image(images).global_token, exported.encode_image(images).global_token)


# Weights that a training wrote


def converted(tmp_path, family, *more) -> Path:
    folder = tmp_path / "folder"
    convert([str(tmp_path / "weights.pt"), "--as", family, "--to", str(folder), *more])
    return folder


@pytest.mark.parametrize("family", CHECKPOINTS)
def test_converted_weights_have_the_features_of_the_model_that_wrote_them(tmp_path, family):
    plain = tiny_models.checkpoint(tmp_path / "weights.pt", family)
    (tmp_path / "tokenizer").mkdir()
    write_tokenizer(tmp_path / "tokenizer", 1024, 77)
    folder = converted(tmp_path, family, "--tokenizer", str(tmp_path / "tokenizer"))
    assert sources.facts_of(folder).name.startswith(family)
    model = models.load(folder)
    images, tokens = torch.randn(2, 3, 32, 32), model.tokenize(["a cyst", "the brain in an axial scan"])
    ids = torch.zeros(2, 77, dtype=torch.long)
    ids[:, : tokens.ids.shape[1]] = tokens.ids
    with torch.no_grad():
        torch.testing.assert_close(
            model.encode_image(images).global_token, plain.encode_image(images), rtol=0, atol=1e-5
        )
        features = model.encode_text(model.embed(tokens.ids), tokens.mask)
        torch.testing.assert_close(features, plain.encode_text(ids), rtol=0, atol=1e-5)


def test_chexzeros_images_are_padded_and_normalised_as_its_code_does(tmp_path):
    tiny_models.checkpoint(tmp_path / "weights.pt", "CheXzero")
    spec = models.image_spec(converted(tmp_path, "CheXzero"))
    assert spec.resize == "longest" and spec.mean[0] * 255 == pytest.approx(101.48761)


@pytest.mark.parametrize(("place", "wrapper"), [("model", "_orig_mod."), ("model_state_dict", "module.model.")])
def test_what_a_training_wraps_around_the_weights_is_taken_off(tmp_path, place, wrapper):
    tiny_models.checkpoint(tmp_path / "weights.pt", "PathGen-CLIP")
    state = torch.load(tmp_path / "weights.pt", weights_only=True)
    torch.save({place: {wrapper + key: value for key, value in state.items()}, "step": 3}, tmp_path / "weights.pt")
    assert models.load(converted(tmp_path, "PathGen-CLIP")).embed_dim == 24


class Bomb:
    def __init__(self, function, victim):
        self.parts = function, (str(victim),)

    def __reduce__(self):
        return self.parts


def with_bomb(tmp_path, function) -> None:
    tiny_models.checkpoint(tmp_path / "weights.pt", "PathGen-CLIP")
    state = torch.load(tmp_path / "weights.pt", weights_only=True)
    torch.save({"state_dict": state, "hook": Bomb(function, tmp_path / "ran")}, tmp_path / "weights.pt")


def test_nothing_that_a_checkpoint_names_is_run(tmp_path):
    (tmp_path / "ran").mkdir()
    with_bomb(tmp_path, shutil.rmtree)
    assert models.load(converted(tmp_path, "PathGen-CLIP")).embed_dim == 24
    assert (tmp_path / "ran").exists()


def test_a_checkpoint_that_names_the_systems_functions_is_refused(tmp_path):
    with_bomb(tmp_path, os.mkdir)
    with pytest.raises(UserError, match="something other than tensors"):
        converted(tmp_path, "PathGen-CLIP")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("ln_final.weight"), "ln_final.weight is missing"),
        (lambda s: s.pop("visual.proj"), "1 missing, first visual.proj"),
        (lambda s: s.update(extra=torch.zeros(1)), "1 unexpected, first extra"),
    ],
)
def test_weights_of_another_model_are_refused_in_one_sentence(tmp_path, change, words):
    tiny_models.checkpoint(tmp_path / "weights.pt", "PathGen-CLIP")
    state = torch.load(tmp_path / "weights.pt", weights_only=True)
    change(state)
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(UserError, match=words):
        converted(tmp_path, "PathGen-CLIP")
    assert not list((tmp_path / "folder").glob("*.safetensors"))


@pytest.mark.parametrize(
    ("family", "file", "words"),
    [
        ("BiomedCLIP", "weights.pt", "no key rules"),
        ("BMC-CLIP", "gone.pt", "no file"),
        ("BMC-CLIP", "weights.pt", "already"),
    ],
)
def test_a_conversion_that_makes_no_sense_is_explained(tmp_path, family, file, words):
    tiny_models.checkpoint(tmp_path / "weights.pt", "BMC-CLIP")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "open_clip_config.json").write_text(json.dumps({}))
    with pytest.raises(UserError, match=words):
        convert([str(tmp_path / file), "--as", family, "--to", str(tmp_path / "folder")])
