"""The pages are consistent: links work, lists are complete, and facts repeated in several files agree."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

import ogkd
from ogkd.data import catalogue
from ogkd.models import available_models
from tests.conftest import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*/README.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links {link}"
        assert not anchor or anchor in headings(target), f"{page.name} links {link}"


def test_the_licences_of_every_data_set_and_model_are_spoken_of():
    page = text("docs/licences.md")
    for facts in catalogue.load().published():
        assert f"| {facts.name} |" in page
    for name in available_models():
        assert f"| {name} |" in page


def test_the_tests_that_the_security_page_names_are_there():
    named = re.findall(r"`(test_\w+\.py)`", text("docs/security.md"))
    there = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert named and set(named) <= there


def test_the_version_is_the_same_everywhere():
    project = re.search(r'^version = "(.+)"$', text("pyproject.toml"), re.MULTILINE).group(1)
    newest = re.search(r"^## (\S+)", text("CHANGELOG.md"), re.MULTILINE).group(1)
    assert {project, newest, yaml.safe_load(text("CITATION.cff"))["version"]} == {ogkd.__version__}


def test_pre_commit_checks_with_the_ruff_of_the_requirements():
    (pinned,) = re.findall(r"^ruff==(\S+)$", text("requirements-dev.txt"), re.MULTILINE)
    revisions = {repo["repo"]: repo.get("rev") for repo in yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]}
    assert revisions["https://github.com/astral-sh/ruff-pre-commit"] == f"v{pinned}"


@pytest.mark.slow
def test_the_picture_of_the_idea_can_be_drawn_again(tmp_path):
    subprocess.run([sys.executable, "docs/idea.py", str(tmp_path / "idea.png")], cwd=ROOT, check=True)
    with Image.open(tmp_path / "idea.png") as made, Image.open(ROOT / "docs/idea.png") as kept:
        assert made.size == kept.size


def test_the_lowest_versions_are_the_lower_bounds_of_the_requirements():
    def lines(name: str) -> list[str]:
        return [line for line in text(name).splitlines() if not line.startswith("#")]

    assert lines("requirements-lowest.txt") == [line.replace(">=", "==") for line in lines("requirements.txt")]


def test_the_current_versions_keep_the_bounds_and_name_no_place_on_a_disk():
    current = dict(re.findall(r"^([\w.-]+)==(\S+)$", text("constraints.txt"), re.MULTILINE))
    named = {Requirement(line).name: Requirement(line) for line in text("requirements.txt").splitlines()}
    found = {canonicalize_name(name): version for name, version in current.items()}
    assert all(requirement.specifier.contains(found[canonicalize_name(name)]) for name, requirement in named.items())
    assert not re.search(r"file:|@|/", text("constraints.txt").partition("\n")[2].replace("-r requirements", ""))
