"""One image: it is read whole and upright, or refused in a sentence."""

from __future__ import annotations

import os
import socket

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ogkd.core import UserError
from ogkd.core.images import load_image, read_image
from tests.support.pictures import picture

ORIENTATION = 274


@given(kind=st.sampled_from(("png", "jpg", "tif", "bmp", "webp")), share=st.floats(0, 0.97))
def test_a_truncated_image_is_refused(tmp_path_factory, kind, share):
    path = tmp_path_factory.mktemp("cut") / f"a.{kind}"
    picture("a").save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=r"cannot be read .*intact copy"):
        load_image(path)


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_bytes_after_the_end_are_no_fault(tmp_path, kind):
    picture("a").save(tmp_path / f"a.{kind}")
    with (tmp_path / f"a.{kind}").open("ab") as file:
        file.write(b"\0" * 5000)
    assert load_image(tmp_path / f"a.{kind}").frames == 1


def test_a_floating_point_image_with_what_is_no_number_is_refused(tmp_path):
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    for bad in (np.nan, -np.inf):
        values[3, 3] = bad
        Image.fromarray(values).save(tmp_path / "bad.tif")
        with pytest.raises(UserError, match=r"bad\.tif has values that are NaN or infinite"):
            read_image(tmp_path / "bad.tif")


def test_what_is_no_file_is_never_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    os.mkfifo("pipe.png")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket.png")
        for name in ("pipe.png", "socket.png", os.devnull):
            with pytest.raises(UserError, match="is a pipe, socket or device"):
                read_image(name)


@pytest.mark.parametrize(("orientation", "suffix"), [*((n, "tif") for n in range(1, 9)), (6, "jpg"), (6, "png")])
def test_an_image_is_turned_as_its_orientation_says(tmp_path, orientation, suffix):
    stored = Image.fromarray(np.kron(np.arange(6).reshape(2, 3) * 40, np.ones((16, 16))).astype(np.uint8))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"image.{suffix}"
    stored.save(path, exif=exif)
    turn = {  # the EXIF standard: where row 0 and column 0 of what is stored belong
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
        5: np.transpose, 6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).T, 8: np.rot90,
    }[orientation]  # fmt: skip
    expected = turn(np.asarray(stored)).astype(int)
    read = np.asarray(read_image(path).convert("L")).astype(int)
    assert read.shape == expected.shape
    assert abs(read - expected).max() <= 6


def test_a_corrupt_orientation_leaves_the_image_as_it_is(tmp_path):
    image = picture("a")
    image.save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    assert (np.asarray(read_image(tmp_path / "a.png")) == np.asarray(image)).all()
