"""One file over HTTP, from a real server that breaks off, changes its mind or sends the wrong thing."""

from __future__ import annotations

import hashlib
import json
import random

import pytest
from download_server import Served, Server, serving
from hypothesis import given, settings
from hypothesis import strategies as st

from dassl.utils import UserError
from datasets.fetch.transfer import TransferError, download, read_small, require_space, writing

CONTENT = random.Random(0).randbytes(300_000)


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.fixture
def fetch(server: Server, tmp_path):
    """Download /file of the server to tmp_path/file and give what came."""

    def run(**options) -> bytes:
        download(f"{server.url}/file", tmp_path / "file", **{"pause": 0.01, **options})
        return (tmp_path / "file").read_bytes()

    return run


def test_a_file_comes_whole_and_leaves_nothing_else(server, fetch, tmp_path):
    server.put("/file", CONTENT)
    assert fetch() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_broken_transfer_goes_on_where_it_stopped(server, fetch):
    server.put("/file", Served(CONTENT, breaks=[100_000, 50_000]))
    assert fetch() == CONTENT
    assert [request.range for request in server.requests] == [None, "bytes=100000-", "bytes=150000-"]
    assert sum(request.sent for request in server.requests) == len(CONTENT)


def test_a_transfer_that_keeps_failing_is_kept_for_the_next_call(server, fetch, tmp_path):
    file = server.put("/file", Served(CONTENT, breaks=[100_000, 0, 0]))
    with pytest.raises(TransferError, match=r"broken off after 100000 of 300000 bytes\), 0.1 MB are kept"):
        fetch(attempts=2)
    assert not (tmp_path / "file").exists()
    file.breaks.clear()
    assert fetch() == CONTENT
    assert server.requests[-1].range == "bytes=100000-"


def test_progress_earns_a_transfer_further_attempts(server, fetch):
    server.put("/file", Served(CONTENT, breaks=[20_000] * 8))
    assert fetch(attempts=2) == CONTENT


def test_a_file_that_changed_in_between_is_fetched_anew(server, fetch):
    file = server.put("/file", Served(CONTENT, breaks=[100_000]))
    with pytest.raises(TransferError):
        fetch(attempts=1)
    file.content = b"new" + CONTENT[:50_000]
    assert fetch() == file.content
    assert server.requests[-1].range == "bytes=100000-" and server.requests[-1].status == 200


@pytest.mark.parametrize(
    ("tags", "range_of_second"),
    [
        ({"etag": '"strong"'}, "bytes=100000-"),
        ({"etag": None, "modified": "Tue, 03 Jun 2025 10:00:00 GMT"}, "bytes=100000-"),
        ({"etag": 'W/"weak"'}, None),
        ({"etag": None}, None),
    ],
)
def test_a_part_is_continued_only_when_the_server_can_tell_that_the_file_is_the_same(
    server, fetch, tags, range_of_second
):
    server.put("/file", Served(CONTENT, breaks=[100_000], **tags))
    assert fetch() == CONTENT
    assert server.requests[1].range == range_of_second


def test_a_server_without_ranges_sends_everything_again(server, fetch):
    server.put("/file", Served(CONTENT, breaks=[100_000], ranges=False))
    assert fetch() == CONTENT


def test_a_part_longer_than_the_file_is_thrown_away(server, fetch, tmp_path):
    file = server.put("/file", Served(CONTENT, breaks=[100_000], etag='"same"'))
    with pytest.raises(TransferError):
        fetch(attempts=1)
    file.content = CONTENT[:70_000]
    assert fetch() == file.content


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"url": 1}', b'{"unknown": 1}'])
def test_a_part_with_a_damaged_note_is_begun_anew(server, fetch, tmp_path, note):
    server.put("/file", CONTENT)
    (tmp_path / "file.part").write_bytes(b"something else")
    (tmp_path / "file.part.json").write_bytes(note)
    assert fetch() == CONTENT


def test_a_part_of_another_address_is_not_continued(server, fetch, tmp_path):
    server.put("/file", CONTENT)
    (tmp_path / "file.part").write_bytes(b"x" * 10)
    note = {"url": f"{server.url}/other", "validator": server.files["/file"].tag(), "size": len(CONTENT), "sha256": ""}
    (tmp_path / "file.part.json").write_text(json.dumps(note))
    assert fetch() == CONTENT


def test_a_part_that_was_complete_is_not_asked_for_again(server, fetch, tmp_path):
    file = server.put("/file", CONTENT)
    (tmp_path / "file.part").write_bytes(CONTENT)
    note = {"url": f"{server.url}/file", "validator": file.tag(), "size": len(CONTENT), "sha256": ""}
    (tmp_path / "file.part.json").write_text(json.dumps(note))
    assert fetch() == CONTENT
    assert not server.requests


def test_a_missing_file_is_reported_at_once(server, fetch):
    with pytest.raises(TransferError, match=r"/file answers 404 Not Found$"):
        fetch()
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again(server, fetch):
    server.put("/file", Served(CONTENT, statuses=[503, 429]))
    assert fetch() == CONTENT
    server.put("/file", Served(CONTENT, status=500))
    with pytest.raises(TransferError, match="answers 500"):
        fetch(attempts=2)


def test_no_server_at_all_is_a_failed_connection(tmp_path):
    with serving() as gone:
        url = gone.url
    with pytest.raises(TransferError, match=r"the connection to .* failed \(.*refused"):
        download(f"{url}/file", tmp_path / "file", attempts=1)


def test_the_hash_that_a_redirecting_hub_announces_is_checked(server, fetch, tmp_path):
    server.put("/elsewhere", CONTENT)
    right, wrong = hashlib.sha256(CONTENT).hexdigest(), hashlib.sha256(b"").hexdigest()
    server.put("/file", Served(redirect="/elsewhere", headers={"X-Linked-Etag": f'"{wrong}"'}))
    with pytest.raises(TransferError, match="damaged"):
        fetch()
    assert not list(tmp_path.iterdir())
    server.put("/file", Served(redirect="/elsewhere", headers={"X-Linked-Etag": f'"{right}"'}))
    assert fetch() == CONTENT


def test_a_redirected_transfer_is_resumed_too(server, fetch):
    server.put("/elsewhere", Served(CONTENT, breaks=[100_000]))
    server.put("/file", Served(redirect="/elsewhere"))
    assert fetch() == CONTENT
    assert [request.range for request in server.asked("/elsewhere")] == [None, "bytes=100000-"]


def test_too_little_space_is_found_before_the_first_byte_is_written(server, fetch, tmp_path):
    server.put("/file", Served(CONTENT, announced=10**16))
    with pytest.raises(UserError, match=r"Not enough space .* it needs 10000000.00 GB and .* are free"):
        fetch()
    assert not (tmp_path / "file").exists() and not (tmp_path / "file.part").exists()
    with pytest.raises(UserError, match="file and what is in it"):
        fetch(beside=1.0)


def test_a_path_that_cannot_be_written_is_named(tmp_path, server):
    server.put("/file", CONTENT)
    (tmp_path / "file.part").mkdir()
    with pytest.raises(UserError, match=r"Cannot write file to .*: make room"):
        download(f"{server.url}/file", tmp_path / "file")
    with pytest.raises(UserError, match="No space left on device"), writing("it", tmp_path):
        raise OSError(28, "No space left on device")


def test_space_is_asked_of_the_disk_itself(tmp_path):
    require_space(tmp_path, 1, "a byte")
    with pytest.raises(UserError):
        require_space(tmp_path, 1 << 60, "an exabyte")


def test_a_small_file_is_read_whole_or_refused(server):
    server.put("/file", Served(CONTENT, statuses=[503]))
    assert read_small(f"{server.url}/file", pause=0.01) == CONTENT
    with pytest.raises(TransferError, match="larger than"):
        read_small(f"{server.url}/file", most=1000)
    with pytest.raises(TransferError, match="404"):
        read_small(f"{server.url}/nothing")
    server.put("/file", Served(CONTENT, announced=len(CONTENT) + 1))
    with pytest.raises(TransferError, match="failed"):
        read_small(f"{server.url}/file", attempts=2, pause=0.01)


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 3000), max_size=6), length=st.integers(0, 5000), tagged=st.booleans())
def test_wherever_it_breaks_the_same_bytes_come_out(tmp_path_factory, cuts, length, tagged):
    folder = tmp_path_factory.mktemp("cuts")
    with serving() as server:
        server.put("/file", Served(CONTENT[:length], breaks=list(cuts), etag="auto" if tagged else None))
        download(f"{server.url}/file", folder / "file", attempts=len(cuts) + 1, pause=0.001)
    assert (folder / "file").read_bytes() == CONTENT[:length]
