"""Teacher prompts: the committed ones are valid, faults are reported, and reading errors are plain sentences."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ogkd import models
from ogkd.core import UserError
from ogkd.data import catalogue
from ogkd.data.splits import class_names, read_split
from ogkd.phantom.dataset import DATASETS as EMBEDDED
from ogkd.prompts import bank as banks
from ogkd.prompts.bank import FOLDER, PROMPTS_A_CLASS, load_prompts, read_bank, template_prompts
from ogkd.prompts.check import MOST_WORDS, check_bank, content_words, likeness
from ogkd.prompts.check_cli import known_classes, main
from ogkd.prompts.token_counts import TextTower, bound_word_pieces, default_towers, tower_of
from tests.support import random_weights

EMBEDDED_SETS = [made.folder for made in EMBEDDED.values()]
DATASETS = [*catalogue.load().datasets, *EMBEDDED_SETS]
SOUND = {name: read_bank(FOLDER / "Kvasir.json")[name] for name in ("polyps", "esophagitis", "normal z line")}
CLASSES = list(SOUND)
WORDS_ONLY = TextTower("words", MOST_WORDS, True, lambda sentences: [len(sentence.split()) for sentence in sentences])

classes = st.sampled_from(CLASSES)
numbers = st.integers(0, PROMPTS_A_CLASS - 1)
words = st.text(string.ascii_lowercase, min_size=3, max_size=9)


def faults_of(bank: dict[str, list[str]], expected: list[str] | None = CLASSES) -> list[str]:
    return check_bank(bank, expected, [WORDS_ONLY]).faults


def copy_of_sound() -> dict[str, list[str]]:
    return {name: list(sentences) for name, sentences in SOUND.items()}


@pytest.fixture(scope="module")
def towers() -> list[TextTower]:
    return default_towers()


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_committed_prompts_are_valid_and_a_trainer_gets_them_in_its_order(dataset: str, towers) -> None:
    known = known_classes(dataset)
    report = check_bank(read_bank(FOLDER / f"{dataset}.json"), known, towers)
    assert report.faults == [] and len(report.rows) == len(known)
    prompts = load_prompts(dataset, known[::-1])
    assert [len(sentences) for sentences in prompts] == [PROMPTS_A_CLASS] * len(known)
    assert all(name.lower() in line.lower() for name, of in zip(known[::-1], prompts, strict=True) for line in of)


@pytest.mark.parametrize("dataset", [name for name in DATASETS if name not in EMBEDDED_SETS])
def test_classes_stand_in_the_published_splits_order(dataset: str, split_folder: Path) -> None:
    file = split_folder / f"split_{dataset}.json"
    if not file.exists():
        pytest.skip(f"no {file.name} at hand")
    assert list(read_bank(FOLDER / f"{dataset}.json")) == class_names(read_split(file))


# --- the checker finds what is wrong, and nothing where nothing is


def changed(number: int, sentence: str, name: str = "polyps") -> list[str]:
    """The faults of sound prompts of which one is replaced."""
    bank = copy_of_sound()
    bank[name][number] = sentence
    return faults_of(bank)


def test_each_fault_of_a_sentence_is_reported_with_its_place() -> None:
    first, second = SOUND["polyps"][:2]
    place = first.split().index(next(word for word in first.split() if "polyp" not in word.lower()))
    longer = " ".join([*first.split()[: place + 1], "somewhat", *first.split()[place + 1 :]])
    others = SOUND["esophagitis"][4]
    for number, sentence, words in (
        (9, first.upper() + "!", "prompt 10 is prompt 1 again"),
        (9, longer, "prompts 1 and 10 are near-duplicates"),
        (9, others.replace("esophagitis", "polyps").replace("Esophagitis", "Polyps"), " of "),
        (9, "polyps in seven words and no more", "prompt 10 has 7 words"),
        (9, "polyps " + "word " * MOST_WORDS, f"prompt 10 has {MOST_WORDS + 1} words"),
        (9, "a remark of eight words or more without it", "prompt 10 does not name the class"),
    ):
        assert any(words in fault for fault in changed(number, sentence)), sentence
    assert second not in str(changed(9, first.upper()))


@pytest.mark.parametrize("count", [0, PROMPTS_A_CLASS - 1, PROMPTS_A_CLASS + 1])
def test_too_few_or_too_many_prompts_are_counted(count) -> None:
    bank = copy_of_sound()
    bank["polyps"] = (bank["polyps"] * 2)[:count]
    assert f"polyps: {count} prompts instead of {PROMPTS_A_CLASS}" in faults_of(bank)


def test_another_order_of_classes_than_the_splits_is_a_fault() -> None:
    assert any("in the order" in fault for fault in faults_of({name: SOUND[name] for name in CLASSES[::-1]}))


def test_missing_and_unknown_classes_are_both_named() -> None:
    bank = copy_of_sound()
    bank["tapeworm"] = bank.pop("polyps")
    faults = faults_of(bank)
    assert "the class 'polyps' of the split is missing" in faults
    assert "the split has no class 'tapeworm'" in faults


def test_a_prompt_beyond_a_towers_context_is_reported_as_count_or_bound(towers) -> None:
    bank = {"polyps": [f"polyps {'pneumonoultramicroscopicsilicovolcanoconiosis ' * 12}"]}
    faults = check_bank(bank, None, towers, prompts_a_class=1).faults
    assert "polyps: prompt 1 has more tokens than the 77 that CLIP reads" in faults
    assert "polyps: prompt 1 may have more tokens than the 256 that BiomedCLIP reads" in faults


@given(st.lists(st.text(string.ascii_letters + string.digits + string.punctuation + " é", max_size=80), max_size=5))
@settings(max_examples=50, deadline=None)
def test_the_bound_on_word_pieces_holds_for_the_worst_vocabulary(sentences) -> None:
    from tokenizers import BertWordPieceTokenizer

    characters = string.ascii_lowercase + string.digits + string.punctuation
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters)]
    tokenizer = BertWordPieceTokenizer({entry: index for index, entry in enumerate(entries)}, lowercase=True)
    counts = [len(tokenizer.encode(sentence).ids) for sentence in sentences]
    assert all(count <= bound for count, bound in zip(counts, bound_word_pieces(sentences), strict=True))


@given(st.lists(words, max_size=8), st.lists(words, max_size=8))
def test_likeness_is_symmetric_between_0_and_1_and_1_for_the_same(first, second) -> None:
    assert likeness(first, second) == likeness(second, first)
    assert 0 <= likeness(first, second) <= 1
    assert likeness(first, first) == 1


def test_content_words_leave_out_class_name_stop_words_and_plurals() -> None:
    assert content_words("The normal Z-line shows rings, and no erosions.", "normal z line") == ["ring", "erosion"]


# --- the command


def write(path: Path, bank: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(bank))
    return path


def test_the_command_prints_a_table_and_ends_with_0_when_there_is_no_fault(capsys) -> None:
    assert main(["Kvasir", "RETINA"]) == 0
    out = capsys.readouterr().out
    assert "Kvasir: 8 classes, greatest likeness" in out
    assert out.endswith("No faults.\n")


def test_the_command_lists_faults_and_ends_with_1(tmp_path, capsys) -> None:
    write(tmp_path / "mine" / "RETINA.json", {"glaucoma": ["glaucoma"]})
    assert main(["RETINA", "--bank", "mine", "--folder", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "FAULT RETINA: the class 'cataract' of the split is missing" in out
    assert "FAULT RETINA: glaucoma: 1 prompts instead of 50" in out


def test_without_names_the_command_says_which_published_sets_have_no_prompts(tmp_path, capsys) -> None:
    write(tmp_path / "RETINA.json", read_bank(FOLDER / "RETINA.json"))
    assert main(["--folder", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "FAULT BUSI: there is no" in out
    assert "FAULT RETINA" not in out


def test_a_users_own_set_is_compared_with_its_split(tmp_path, capsys) -> None:
    write(tmp_path / "Mine.json", {name: SOUND[name] for name in ("polyps", "esophagitis")})
    parts = {part: [[f"{part}.png", 0, "polyps"], [f"{part}2.png", 1, "warts"]] for part in ("train", "val", "test")}
    split = write(tmp_path / "splits" / "split_Mine.json", parts)
    assert main(["Mine", "--folder", str(tmp_path), "--classes", str(split)]) == 1
    assert "the class 'warts' of the split is missing" in capsys.readouterr().out
    assert main(["Mine", "--folder", str(tmp_path)]) == 0
    assert "Class names were not compared with a split" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Nowhere"], "cannot be read"),
        (["Kvasir", "--bank", "../elsewhere"], "not a valid name"),
        (["Kvasir", "RETINA", "--classes", "split.json"], "one data set"),
        (["Kvasir", "--backbone", "no-such-model"], "no-such-model"),
    ],
)
def test_what_cannot_be_checked_is_reported(arguments, words) -> None:
    with pytest.raises(UserError, match=words):
        main(arguments)


# --- reading


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a prompt bank"),
        ('{"a": "text"}', "not a prompt bank"),
        ('{"a": [""]}', "none of them empty"),
        ('{"a": ["x"], "a": ["y"]}', "'a' is there twice"),
        ('{"b": ["x"]}', "'a' has no teacher prompts"),
        ('{"a": ["x"], "b": ["x", "y"]}', "'b' has 2"),
    ],
)
def test_a_damaged_bank_is_reported_in_one_sentence(content, words, tmp_path) -> None:
    (tmp_path / "Mine.json").write_text(content)
    with pytest.raises(UserError, match=r"Mine\.json") as caught:
        load_prompts("Mine", ["a", "b"] if "y" in content and "b" in content else ["a"], folder=tmp_path)
    assert words in str(caught.value)


@pytest.mark.parametrize("bank", ["", "other"])
def test_where_there_are_no_prompts_the_sentence_says_how_to_do_without(bank, tmp_path) -> None:
    with pytest.raises(UserError, match=r"TRAINER\.PROMPTSRC\.PROMPTS templates"):
        load_prompts("Mine", ["a"], bank=bank, folder=tmp_path, method="PromptSRC")


def test_a_bank_is_searched_among_ones_own_and_in_the_package(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(banks, "work_folder", lambda: tmp_path)
    for place, text in (("prompts/mine", "own"), ("package/mine", "former"), ("package/old", "former")):
        write(tmp_path / place / "RETINA.json", {"glaucoma": [f"{text} glaucoma"]})
    monkeypatch.setattr(banks, "FOLDER", tmp_path / "package")
    assert load_prompts("RETINA", ["glaucoma"], bank="mine") == [["own glaucoma"]]
    assert str(tmp_path / "prompts" / "mine" / "RETINA.json") in capsys.readouterr().out
    assert load_prompts("RETINA", ["glaucoma"], bank="old") == [["former glaucoma"]]
    write(tmp_path / "prompts" / "Mine.json", {"wart": ["a wart"]})
    assert load_prompts("Mine", ["wart"]) == [["a wart"]]


def test_templates_give_50_different_sentences_that_name_the_class() -> None:
    of_first, of_second = template_prompts(["polyps", "renal_cyst"])
    assert len(set(of_first)) == len(set(of_second)) == PROMPTS_A_CLASS
    assert all("polyps" in sentence for sentence in of_first)
    assert all("renal cyst" in sentence for sentence in of_second)


def test_a_models_own_tokenizer_counts_exactly_as_the_model_does(tmp_path) -> None:
    folder = random_weights.write(tmp_path / "model", size="tiny")
    tower = tower_of(str(folder))
    sentences = [SOUND["polyps"][0], "polyps " * (tower.context_length + 5)]
    short, long = tower.count(sentences)
    assert short == models.load(folder).tokenize(sentences[:1]).ids.shape[1]
    assert tower.exact and long > tower.context_length
