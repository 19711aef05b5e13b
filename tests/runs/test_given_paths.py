"""Data sets given by path, names shared by two data sets, SHOTS all, and the folder that a relative path starts
from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ogkd.core import UserError, expanded
from ogkd.data.catalogue import config_name, load
from ogkd.reports.variants import by_shots, shots_name
from ogkd.runs.config import resolve
from ogkd.runs.protocols import Places, job, locate, shots_of
from ogkd.runs.spec import RunSpec, is_name
from tests.conftest import ROOT

SHORT = ("OPTIM.MAX_EPOCH", "1", "DATALOADER.NUM_WORKERS", "0", "VERBOSE", "False")


@pytest.fixture
def pics(tmp_path, data) -> Path:
    """A folder of images of two classes outside of any data folder, `x/pics`."""
    folder = tmp_path / "x" / "pics"
    for name in sorted(path.name for path in (data / "Phantom/Phantom").iterdir())[:2]:
        shutil.copytree(data / "Phantom/Phantom" / name, folder / name)
    return folder


@pytest.fixture
def places(tmp_path) -> Places:
    (tmp_path / "data").mkdir()
    return Places(data=tmp_path / "data", output=tmp_path / "output", backbone="PhantomCLIP")


@pytest.fixture
def run(command, tmp_path, cache):
    """Run a method as the command line does, on the data in data/, with results in output/: what it prints."""

    def of(*words: str, data: Path = tmp_path / "data") -> str:
        env = {"DATA": str(data), "OUTPUT": str(tmp_path / "output"), "BACKBONE": "PhantomCLIP"}
        done = command(["scripts/run.py", *words, *SHORT, "FEATURES.CACHE_DIR", str(cache)], env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return of


@pytest.mark.parametrize("word", ["{pics}", "../../x/pics", "pics/", ".", "..", "~/x/pics"])
def test_a_path_is_its_last_part_in_the_folder_before_it(pics, places, tmp_path, monkeypatch, word):
    monkeypatch.setenv("HOME", str(tmp_path))
    starts = {"../../x/pics": tmp_path / "a/b", "pics/": pics.parent, "..": pics / "c", "../pics": pics.parent / "a"}
    start = starts.get(word, pics)
    start.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(start)
    name, found = locate(word.format(pics=pics), places)
    assert (name, found.data, found.output) == ("pics", pics.parent, places.output)


def test_a_path_that_is_not_here_is_below_the_data_folder(pics, places, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pics, places.data / "group" / "moles")
    assert locate("group/moles/", places) == ("moles", Places(places.data / "group", places.output, "PhantomCLIP"))
    for word in ("group/absent", "/", "~no_such_user/x"):
        with pytest.raises(UserError, match=r"^(There is no|'/' is the folder /, which has no name).*\.$"):
            locate(word, places)


@given(st.text(min_size=1, max_size=8).filter(lambda word: "/" not in word and word not in (".", "..", "~")))
def test_a_name_stays_a_name(word):
    places = Places(Path("data"), Path("output"))
    if is_name(word) and not word.startswith(("~", "folder:")):
        assert locate(word, places) == (config_name(word), places)


def test_a_run_on_a_path_writes_to_the_output_and_only_the_split_beside_the_images(run, pics, tmp_path):
    before = set(tmp_path.rglob("*"))
    assert "2 shots" in run("CoOp", "few_shot", f"{pics}/", "2", "1")
    new = {path.relative_to(tmp_path).parts[:4] for path in tmp_path.rglob("*") if path not in before}
    assert {parts for parts in new if parts[0] != "output"} == {("x", "pics", "split_pics.json")}
    (results,) = tmp_path.glob("output/few_shot/pics/shots_2/CoOp/PhantomCLIP/seed1/results.json")
    assert json.loads(results.read_text())["dataset"] == "pics"


@pytest.mark.parametrize("word", ["{pics}", "../x/pics", "."])
def test_train_py_takes_a_folder_by_path_too(pics, tmp_path, word):
    root = pics if word == "." else tmp_path / "data"
    pairs = ("DATASET.NAME", "ImageFolder", "DATASET.FOLDER", word.format(pics=pics))
    spec = RunSpec.parse(["--trainer", "CoOp", "--output-dir", "o", "--root", str(root), *pairs])
    cfg = resolve(spec).cfg
    assert (cfg.DATASET.FOLDER, Path(cfg.DATASET.ROOT)) == ("pics", pics.parent)
    with pytest.raises(UserError, match=r"DATASET\.TEST_ON is a/b: give the name"):
        resolve(RunSpec("CoOp", "o", "phantom", pairs=("DATASET.TEST_ON", "a/b")))


# A folder called like a published set


@pytest.mark.parametrize("name", ["busi", "BUSI"])
def test_a_users_folder_with_the_name_of_a_published_set_must_be_marked(pics, places, name):
    shutil.copytree(pics, places.data / name)
    published = load().find(name)
    with pytest.raises(UserError, match=rf"'{name}' is the data set {published.name}.*folder:{name} .*download\.py"):
        job("few_shot", "CoOp", name, 2, 1, places)
    own = job("few_shot", "CoOp", f"folder:{name}", 2, 1, places).specs[0]
    assert own.folder == str(places.output / f"few_shot/folder_{name}/shots_2/CoOp/PhantomCLIP/seed1")
    assert RunSpec.parse(own.arguments()) == own
    cfg = resolve(own).cfg
    assert ("ImageFolder", name) == (cfg.DATASET.NAME, cfg.DATASET.FOLDER)
    # its path says the same
    assert locate(str(places.data / name), places) == (f"folder:{name}", places)
    (places.data / name / f"split_{name}.json").write_text("{}")  # also after a first run has made a split
    assert locate(str(places.data / name), places) == (f"folder:{name}", places)
    # once the published files are there, the name is theirs
    (places.data / published.name).mkdir(exist_ok=True)
    shutil.copytree(pics, published.image_folder(places.data))
    published.split_file(places.data).write_text("{}")
    assert job("few_shot", "CoOp", name, 2, 1, places).specs[0].facts == published


def test_results_of_a_folder_called_like_a_published_set_are_not_taken_for_that_ones(run, pics, tmp_path):
    shutil.copytree(pics, tmp_path / "data" / "busi")
    run("ZeroShot", "few_shot", "folder:busi", "2", "1")
    (results,) = tmp_path.rglob("results.json")
    assert json.loads(results.read_text())["dataset"] == "folder:busi"


# SHOTS


def test_all_is_every_image_once(run, command, data, tmp_path):
    for shots in ("all", "9"):
        run("CoOp", "few_shot", "phantom", shots, "1", data=data)
    split = json.loads((data / "Phantom/split_Phantom.json").read_text())
    runs = tmp_path / "output/few_shot/phantom"
    everything, nine = (runs / f"shots_{shots}/CoOp/PhantomCLIP/seed1" for shots in ("all", "9"))
    drawn = json.loads((everything / "split.json").read_text())
    assert {part: sorted(items) for part, items in drawn.items()} == {
        part: sorted(split[part]) for part in ("train", "val")
    }
    results = json.loads((everything / "results.json").read_text())
    assert (results["shots"], results["notes"]) == (-1, [])
    # five images of each class, but nine shots: each is taken once, said in the log and in the results
    (note,) = json.loads((nine / "results.json").read_text())["notes"]
    assert json.loads((nine / "split.json").read_text())["train"] == drawn["train"]
    assert "than the 9 shots" in note and f"{len(drawn['train'])} images in all" in note
    assert note in (nine / "log.txt").read_text()
    table = command(["parse_test_res.py", str(tmp_path), "--table", "few_shot"]).stdout
    assert [cell.strip() for cell in table.splitlines()[2].split("|")[1:-1]] == ["method", "9 shots", "all images"]


def test_numbers_of_shots_on_the_command_line():
    assert [shots_of("all"), shots_of("16")] == [-1, 16]
    for word in ("0", "-1", "many"):
        with pytest.raises(UserError, match="SHOTS must be"):
            shots_of(word)
    assert sorted([-1, 4, 16, 1], key=by_shots) == [1, 4, 16, -1]
    assert list(map(shots_name, (1, 2, -1))) == ["1 shot", "2 shots", "all images"]


# Whose folder


@pytest.fixture
def bash(tmp_path):
    def run(line: str, folder: Path = tmp_path, **env: str) -> subprocess.CompletedProcess:
        keep = {name: value for name, value in os.environ.items() if name not in ("DATA", "OUTPUT", "VIRTUAL_ENV")}
        home = {"VIRTUAL_ENV": sys.prefix} if sys.prefix != sys.base_prefix else {}
        return subprocess.run(
            ["bash", "-c", line], cwd=folder, env={**keep, **home, **env}, capture_output=True, text=True
        )

    return run


def test_scripts_leave_the_current_folder_to_the_caller(bash, tmp_path):
    show = f'. {ROOT}/scripts/environment.sh; echo "$PWD|$DATA|$OUTPUT|$PROJECT"'
    assert bash(show).stdout == f"{tmp_path}|{ROOT}/data|{ROOT}/output|{ROOT}\n"
    assert bash(show, DATA="d", OUTPUT="o").stdout == f"{tmp_path}|d|o|{ROOT}\n"
    assert bash(show, ROOT).stdout == f"{ROOT}|||{ROOT}\n"


def test_relative_places_are_the_callers(pics, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA", "x")
    monkeypatch.setenv("OUTPUT", "out")
    (spec,) = job("few_shot", "CoOp", "pics", 2, 1, Places()).specs
    assert spec.data == str(tmp_path / "x") and spec.folder.startswith(str(tmp_path / "out"))


def test_a_home_is_written_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATA", "~/d")
    assert Places().data == tmp_path / "d"
    cfg = resolve(RunSpec("CoOp", "~/o", "phantom", data="~/d")).cfg
    assert (f"{tmp_path}/o", f"{tmp_path}/d") == (cfg.OUTPUT_DIR, cfg.DATASET.ROOT)
    assert expanded("a/~") == "a/~"
    with pytest.raises(UserError, match="no home folder for ~no_such_user: write out the path ~no_such_user/x"):
        expanded("~no_such_user/x")


@pytest.mark.parametrize(("program", "module"), [("train.py", "yaml"), ("scripts/download.py", "ogkd.core.words")])
def test_an_interrupted_import_ends_quietly(tmp_path, program, module):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == '{module}':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
    )
    done = subprocess.run(
        [sys.executable, *program.split()],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr.strip()) == (130, "Interrupted.")


def test_an_emoji_is_a_class_name_under_a_plain_locale(pics, tmp_path):
    next(pics.iterdir()).rename(pics / "cyst \N{SLIGHTLY SMILING FACE}")
    env = {name: value for name, value in os.environ.items() if not name.startswith("LC_")} | {"LANG": "C"}
    for more, code in (({}, 0), ({"PYTHONUTF8": "0", "LC_ALL": "C"}, 2)):
        done = subprocess.run(
            [sys.executable, ROOT / "scripts/check_data.py", pics], env=env | more, capture_output=True
        )
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr
    assert b"is not valid ascii" in done.stderr and b"PYTHONUTF8=1" in done.stderr
