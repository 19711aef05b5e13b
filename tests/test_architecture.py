"""Imports between the rooms go one way, as docs/architecture.md says."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Which rooms a room may import; what those may import, it may too.
DOORS = {
    "core": [], "dassl": ["core"], "data": ["core", "dassl"], "models": ["core"], "classes": ["core"],
    "features": ["dassl", "data", "models"], "prompts": ["data", "models"],
    "tuning": ["dassl", "features", "prompts", "classes"], "trainers": ["tuning"],
    "evaluation": ["classes", "data"], "reports": ["evaluation"],
    "runs": ["evaluation", "tuning", "trainers"], "predict": ["runs"],
}  # fmt: skip


def below(room: str) -> set[str]:
    """The room and all rooms that it may import."""
    return {room}.union(*(below(other) for other in DOORS[room]))


def rooms_imported(path: Path) -> set[str]:
    """The rooms that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name.removeprefix("ogkd.").partition(".")[0] for name in names} & DOORS.keys()


@pytest.mark.parametrize("room", DOORS)
def test_a_room_imports_only_what_lies_below_it(room):
    place = ROOT / room if (ROOT / room).is_dir() else ROOT / "ogkd" / room
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted(place.rglob("*.py"))
        for name in rooms_imported(path) - below(room)
    ]
    assert wrong == []
