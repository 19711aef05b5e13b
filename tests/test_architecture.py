"""Imports between the rooms go one way, as docs/architecture.md says."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

# From the ground up: a room may import those of lower levels.
LEVELS = [["dassl"], ["clip", "datasets"], ["features", "prompts", "geometry"], ["trainers", "reports"], ["runs"]]
ALLOWED = {("datasets", "clip")}  # the downloads ask ogkd.models.sources which files BiomedCLIP has
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("room", LEVEL)
def test_a_room_imports_only_what_lies_below_it(room):
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / room).rglob("*.py"))
        for name in imported(path) & LEVEL.keys() - {room}
        if LEVEL[name] >= LEVEL[room] and (room, name) not in ALLOWED
    ]
    assert wrong == []
