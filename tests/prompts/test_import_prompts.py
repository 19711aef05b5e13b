"""Importing published prompts: taken as a literal, never executed, checked against what was published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ogkd.core import UserError
from ogkd.data import catalogue
from ogkd.prompts import bank as banks
from ogkd.prompts.bank import load_prompts
from ogkd.prompts.importing import (
    MOST_BYTES,
    Published,
    git_blob_sha1,
    import_prompts,
    main,
    parse_bank,
    published_files,
)
from tests.support.download_server import serving

VARIABLES = [file.variable for file in published_files()]
VARIABLE = VARIABLES[0]
SETS = {name: list(facts.classes) for name, facts in catalogue.load().datasets.items()}


def sentences(classname: str, count: int = 50) -> list[str]:
    return [f'Sentence {number} on {classname}, it isn\'t "short".' for number in range(count)]


def source_of(classes: list[str], count: int = 50, before: str = "", after: str = "") -> str:
    bank = {classname: sentences(classname, count) for classname in classes}
    return f"{before}\n{VARIABLE} = {bank!r}\n{after}\n"


ALL = source_of([classname for classes in SETS.values() for classname in classes])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "prompts").mkdir()
    return tmp_path / "prompts"


def write(folder: Path, source: str | bytes) -> str:
    path = folder.parent / "prompt_templates.py"
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return str(path)


def test_every_data_set_gets_its_file_in_label_order_and_trainers_can_read_it(folder) -> None:
    result = import_prompts(write(folder, ALL), "biomedcoop", folder)
    assert list(result.written) == list(SETS)
    assert result.lacking == {} and result.unused == []
    for dataset, classes in SETS.items():
        assert list(json.loads((folder / "biomedcoop" / f"{dataset}.json").read_text())) == classes
        prompts = load_prompts(dataset, classes, bank="biomedcoop", folder=folder)
        assert prompts == [sentences(classname) for classname in classes]


def test_a_file_as_ogkd_publishes_it_is_imported_too(folder) -> None:
    bank = {name: sentences(name) for name in SETS["BUSI"]}
    source = f'"""Prompts."""\nimport os\nOTHER = {{"BUSI": "a photo of a {{}}."}}\nPROMPT_TEMPLATES = {bank!r}\n'
    result = import_prompts(write(folder, source), "ogkd", folder)
    assert json.loads(result.written["BUSI"].read_text()) == bank
    assert list(result.written) == ["BUSI"] and not result.verified


def test_a_set_that_lacks_a_class_is_reported_and_not_written(folder) -> None:
    classes = [*SETS["RETINA"], *SETS["BUSI"][1:], "tapeworm"]
    result = import_prompts(write(folder, source_of(classes)), "some", folder)
    assert list(result.written) == ["RETINA"]
    assert result.lacking["BUSI"] == f"no prompts for {SETS['BUSI'][0]}"
    assert "tapeworm" in result.unused
    assert [path.name for path in (folder / "some").iterdir()] == ["RETINA.json"]


def test_unequal_numbers_within_a_set_are_reported_and_not_written(folder) -> None:
    bank = {name: sentences(name, 47 if name == "glaucoma" else 50) for name in [*SETS["RETINA"], *SETS["BUSI"]]}
    result = import_prompts(write(folder, f"{VARIABLE} = {bank!r}"), "some", folder)
    assert list(result.written) == ["BUSI"]
    assert "47 of glaucoma" in result.lacking["RETINA"]


def test_other_statements_of_the_source_are_not_executed(folder) -> None:
    trap = folder.parent / "trap"
    code = f"open({str(trap)!r}, 'w').close()"
    source = source_of(SETS["RETINA"], before=f"import os\n{code}", after=f"{code}\nraise SystemExit")
    assert list(import_prompts(write(folder, source), "some", folder).written) == ["RETINA"]
    assert not trap.exists()


@pytest.mark.parametrize(
    "value",
    [
        "dict(a=['x'])",
        "{'a': [open(TRAP, 'w')]}",
        "{'a': [f'{open(TRAP, chr(119))}']}",
        "{'a': ['x' * 10 ** 9]}",
        "{['a']: ['x']}",
        "-" * 5000 + "1",
    ],
)
def test_a_value_that_is_no_literal_is_refused_and_not_executed(value, folder) -> None:
    trap = folder.parent / "trap"
    source = f"{VARIABLE} = {value}".replace("TRAP", repr(str(trap)))
    with pytest.raises(UserError, match=r"plain literal|not a Python source"):
        import_prompts(write(folder, source), "some", folder)
    assert not trap.exists()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "value", ["[]", "{}", "{'a': 'x'}", "{'a': [1]}", "{1: ['x']}", "{'a': ['']}", "{'a': ['\\ud800']}"]
)
def test_a_literal_of_another_form_is_refused(value, folder) -> None:
    with pytest.raises(UserError, match=r"of the form|not have all classes"):
        import_prompts(write(folder, f"{VARIABLE} = {value}"), "some", folder)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (ALL[: len(ALL) // 2], "not a Python source"),
        (b"\0\0", "not a Python source"),
        ("(" * 100_000, "not a Python source"),
        ("OTHER = {}", "0 times"),
        (f"{VARIABLE} = {{}}\n{VARIABLE} = {{}}", "2 times"),
        ("\n".join(f"{variable} = {{}}" for variable in VARIABLES), "2 times"),
        (f"def f():\n    {VARIABLE} = {{'a': ['x']}}", "0 times"),
        (b"#" * (MOST_BYTES + 1), "larger than 8 MiB"),
    ],
    ids=["cut short", "zeros", "deep", "absent", "twice", "both", "inner", "too large"],
)
def test_what_is_not_the_prompt_file_is_refused_in_one_sentence(source, words, folder) -> None:
    with pytest.raises(UserError, match=words) as caught:
        import_prompts(write(folder, source), "some", folder)
    assert "\n" not in str(caught.value)
    assert list(folder.iterdir()) == []


@given(
    st.dictionaries(st.text("abc '\"\\\n{}", min_size=1), st.lists(st.text("xyz '\"\\\n{}", min_size=1), max_size=3))
)
@settings(max_examples=50, deadline=None)
def test_sentences_come_through_with_every_quote_and_line_break(bank) -> None:
    sound = {name: kept for name, of in bank.items() if name.strip() and (kept := [s for s in of if s.strip()]) == of}
    assert parse_bank(f"{VARIABLE}: dict = {sound!r}".encode(), VARIABLES, "it") == sound


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "x\n"])
def test_no_name_leads_out_of_the_folder(name, folder) -> None:
    with pytest.raises(UserError, match=r"not a valid name|is empty"):
        import_prompts(write(folder, ALL), name, folder)
    assert list(folder.iterdir()) == []


def test_the_published_address_must_serve_the_published_file(folder) -> None:
    known = Published("owner/name/0123/trainers/prompt_templates.py", git_blob_sha1(ALL.encode()), VARIABLE)
    with serving() as server:
        server.put(f"/{known.path}", ALL.encode())
        assert import_prompts(f"{server.url}/{known.path}", "some", folder, [known]).verified
        server.put(f"/{known.path}", ALL.replace("Sentence 7", "Sentence seven").encode())
        with pytest.raises(UserError, match="not the published file"):
            import_prompts(f"{server.url}/{known.path}", "other", folder, [known])
    assert [path.name for path in folder.iterdir()] == ["some"]


def test_another_address_is_imported_with_a_warning(folder, capsys) -> None:
    with serving() as server:
        server.put("/mine.py", source_of(SETS["RETINA"]).encode())
        main([f"{server.url}/mine.py", "--name", "mine", "--folder", str(folder)])
    out = capsys.readouterr().out
    assert out.startswith("WARNING: this is not the file published")
    assert f"RETINA: written to {folder / 'mine' / 'RETINA.json'}" in out
    assert "BUSI: not written, no prompts for" in out


def test_an_address_without_the_file_or_with_too_much_is_reported(folder) -> None:
    with serving() as server:
        server.put("/large.py", b"#" * (MOST_BYTES + 1))
        for path, words in (("absent.py", "404"), ("large.py", "larger than")):
            with pytest.raises(UserError, match=words):
                main([f"{server.url}/{path}", "--name", "mine", "--folder", str(folder)])
    assert list(folder.iterdir()) == []


def test_an_installed_package_writes_to_the_current_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(banks, "work_folder", lambda: tmp_path)
    source = write(tmp_path / "prompts", source_of(SETS["RETINA"]))
    written = import_prompts(source, "some").written["RETINA"]
    assert written == tmp_path / "prompts" / "some" / "RETINA.json"
    assert len(load_prompts("RETINA", ["glaucoma"], bank="some")[0]) == 50
