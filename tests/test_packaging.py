"""The installed package: what is in the wheel, and that its commands work in a folder of their own."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from ogkd.phantom.dataset import write_dataset
from tests.conftest import ROOT

tomllib = pytest.importorskip("tomllib")  # Python 3.11
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def lines(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text().splitlines() if not line.startswith(("#", "-r"))]


def test_the_wheels_packages_are_the_folders_that_hold_code():
    listed, places = SETTINGS["tool"]["setuptools"]["packages"], SETTINGS["tool"]["setuptools"]["package-dir"]

    def folder(package: str) -> str:
        for name, place in places.items():
            if f"{package}.".startswith(f"{name}."):
                return package.replace(name, place, 1).replace(".", "/")
        return package.replace(".", "/")

    tops = ("ogkd", "trainers", "clip", "dassl")
    code = {path.parent.relative_to(ROOT).as_posix() for top in tops for path in (ROOT / top).rglob("*.py")}
    assert {folder(package) for package in listed} == code | {"configs"}
    assert all(package == "ogkd" or package.startswith("ogkd.") for package in listed)


def test_the_extra_for_developers_is_requirements_dev():
    assert SETTINGS["project"]["optional-dependencies"]["dev"] == lines("requirements-dev.txt")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment with the package installed from its source, beside the packages of this environment: the folders
    of its modules and programs."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"  # building leaves files there
    for name in ("ogkd", "trainers", "clip", "dassl", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    venv.create(folder / "env", symlinks=os.name != "nt")
    scheme = {"base": str(folder / "env"), "platbase": str(folder / "env")}
    site, scripts = (Path(sysconfig.get_path(kind, "venv", scheme)) for kind in ("purelib", "scripts"))
    (site / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    install = ["-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([scripts / Path(sys.executable).name, *install, str(source)], check=True)
    return site, scripts


PLUGIN = """
from dassl.engine import TRAINER_REGISTRY
from trainers.coop import CoOp


@TRAINER_REGISTRY.register()
class Mine(CoOp):
    title, row = "My CoOp", 81
"""


@pytest.mark.slow
def test_only_the_package_arrives_and_its_commands_work_in_an_empty_folder(installed, tmp_path):
    site, scripts = installed
    assert {re.sub(r"-.*", "", path.name) for path in site.iterdir()} == {"ogkd", "dependencies.pth"}
    assert not [name for name in ("tests", "scripts") if (site / "ogkd" / name).exists()]
    write_dataset(tmp_path / "made", counts={"train": 3, "val": 1, "test": 2})
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "mine.py").write_text(PLUGIN)
    moles = tmp_path / "data" / "moles"
    moles.parent.mkdir()
    (tmp_path / "made" / "Phantom").rename(moles)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "DATA", "OUTPUT")}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cached"), "OMP_NUM_THREADS": "1", "BACKBONE": "PhantomCLIP"}

    def run(*words: str) -> str:
        done = subprocess.run(
            [scripts / words[0], *words[1:]], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "few-shot" in run("ogkd", "--help")
    short = ["OPTIM.MAX_EPOCH", "1", "DATALOADER.NUM_WORKERS", "0"]
    assert "| My CoOp" in run("ogkd", "few-shot", "moles", "1", "1", "--method", "my coop", *short)
    result = tmp_path / "output/few_shot/moles/shots_1/Mine/PhantomCLIP/seed1"
    image = str(next(moles.rglob("*.png")))
    assert image in run("ogkd", "predict", str(result), image)
    assert "report.html" in run("ogkd", "report", "output")
    check = "from ogkd import PromptClassifier; import ogkd; print(ogkd.__file__)"
    assert str(ROOT) not in run("python", "-c", check)
    made = {"made", "data", "output", "cached", "plugins", "report.html"}
    assert {path.name for path in tmp_path.iterdir()} == made
