"""A model folder is data: none of its code runs, and no name inside it leads to another repository."""

import json

import huggingface_hub
import pytest

from ogkd import models
from ogkd.models import sources
from ogkd.models.named import named_models
from ogkd.models.tokenizers import transformers_tokenizer
from tests.support import tiny_models

CODE = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
from transformers import BertConfig, BertModel, BertTokenizer
class Config(BertConfig): model_type = "of-this-folder"
class Model(BertModel): config_class = Config
class Tokenizer(BertTokenizer): pass
"""
AUTO_MAP = {
    "AutoConfig": "code.Config",
    "AutoModel": "code.Model",
    "AutoTokenizer": ["code.Tokenizer", None],
}


@pytest.fixture
def folder(tmp_path):
    return tiny_models.biomedclip(tmp_path / "model")


@pytest.fixture
def no_hub(monkeypatch):
    """The names of repositories asked of the hub's client, which has nothing and no network."""
    asked = []

    def look(name, *_arguments, **_options):
        asked.append(name)

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", look)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    return asked


def remove_tokenizer(folder):
    for name in sources.TOKENIZER_FILES:
        (folder / name).unlink(missing_ok=True)


@pytest.mark.parametrize("known", [True, False], ids=["known class", "class of the folder's own"])
def test_a_tokenizers_own_code_does_not_run(folder, known):
    (folder / "code.py").write_text(CODE)
    own = {} if known else {"tokenizer_class": "Tokenizer"}
    tiny_models.edit(folder / "tokenizer_config.json", auto_map=AUTO_MAP, **own)
    if known:
        assert models.load(folder).tokenize(["cyst"]).ids.shape == (1, 3)
    else:
        (folder / "tokenizer.json").unlink()
        with pytest.raises(models.ModelError, match=r"The tokenizer in .* cannot be read"):
            models.load(folder)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("model_type", ["bert", "of-this-folder"])
def test_a_text_towers_own_code_does_not_run(folder, model_type):
    (folder / "code.py").write_text(CODE)
    tiny_models.write_text_config(folder, model_type=model_type, auto_map=AUTO_MAP)
    if model_type == "bert":
        assert models.load(folder).text_layers == 3
    else:
        with pytest.raises(models.ModelError, match="open_clip cannot build"):
            models.load(folder)
    assert not (folder / "ran").exists()


def test_attention_kernels_that_a_configuration_names_are_not_fetched(folder, tmp_path, no_hub):
    tiny_models.write_text_config(folder, attn_implementation="someone/kernel", _attn_implementation="someone/kernel")
    assert models.load(folder).text_layers == 3
    other = tmp_path / "transformers"
    tiny_models.transformers_clip(other)
    kernel = {"attn_implementation": "someone/kernel"}
    tiny_models.edit(other / "config.json", text_config=kernel, **kernel)
    assert models.load(other).text_layers == 3
    assert no_hub == []


@pytest.mark.parametrize("trunk", ["hf-hub:someone/vit", "someone/vit"])
def test_an_image_tower_of_another_repository_is_refused(folder, no_hub, trunk):
    tiny_models.edit(folder / "open_clip_config.json", model_cfg={"vision_cfg": {"timm_model_name": trunk}})
    with pytest.raises(
        models.ModelError, match=rf'"{trunk}", which is another repository or folder: set timm_model_name'
    ):
        models.load(folder)
    assert no_hub == []


def test_a_folders_tokenizer_is_not_looked_for_in_the_repository_that_its_configuration_names(folder, no_hub):
    remove_tokenizer(folder)
    named = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]["hf_tokenizer_name"]
    with pytest.raises(models.ModelError, match=rf"put tokenizer.json or vocab.txt of {named} beside the weights"):
        models.load(folder)
    assert no_hub == []


@pytest.mark.parametrize("name", ["BiomedCLIP", "PMC-CLIP"])
def test_the_known_models_tokenizer_is_that_of_the_repository_named_here(tmp_path, no_hub, name):
    repository = named_models()[name].on_hub()
    with pytest.raises(models.MissingWeights) as caught:
        transformers_tokenizer(tmp_path, repository)
    assert caught.value.repository == repository.tokenizer
    assert set(no_hub) == {repository.tokenizer}


def test_another_models_tokenizer_is_its_own_repositorys_at_the_same_revision(tmp_path, no_hub):
    repository = sources._repository("hf-hub:some/model")._replace(revision="abc")
    with pytest.raises(models.MissingWeights):
        transformers_tokenizer(tmp_path, repository, "someone/else")
    assert set(no_hub) == {"some/model"}


def test_a_pmc_clip_folder_without_tokenizer_uses_the_published_one(tmp_path, no_hub):
    tiny_models.pmc_clip(tmp_path)
    remove_tokenizer(tmp_path)
    with pytest.raises(models.MissingWeights, match="hub cannot be reached"):
        models.load(tmp_path)
    assert set(no_hub) == {sources.PMC_CLIP.tokenizer}
