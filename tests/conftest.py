"""Fixtures that several test files share."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def split_folder() -> Path:
    """The published split files, which are not part of the repository: `../shared/splits` beside the checkout."""
    folder = ROOT.parent / "shared" / "splits"
    if not folder.is_dir():
        pytest.skip("the published split files are not at hand")
    return folder
