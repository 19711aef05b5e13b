"""`scripts/interpret_prompt.py`: the nearest words of learned context vectors, for every format of model."""

import re

import pytest
import torch

from ogkd import models
from ogkd.predict.interpret import nearest_words
from tests.support import tiny_models

MAKERS = {
    "open_clip with BERT": tiny_models.biomedclip,
    "open_clip's own towers": tiny_models.native_clip,
    "transformers": tiny_models.transformers_clip,
    "PMC-CLIP": tiny_models.pmc_clip,
    "KEEP": tiny_models.keep,
    "SigLIP": tiny_models.transformers_siglip,
}


@pytest.fixture(params=MAKERS)
def model(request, tmp_path):
    MAKERS[request.param](tmp_path / "model")
    return models.load(str(tmp_path / "model"))


def spelled(words):
    """A text from its word pieces, as WordPiece and byte pair encoding mark them."""
    return "".join(word.replace("##", "").replace("</w>", " ").strip("Ġ") for word in words).replace(" ", "")


def test_the_vocabulary_names_the_ids_of_every_tokenizer(model):
    vocabulary = model.vocabulary()
    ids = model.tokenize(["an image of the kidney"]).ids[0].tolist()
    assert spelled(vocabulary[index] for index in ids if index in vocabulary) == "animageofthekidney"
    assert len(vocabulary) == len({*vocabulary.values()})


def test_special_tokens_are_no_words(model):
    special = re.compile(r"\[(PAD|UNK|CLS|SEP|MASK|unused\d+)\]|<\|?(start|end)_?of_?text\|?>|</s>|<unk>")
    assert not any(map(special.fullmatch, model.vocabulary().values()))
    nearest = nearest_words(model.embed(model.tokenize(["a"]).ids)[0], model, 10**6)
    assert all(len(row) == len(model.vocabulary()) for row in nearest)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_a_words_own_embedding_is_nearest_to_it(model, distance):
    vocabulary = model.vocabulary()
    places = torch.tensor([[*vocabulary][place] for place in (0, 70, -3)])
    near = nearest_words(model.embed(places[None])[0], model, 3, distance)
    assert [row[0][0] for row in near] == [vocabulary[place] for place in places.tolist()]
    assert all(abs(row[0][1]) < 1e-6 and row[0][1] <= row[1][1] <= row[2][1] for row in near)


def test_distances_are_those_between_vector_and_embedding(model):
    vector = torch.randn(1, model.context_width)
    for distance, expected in (
        ("euclidean", lambda word: (vector[0] - word).pow(2).sum().sqrt()),
        ("cosine", lambda word: 1 - torch.cosine_similarity(vector[0], word, dim=0)),
    ):
        for word, value in nearest_words(vector, model, 4, distance)[0]:
            token = next(token for token, one in model.vocabulary().items() if one == word)
            embedding = model.embed(torch.tensor([[token]]))[0, 0]
            assert value == pytest.approx(float(expected(embedding)), abs=1e-5)


def test_contexts_at_their_start_are_the_words_they_start_from(command, arguments, tmp_path):
    assert (
        command(["train.py", *arguments("CoOp", "OPTIM.MAX_EPOCH", "1", "OPTIM.WARMUP_CONS_LR", "1e-12")]).returncode
        == 0
    )
    done = command(["scripts/interpret_prompt.py", str(tmp_path / "run"), "--words", "2"])
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "Nearest of 689 words of PhantomCLIP, with euclidean distances"
    assert [line.split()[:3] for line in lines[1:]] == [
        [f"{place}:", word, "0.0000,"] for place, word in enumerate(["a", "photo", "of", "a"], 1)
    ]


def test_class_specific_contexts_are_listed_by_class(command, arguments, tmp_path):
    done = command(["train.py", *arguments("CoOp", "TRAINER.COOP.CSC", "True", "OPTIM.MAX_EPOCH", "1")])
    assert done.returncode == 0
    lines = command(["scripts/interpret_prompt.py", str(tmp_path / "run"), "--words", "1"]).stdout.splitlines()
    titles = [line for line in lines[1:] if line.endswith(":")]
    assert len(titles) == len(set(titles)) > 2 and len(lines) == 1 + 5 * len(titles)


def test_what_holds_no_contexts_is_said_in_one_sentence(command, arguments, tmp_path):
    done = command(["scripts/interpret_prompt.py", str(tmp_path)])
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "no checkpoint" in done.stderr
    assert command(["train.py", *arguments("LinearProbe", "OPTIM.MAX_EPOCH", "1")]).returncode == 0
    done = command(["scripts/interpret_prompt.py", str(tmp_path / "run")])
    assert (done.returncode, done.stderr.count("\n")) == (
        2,
        1,
    ) and "learned no context vectors but linear" in done.stderr


def test_a_context_of_another_backbone_is_refused(command, arguments, tmp_path):
    assert command(["train.py", *arguments("CoOp", "OPTIM.MAX_EPOCH", "1")]).returncode == 0
    tiny_models.native_clip(tmp_path / "other")
    done = command(["scripts/interpret_prompt.py", str(tmp_path / "run"), "--backbone", str(tmp_path / "other")])
    assert done.returncode == 2 and "give the backbone that they were trained with" in done.stderr
