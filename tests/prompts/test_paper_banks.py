"""`--bank`: whose sentences many runs use."""

import json
import re

import pytest

from ogkd.cli import reproduce
from ogkd.core import UserError
from ogkd.core.hashes import git_blob_sha1
from ogkd.data import catalogue
from ogkd.prompts import bank, importing, paper_banks
from ogkd.prompts.importing import Published
from ogkd.prompts.paper_banks import Banks, banks
from ogkd.runs.plan import plan
from ogkd.runs.protocols import Places
from tests.support.download_server import serving

CLASSES = list(catalogue.load().datasets["BUSI"].classes)
PATHS = ("one/biomedcoop/0123/trainers/prompt_templates.py", "two/ogkd/4567/trainers/method/prompt_templates.py")
SOURCES = [
    f"{name} = { {classname: [f'{word} {classname}.'] for classname in CLASSES}!r}".encode()
    for name, word in (("BIOMEDCOOP_TEMPLATES", "One"), ("PROMPT_TEMPLATES", "Two"))
]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder for banks, and two published files with other content than the real ones."""
    files = tuple(
        Published(path, git_blob_sha1(source), source.decode().partition(" ")[0], name.lower(), name)
        for path, source, name in zip(PATHS, SOURCES, ("BiomedCoOp", "OGKD"), strict=True)
    )
    for module in (bank, importing):
        monkeypatch.setattr(module, "own_banks", lambda: tmp_path / "prompts")
    for module in (importing, paper_banks):
        monkeypatch.setattr(module, "published_files", lambda: files)
    return tmp_path / "prompts"


def sentence(own, name):
    return json.loads((own / name / "BUSI.json").read_text())[CLASSES[0]][0].split()[0]


def test_published_is_each_papers_own_bank_downloaded_once(own, monkeypatch):
    with serving() as server:
        for path, source in zip(PATHS, SOURCES, strict=True):
            server.put(f"/{path}", source)
        monkeypatch.setattr(paper_banks, "RAW", f"{server.url}/")
        chosen = banks("published", ["busi"])
    assert [chosen.of(method) for method in ("OGKD", "BiomedCoOp", "ZeroShotEnsemble")] == [
        "ogkd",
        "biomedcoop",
        "biomedcoop",
    ]
    assert (sentence(own, "ogkd"), sentence(own, "biomedcoop")) == ("Two", "One")
    assert banks("published", ["busi"]) == chosen  # without the server


def test_a_checkout_or_file_is_one_bank_for_all_methods_and_an_edited_file_replaces_none(own, tmp_path):
    file = tmp_path / "clone" / "trainers" / "prompt_templates.py"
    file.parent.mkdir(parents=True)
    file.write_bytes(SOURCES[0])
    assert banks(str(tmp_path / "clone"), ["busi"]) == banks(str(file), ["busi"]) == Banks("biomedcoop", {})
    file.write_bytes(SOURCES[0].replace(b"One", b"Other"))
    edited = banks(str(file), ["busi"]).usual
    assert edited.startswith("imported-") and (sentence(own, edited), sentence(own, "biomedcoop")) == ("Other", "One")
    assert banks(edited, ["busi"]) == Banks(edited, {})
    with pytest.raises(UserError, match="no sentences for BTMRI"):
        banks(edited, ["btmri"])


def test_a_folder_of_sentences_is_a_bank_and_a_word_that_is_nothing_is_refused(own, tmp_path):
    (folder := tmp_path / "mine").mkdir()
    (file := folder / "moles.json").write_text('{"a": ["x"]}')
    assert banks(str(folder), ["moles"]) == Banks(str(folder), {})
    job, *_ = plan("few_shot", ["busi"], ["OGKD"], [1], [16], Places(tmp_path, tmp_path), banks={"OGKD": str(folder)})
    assert f"bank_{folder.name}/" in job.specs[0].folder
    (tmp_path / "empty").mkdir()
    for word, reason in {
        "bank.json": "no bank, file or folder 'bank.json'", "no/where": "no bank, file or folder", "mime": "no bank",
        str(file): f"one data set: give its folder, {folder}", str(tmp_path / "empty"): "neither files <DATASET>.json",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=re.escape(reason)):
            banks(word, ["moles"])
    with pytest.raises(UserError, match="no sentences for BUSI"):
        banks(str(folder), ["busi"])


def test_only_methods_with_a_teacher_get_the_bank_in_a_folder_beside_the_other_runs(tmp_path):
    places = Places(tmp_path / "data", tmp_path / "out", "BiomedCLIP")
    methods = ["CoOp", "OGKD", "BiomedCoOp"]
    of_method = {"OGKD": "ogkd", "BiomedCoOp": "biomedcoop"}
    jobs = plan("few_shot", ["busi"], methods, [1], [16], places, ["OPTIM.MAX_EPOCH", "3"], of_method)
    for job, method in zip(jobs, methods, strict=True):
        (spec,) = job.specs
        bank_of = of_method.get(method)
        end = ("TRAINER." + method.upper() + ".PROMPT_BANK", bank_of) if bank_of else ()
        assert spec.pairs == ("OPTIM.MAX_EPOCH", "3", *end)
        assert ("bank_" in spec.folder) == bool(bank_of)


def test_the_command_takes_pairs_and_a_bank(own, tmp_path, monkeypatch, capsys):
    (own / "mine").mkdir(parents=True)
    (own / "mine" / "BUSI.json").write_text(json.dumps({name: ["A sentence."] for name in CLASSES}))
    monkeypatch.setenv("OUTPUT", str(tmp_path / "out"))
    words = ["few_shot", "--datasets", "busi", "--methods", "CoOp", "OGKD", "--seeds", "1", "--shots", "1", "--dry-run"]
    reproduce.main([*words, "--bank", "mine", "--", "OPTIM.MAX_EPOCH", "3"])
    coop, ogkd = (line for line in capsys.readouterr().out.splitlines() if "train.py" in line)
    assert coop.endswith("OPTIM.MAX_EPOCH 3") and ogkd.endswith("OPTIM.MAX_EPOCH 3 TRAINER.OGKD.PROMPT_BANK mine")
    assert "bank_mine" in ogkd and "bank_mine" not in coop
