"""Untrusted zips: each kind of harm is refused before a byte is unpacked."""

from __future__ import annotations

import io
import random
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ogkd.core import UserError
from ogkd.data.fetch.archive import ArchiveError, Limits, find_prefix, opened
from tests.support.zips import write_zip

LIMITS = Limits(members=1000, bytes=50_000_000, ratio=100.0, slack=1_000_000)
NOISE = random.Random(0).randbytes(5000)


def zipped(file: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    write_zip(file, members, method)
    return file


def test_members_come_out_as_they_went_in(tmp_path):
    file = zipped(tmp_path / "a.zip", {"x/": b"", "x/a.bin": NOISE, "x\\y\\b.bin": b"", "c": b"c"})
    with opened(file, LIMITS) as source:
        assert source.sizes == {"x/a.bin": 5000, "x/y/b.bin": 0, "c": 1}
        source.copy("x/a.bin", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == source.read("x/a.bin") == NOISE


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/out", "..\\out", "C:\\out", "../"])
def test_a_member_outside_its_folder_condemns_the_zip(tmp_path, name):
    file = zipped(tmp_path / "a.zip", {"good.png": NOISE, name: b"evil"})
    with pytest.raises(ArchiveError, match="would be unpacked outside the folder"):
        opened(file, LIMITS)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO])
def test_links_and_special_files_condemn_the_zip(tmp_path, kind):
    link = zipfile.ZipInfo("link")
    link.create_system = 3
    link.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr("good.png", NOISE)
        made.writestr(link, "/etc/passwd")
    with pytest.raises(ArchiveError, match="'link' is a link or a special file"):
        opened(tmp_path / "a.zip", LIMITS)


@pytest.mark.parametrize(
    ("members", "method", "limits", "reason"),
    [
        ({"bomb": b"\0" * 2_000_000}, zipfile.ZIP_DEFLATED, LIMITS, r"would unpack to \d+ times its size"),
        ({"big": NOISE * 4}, zipfile.ZIP_STORED, Limits(bytes=19_999), r"would unpack to 0\.0 GB, over the limit of"),
        ({f"{i}": b"" for i in range(1001)}, zipfile.ZIP_STORED, LIMITS, "has 1001 members, more than the 1000"),
    ],
)
def test_a_bomb_is_refused(tmp_path, members, method, limits, reason):
    with pytest.raises(ArchiveError, match=reason):
        opened(zipped(tmp_path / "a.zip", members, method), limits)


def test_what_is_small_may_be_packed_as_tightly_as_a_bomb(tmp_path):
    with opened(zipped(tmp_path / "a.zip", {"blank": b"\0" * 900_000}), LIMITS) as source:
        assert source.sizes == {"blank": 900_000}


def test_a_bomb_of_overlapping_members_is_refused(tmp_path):
    file = zipped(tmp_path / "a.zip", {"one": NOISE}, zipfile.ZIP_STORED)
    raw = bytearray(file.read_bytes())
    start, entry = raw.index(b"PK\x01\x02"), raw[raw.index(b"PK\x01\x02") : raw.index(b"PK\x05\x06")]
    directory = b"".join(entry.replace(b"one", name) for name in (b"one", b"two", b"six"))
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 3, 3, len(directory), start, 0)
    file.write_bytes(raw[:start] + directory + end)
    with pytest.raises(ArchiveError, match="overlap"):
        opened(file, LIMITS)


def test_a_member_larger_than_the_directory_says_does_not_spill(tmp_path):
    file = zipped(tmp_path / "a.zip", {"grows": b"\0" * 500_000})
    raw = file.read_bytes()
    at = raw.index(b"PK\x01\x02")
    file.write_bytes(raw[: at + 24] + struct.pack("<L", 1000) + raw[at + 28 :])
    with opened(file, LIMITS) as source, pytest.raises(ArchiveError, match="grows is corrupt"):
        source.copy("grows", tmp_path / "out")
    assert (tmp_path / "out").stat().st_size <= 1000


def test_an_encrypted_zip_is_refused(tmp_path):
    file = zipped(tmp_path / "a.zip", {"secret": NOISE})
    raw = bytearray(file.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    file.write_bytes(raw)
    with pytest.raises(ArchiveError, match="'secret' is encrypted"):
        opened(file, LIMITS)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a complete zip"),
        (b"PK\x03\x04", "not a complete zip"),
        (b"\n<!DOCTYPE html><title>Quota", "a web page"),
        (b"PK\x05\x06" + b"\xff" * 18, "not a complete zip"),
    ],
)
def test_what_is_no_zip_is_said_to_be_none(tmp_path, content, reason):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ArchiveError, match=reason):
        opened(tmp_path / "a.zip", LIMITS)


@given(cut=st.integers(0, 1200), flip=st.integers(0, 1200), value=st.integers(1, 255), shorten=st.booleans())
def test_no_corruption_of_a_zip_does_worse_than_an_archive_error(tmp_path_factory, cut, flip, value, shorten):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as writer:
        for name in ("a/one", "a/two", "three"):
            writer.writestr(name, NOISE[:300])
    raw = bytearray(made.getvalue())
    raw[flip % len(raw)] ^= value
    folder = tmp_path_factory.mktemp("corrupt")
    (folder / "a.zip").write_bytes(raw[:cut] if shorten else raw)
    try:
        with opened(folder / "a.zip", LIMITS) as source:
            for number, path in enumerate(source.sizes):
                source.copy(path, folder / f"{number}")
                assert (folder / f"{number}").read_bytes() in (NOISE[:300], b"")
    except ArchiveError:
        pass
    assert not (folder.parent / "one").exists()


def test_a_place_that_cannot_be_written_is_the_users_to_fix(tmp_path):
    file = zipped(tmp_path / "a.zip", {"a": NOISE})
    with opened(file, LIMITS) as source, pytest.raises(UserError, match=r"Cannot write out to .*nowhere"):
        source.copy("a", tmp_path / "nowhere" / "out")


def test_a_folder_is_read_without_what_is_hidden_or_linked(tmp_path):
    (tmp_path / "a/.git").mkdir(parents=True)
    (tmp_path / "a/.git/x").touch()
    (tmp_path / "a/b").write_bytes(NOISE)
    (tmp_path / "a/loop").symlink_to(tmp_path)
    source = opened(tmp_path, LIMITS)
    assert source.sizes == {"a/b": 5000}
    source.copy("a/b", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == source.read("a/b")
    (tmp_path / "a/b").write_bytes(b"less")
    with pytest.raises(ArchiveError, match="has 4 bytes instead of 5000"):
        source.copy("a/b", tmp_path / "out1")
    (tmp_path / "a/b").unlink()
    with pytest.raises(ArchiveError, match="cannot be read"):
        source.copy("a/b", tmp_path / "out2")


@given(
    prefix=st.lists(st.sampled_from("abc"), max_size=3),
    wanted=st.sets(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3).map("/".join), min_size=1, max_size=8),
    others=st.sets(st.lists(st.sampled_from("xyz"), min_size=1, max_size=3).map("/".join), max_size=8),
)
def test_the_fullest_image_folder_is_found_wherever_it_lies(prefix, wanted, others):
    place = "".join(f"{name}/" for name in prefix)
    start = find_prefix({place + path for path in wanted} | others, wanted)
    assert {start + path for path in wanted} <= {place + path for path in wanted} | others
    assert find_prefix(["old/c/1", "new/c/1", "new/c/2", "c/9"], ["c/1", "c/2"]) == "new/"
    assert find_prefix(["b/c/1", "a/c/1", "c/c/c/1"], ["c/1"]) == "a/"
    assert find_prefix(["notes.txt"], ["c/1"]) == ""
