"""One file from a hub: a real server that breaks the connection, changes the file or sends the wrong content."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ogkd.core import UserError
from ogkd.core.transfer import TransferError, download, read_small, writing
from tests.support.download_server import Served, Server, serving

CONTENT = random.Random(0).randbytes(300_000)


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """The hub's client writes what it has received in chunks, here smaller than CONTENT; it need not pause."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)


@pytest.fixture
def fetch(server: Server, tmp_path):
    """Download /file of the server to tmp_path/file and return its content."""

    def run(**options) -> bytes:
        download(f"{server.url}/file", tmp_path / "file", **{"pause": 0.01, **options})
        return (tmp_path / "file").read_bytes()

    return run


def interrupted(server: Server, folder: Path, received: int = 100_000, **served) -> Path:
    """The partial file that a call leaves which received so much of /file before the server refused the rest."""
    answers = [200, 200, 403] if received else [200, 403]  # to the HEAD, the transfer and its resumption
    file = server.put("/file", Served(CONTENT, statuses=answers, breaks=[received] if received else [], **served))
    with pytest.raises(TransferError, match=r"answered 403 Forbidden(; 0\.1 MB are kept)?$"):
        download(f"{server.url}/file", folder / "file")
    assert not file.statuses and not file.breaks
    return next(folder.iterdir())


def test_a_broken_connection_is_resumed(server, fetch):
    server.put("/file", Served(CONTENT, breaks=[100_000]))
    assert fetch() == CONTENT
    assert [request.range for request in server.transfers("/file")] == [None, "bytes=100000-"]
    assert sum(request.sent for request in server.requests) == len(CONTENT)


@pytest.mark.parametrize(
    ("served", "content"),
    [
        ({}, b"new" + CONTENT[:50_000]),  # the file has changed
        ({"ranges": False}, CONTENT),
        ({"etag": '"same"'}, CONTENT[:70_000]),  # shorter than what was received
    ],
)
def test_what_cannot_be_resumed_is_fetched_from_its_start(server, fetch, tmp_path, served, content):
    interrupted(server, tmp_path, **served)
    server.files["/file"].content = content
    assert fetch() == content and [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_missing_file_or_hub_is_reported_at_once(server, fetch):
    with pytest.raises(TransferError, match=r"/file answered 404 Not Found$"):
        fetch()
    assert len(server.requests) == 1
    server.put("/file", Served(CONTENT, etag=None))  # from a server that is no hub
    with pytest.raises(TransferError, match="announces no ETag"):
        fetch()


def test_a_busy_server_is_asked_again(server, fetch):
    server.put("/file", Served(CONTENT, statuses=[503, 500]))
    assert fetch() == CONTENT
    server.put("/file", Served(CONTENT, status=500))
    with pytest.raises(TransferError, match=r"answered 500 Internal Server Error$"):
        fetch(attempts=2)


def test_no_server_at_all_is_a_failed_connection(tmp_path):
    with serving() as gone:
        url = gone.url
    with pytest.raises(TransferError, match=r"the connection to .* failed \(.+\)$"):
        download(f"{url}/file", tmp_path / "file", attempts=1)


def test_the_hash_that_a_redirecting_hub_announces_is_checked(server, fetch, tmp_path):
    right, wrong = (
        {"X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Linked-Size": str(len(CONTENT))}
        for content in (CONTENT, b"")
    )
    with serving() as elsewhere:
        elsewhere.put("/stored", CONTENT)
        server.put("/file", Served(redirect=f"{elsewhere.url}/stored", headers=wrong))
        with pytest.raises(TransferError, match="corrupt"):
            fetch()
        assert not list(tmp_path.iterdir())
        server.put("/file", Served(redirect=f"{elsewhere.url}/stored", headers=right))
        assert fetch() == CONTENT


def test_too_little_space_is_found_before_the_transfer(server, fetch, tmp_path):
    server.put("/file", Served(CONTENT, announced=10**16))
    with pytest.raises(UserError, match=r"Not enough space .* file: 10000000.00 GB needed, .* GB free"):
        fetch()
    with pytest.raises(UserError, match=r"file and its content: 20000000.00 GB needed"):
        fetch(beside=1.0)
    assert not server.transfers("/file") and not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_disk_that_fills_during_the_transfer_is_named(server, fetch, tmp_path):
    part = interrupted(server, tmp_path)
    part.unlink()
    part.symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"Cannot write file to .*No space left on device.*: free some space there"):
        fetch()
    with pytest.raises(UserError, match="No space left on device"), writing("it", tmp_path):
        raise OSError(28, "No space left on device")


def test_a_small_file_is_read_whole_or_refused(server):
    server.put("/file", Served(CONTENT, statuses=[503]))
    assert read_small(f"{server.url}/file", pause=0.01) == CONTENT
    with pytest.raises(TransferError, match="larger than"):
        read_small(f"{server.url}/file", most=1000)
    with pytest.raises(TransferError, match="404"):
        read_small(f"{server.url}/nothing")
    server.put("/file", Served(CONTENT, announced=len(CONTENT) + 1))
    with pytest.raises(TransferError, match=r"failed \(it closed 1 bytes early\)"):
        read_small(f"{server.url}/file", attempts=2, pause=0.01)


@settings(max_examples=20, deadline=None)
@given(received=st.integers(0, len(CONTENT)))
def test_wherever_a_call_was_interrupted_the_next_one_completes_the_file(tmp_path_factory, received):
    folder = tmp_path_factory.mktemp("interrupted")
    with serving() as server:
        interrupted(server, folder, received=0).write_bytes(CONTENT[:received])
        server.requests.clear()
        download(f"{server.url}/file", folder / "file")
        assert sum(request.sent for request in server.requests) == len(CONTENT) - received
    assert (folder / "file").read_bytes() == CONTENT and [path.name for path in folder.iterdir()] == ["file"]
