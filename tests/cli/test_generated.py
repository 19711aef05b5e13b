"""What scripts/generate.py writes is up to date, and it notices what is not."""

from pathlib import Path

import pytest

from ogkd.core import UserError
from ogkd.runs.registry import method_class
from scripts import generate


def test_scripts_and_tables_are_up_to_date():
    assert generate.stale() == []  # otherwise: python scripts/generate.py


def test_another_title_makes_the_scripts_and_the_page_stale(monkeypatch):
    monkeypatch.setattr(method_class("OGKD"), "title", "Another name")
    stale = "\n".join(generate.stale())
    assert "scripts/another_name/few_shot.sh is out of date" in stale
    assert "scripts/ogkd/few_shot.sh belongs to no method" in stale
    assert "README.md is out of date" in stale
    assert "scripts/coop" not in stale and "ablation.sh" not in stale


def test_a_file_that_was_changed_by_hand_is_written_again_and_nothing_else(monkeypatch, tmp_path):
    for path, text in {**generate.scripts(), **generate.pages()}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    assert generate.write() == []
    page, script = tmp_path / "README.md", tmp_path / "scripts/coop/few_shot.sh"
    before = page.read_text(), script.read_text()
    page.write_text(page.read_text().replace("| CoOp | `coop` |", "| CoOp by hand | `coop` |"))
    script.write_text("#!/usr/bin/env bash\n")
    gone = tmp_path / "scripts/gone/few_shot.sh"
    gone.parent.mkdir()
    gone.write_text('exec bash "$(dirname "$0")/../run.sh" Gone few_shot "$@"\n')
    assert generate.main(["--check"]) == 1
    assert {path.name for path in generate.write()} == {"README.md", "few_shot.sh"}
    assert (page.read_text(), script.read_text()) == before
    assert not gone.exists()
    assert generate.main(["--check"]) == 0


def test_a_page_below_docs_links_from_there():
    assert "](../trainers/ogkd.py)" in generate.methods_table(Path("docs/page.md"))


@pytest.mark.parametrize("text", ["<!-- methodes -->\n<!-- /methodes -->\n", "<!-- methods -->\nno end\n"])
def test_a_marker_that_cannot_be_filled_is_named(text, tmp_path):
    with pytest.raises(UserError, match=r"page\.md has"):
        generate.fill(text, tmp_path / "page.md")
