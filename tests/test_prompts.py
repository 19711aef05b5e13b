"""Teacher prompts: the committed ones are valid, faults are reported, and reading errors are plain sentences."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from ogkd import models
from ogkd.core import UserError
from ogkd.data import catalogue
from ogkd.data.splits import class_names, read_split
from ogkd.phantom.dataset import DATASETS as EMBEDDED
from ogkd.prompts.bank import FOLDER, PROMPTS_A_CLASS, load_prompts, read_bank, template_prompts
from ogkd.prompts.check import MOST_WORDS, NEAR_DUPLICATE, check_bank, content_words, fold, likeness
from ogkd.prompts.check_cli import known_classes, main
from ogkd.prompts.token_counts import TextTower, bound_word_pieces, default_towers, tower_of
from tests.support import random_weights

EMBEDDED_SETS = [made.folder for made in EMBEDDED.values()]
DATASETS = [*catalogue.load().datasets, *EMBEDDED_SETS]
SOUND = {name: read_bank(FOLDER / "Kvasir.json")[name] for name in ("polyps", "esophagitis", "normal z line")}
CLASSES = list(SOUND)
CLIP_TOKENIZER = SimpleTokenizer()
PRINTABLE = "".join(c for c in string.printable[:96] if c not in "&<")  # these begin HTML entities and special tokens
WORDS_ONLY = TextTower("words", MOST_WORDS, True, lambda sentences: [len(sentence.split()) for sentence in sentences])

classes = st.sampled_from(CLASSES)
numbers = st.integers(0, PROMPTS_A_CLASS - 1)
words = st.text(string.ascii_lowercase, min_size=3, max_size=9)


def faults_of(bank: dict[str, list[str]], expected: list[str] | None = CLASSES) -> list[str]:
    return check_bank(bank, expected, [WORDS_ONLY]).faults


def copy_of_sound() -> dict[str, list[str]]:
    return {name: list(sentences) for name, sentences in SOUND.items()}


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_committed_prompts_are_valid_for_every_available_text_tower(dataset: str) -> None:
    report = check_bank(read_bank(FOLDER / f"{dataset}.json"), known_classes(dataset), default_towers())
    assert report.faults == []
    assert len(report.rows) == len(known_classes(dataset))
    assert report.closest < NEAR_DUPLICATE


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_trainer_gets_the_prompts_of_the_classes_that_it_names_in_its_order(dataset: str) -> None:
    names = known_classes(dataset)[::-1]
    prompts = load_prompts(dataset, names)
    assert [len(sentences) for sentences in prompts] == [PROMPTS_A_CLASS] * len(names)
    assert all(name.lower() in sentence.lower() for name, of in zip(names, prompts, strict=True) for sentence in of)


@pytest.mark.parametrize("dataset", [name for name in DATASETS if name not in EMBEDDED_SETS])
def test_classes_stand_in_the_published_splits_order(dataset: str, split_folder: Path) -> None:
    file = split_folder / f"split_{dataset}.json"
    if not file.exists():
        pytest.skip(f"no {file.name} at hand")
    assert list(read_bank(FOLDER / f"{dataset}.json")) == class_names(read_split(file))


# --- the checker finds what is wrong, and nothing where nothing is


def test_sound_prompts_have_no_fault() -> None:
    assert faults_of(SOUND) == []


@pytest.mark.slow
@given(classes, numbers, numbers, st.sampled_from([str.upper, str.title, lambda s: s.replace(" ", ",  ") + "!"]))
@settings(max_examples=20, deadline=None)
def test_a_prompt_again_in_other_case_or_punctuation_is_found(name, first, second, disguise) -> None:
    if first == second:
        second = (first + 1) % PROMPTS_A_CLASS
    bank = copy_of_sound()
    bank[name][second] = disguise(bank[name][first])
    early, late = sorted((first + 1, second + 1))
    assert any(fault.startswith(f"{name}: prompt {late} is prompt {early} again") for fault in faults_of(bank))


@pytest.mark.slow
@given(classes, numbers, words, st.data())
@settings(max_examples=20, deadline=None)
def test_a_prompt_with_one_word_more_is_a_near_duplicate(name, number, word, data) -> None:
    bank = copy_of_sound()
    words_there = bank[name][number].split()
    outside = [i for i, w in enumerate(words_there) if fold(w) not in fold(name).split()]
    place = data.draw(st.sampled_from(outside))
    other = (number + 7) % PROMPTS_A_CLASS
    bank[name][other] = " ".join([*words_there[: place + 1], word, *words_there[place + 1 :]])
    early, late = sorted((number + 1, other + 1))
    assert any(f"{name}: prompts {early} and {late} are near-duplicates" in fault for fault in faults_of(bank))


@pytest.mark.slow
@given(classes, numbers, classes)
@settings(max_examples=20, deadline=None)
def test_a_prompt_that_only_changes_the_class_name_is_shared(name, number, other) -> None:
    if name == other:
        other = CLASSES[(CLASSES.index(name) + 1) % len(CLASSES)]
    sentence = f"one quite uncommon remark that says nothing of {name} itself"
    bank = copy_of_sound()
    bank[name][number] = sentence
    bank[other][number] = sentence.replace(name, other)
    assert any(" is prompt " in fault and " of " in fault for fault in faults_of(bank))


@given(classes, st.integers(0, PROMPTS_A_CLASS + 10).filter(lambda count: count != PROMPTS_A_CLASS))
@settings(max_examples=15, deadline=None)
def test_too_few_or_too_many_prompts_are_counted(name, count) -> None:
    bank = copy_of_sound()
    bank[name] = (bank[name] * 2)[:count]
    assert f"{name}: {count} prompts instead of {PROMPTS_A_CLASS}" in faults_of(bank)


@given(classes, numbers, st.one_of(st.integers(0, 3), st.integers(38, 60)), st.lists(words, min_size=60, max_size=60))
@settings(max_examples=20, deadline=None)
def test_a_prompt_too_short_or_too_long_is_named_with_its_words(name, number, count, filler) -> None:
    bank = copy_of_sound()
    bank[name][number] = " ".join([name, *filler[:count]])
    length = len(name.split()) + count
    told = [fault for fault in faults_of(bank) if fault.startswith(f"{name}: prompt {number + 1} has {length} words")]
    assert bool(told) == (not 8 <= length <= MOST_WORDS)


@given(classes, numbers)
@settings(max_examples=15, deadline=None)
def test_a_prompt_without_the_class_name_is_found(name, number) -> None:
    bank = copy_of_sound()
    bank[name][number] = f"a remark of eight words or more numbered {number} without it"
    assert any(fault.startswith(f"{name}: prompt {number + 1} does not name the class") for fault in faults_of(bank))


@given(st.permutations(CLASSES))
@settings(max_examples=10, deadline=None)
def test_another_order_of_classes_than_the_splits_is_a_fault(order) -> None:
    faults = faults_of({name: SOUND[name] for name in order})
    assert bool(faults) == (order != CLASSES)


def test_missing_and_unknown_classes_are_both_named() -> None:
    bank = copy_of_sound()
    bank["tapeworm"] = bank.pop("polyps")
    faults = faults_of(bank)
    assert "the class 'polyps' of the split is missing" in faults
    assert "the split has no class 'tapeworm'" in faults


def test_a_prompt_beyond_a_towers_context_is_reported_as_count_or_bound() -> None:
    bank = {"polyps": [f"polyps {'pneumonoultramicroscopicsilicovolcanoconiosis ' * 12}"]}
    faults = check_bank(bank, None, default_towers(), prompts_a_class=1).faults
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
    ("arguments", "told"),
    [
        (["Nowhere"], "cannot be read"),
        (["Kvasir", "--bank", "../elsewhere"], "not a valid name of a prompt bank"),
        (["Kvasir", "RETINA", "--classes", "split.json"], "one data set"),
        (["Kvasir", "--backbone", "no-such-model"], "no-such-model"),
    ],
)
def test_what_cannot_be_checked_ends_with_2_and_a_sentence(arguments, told, capsys) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


# --- reading


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a prompt bank"),
        ('{"a": "text"}', "not a prompt bank"),
        ('{"a": [""]}', "none of them empty"),
        ('{"a": ["x"], "a": ["y"]}', "has the class 'a' twice"),
        ('{"b": ["x"]}', "'a' has no teacher prompts"),
        ('{"a": ["x"], "b": ["x", "y"]}', "'b' has 2"),
    ],
)
def test_a_damaged_bank_is_reported_in_one_sentence(content, told, tmp_path) -> None:
    (tmp_path / "Mine.json").write_text(content)
    with pytest.raises(UserError, match=r"Mine\.json") as caught:
        load_prompts("Mine", ["a", "b"] if "y" in content and "b" in content else ["a"], folder=tmp_path)
    assert told in str(caught.value)


@pytest.mark.parametrize("bank", ["", "other"])
def test_where_there_are_no_prompts_the_sentence_says_how_to_do_without(bank, tmp_path) -> None:
    with pytest.raises(UserError, match=r"TRAINER\.<METHOD>\.PROMPTS templates"):
        load_prompts("Mine", ["a"], bank=bank, folder=tmp_path)


@given(st.binary(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_read_or_refused_in_one_sentence(tmp_path_factory, content) -> None:
    file = tmp_path_factory.mktemp("bytes") / "Mine.json"
    file.write_bytes(content)
    try:
        assert isinstance(read_bank(file), dict)
    except UserError as error:
        assert str(file) in str(error)


def test_templates_give_50_different_sentences_that_name_the_class() -> None:
    of_first, of_second = template_prompts(["polyps", "renal_cyst"])
    assert len(set(of_first)) == len(set(of_second)) == PROMPTS_A_CLASS
    assert all("polyps" in sentence for sentence in of_first)
    assert all("renal cyst" in sentence for sentence in of_second)


@given(st.lists(st.text(PRINTABLE, max_size=60), min_size=1, max_size=4))
def test_clips_tokens_are_counted_as_open_clip_counts_them(sentences) -> None:
    tower = next(tower for tower in default_towers() if tower.name == "CLIP")
    assert tower.count(sentences) == [len(CLIP_TOKENIZER.encode(sentence)) + 2 for sentence in sentences]


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_projects_sentences_have_the_tokens_that_the_towers_own_tokenizers_make(dataset) -> None:
    sentences = [sentence for of_class in read_bank(FOLDER / f"{dataset}.json").values() for sentence in of_class]
    phantomclip = models.load("PhantomCLIP")
    counts = {tower.name: tower.count(sentences) for tower in default_towers()}
    assert counts["CLIP"] == [len(CLIP_TOKENIZER.encode(sentence)) + 2 for sentence in sentences]
    if dataset in EMBEDDED_SETS:
        assert counts["PhantomCLIP"] == [int(phantomclip.tokenize([sentence]).mask.sum()) for sentence in sentences]


def test_a_models_own_tokenizer_counts_exactly_as_the_model_does(tmp_path) -> None:
    folder = random_weights.write(tmp_path / "model", size="tiny")
    tower = tower_of(str(folder))
    sentences = [SOUND["polyps"][0], "polyps " * (tower.context_length + 5)]
    short, long = tower.count(sentences)
    assert short == models.load(folder).tokenize(sentences[:1]).ids.shape[1]
    assert tower.exact and long > tower.context_length
