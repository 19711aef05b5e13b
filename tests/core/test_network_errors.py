"""Errors of transfers as phrases: each says the true reason and what to do."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import urllib.error

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ogkd.core.errors import brief, first_line
from ogkd.core.network import trouble
from ogkd.core.transfer import TransferError, read_small
from tests.support.download_server import encrypted


def caused_by(inner: BaseException) -> Exception:
    try:
        raise RuntimeError("An error happened while trying to locate the file on the Hub") from inner
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("inner", "reason", "mend"),
    [
        (socket.gaierror(-2, "Name or service not known"), "the server's name is unknown", "network"),
        (TimeoutError("timed out"), "it did not answer in time", "network"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "Connection reset by peer", "network"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "no space is left", "HF_HOME"),
        (PermissionError(errno.EACCES, "Permission denied", "/cache"), "/cache may not be written", "HF_HOME"),
        (urllib.error.HTTPError("u", 401, "Unauthorized", None, None), "401 Unauthorized", "hf auth login"),
        (urllib.error.HTTPError("u", 404, "Not Found", None, None), "404 Not Found", "check the name"),
        (urllib.error.HTTPError("u", 407, "", None, None), "407 Proxy Authentication Required", "HTTPS_PROXY"),
        (urllib.error.HTTPError("u", 429, "", None, None), "429 Too Many Requests", "wait some minutes"),
        (urllib.error.HTTPError("u", 503, "", None, None), "503 Service Unavailable", "later"),
        (urllib.error.HTTPError("u", 599, "", None, None), "it answered 599", "later"),
        (ssl.SSLError(1, "wrong version number"), "the encrypted connection failed", "proxy"),
    ],
)
def test_the_reason_behind_an_error_is_said_with_its_mend(monkeypatch, inner, reason, mend):
    monkeypatch.setattr("ogkd.core.network.getproxies", dict)
    found = trouble(caused_by(inner))
    assert reason in found.reason and mend in found.mend


def test_a_certificate_that_is_not_trusted_is_said_for_small_files_too(tmp_path):
    with (
        encrypted(tmp_path) as (url, _),
        pytest.raises(TransferError, match=r"not trusted: self-signed .*SSL_CERT_FILE"),
    ):
        read_small(f"{url}/split.json", attempts=1)


@given(st.lists(st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=30), min_size=1))
def test_a_shortened_error_ends_after_a_whole_word(words):
    text = " ".join(words)
    short = brief(ValueError(text), 100)
    assert len(short) <= 104 and "\n" not in short
    if len(text) > 100:
        assert short.endswith(" ...")
        kept = short.removesuffix(" ...")
        assert text.startswith(kept) and text[len(kept)] in " .:,;("
    assert first_line(ValueError("first\nsecond")) == "first"
    assert brief(ValueError()) == first_line(ValueError()) == "ValueError"
