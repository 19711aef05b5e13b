"""Why something could not be downloaded or uploaded, and what to do about it, as phrases of a sentence.

Errors are recognised by what caused them and by the names of their classes: which HTTP library the hub's client uses
depends on its version.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies

from ogkd.core.errors import brief
from ogkd.core.files import is_disk_full

_LOGIN = "log in (`hf auth login`, or set HF_TOKEN)"
_MENDS = {
    401: f"check the name, and {_LOGIN} if it is private",
    403: f"accept its terms on its page, and {_LOGIN} with an account that may read it",
    404: "check the name",
    407: "set HTTPS_PROXY to http://USER:PASSWORD@HOST:PORT",
    429: f"wait some minutes, or {_LOGIN}",
}
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


class Trouble(NamedTuple):
    """Why a transfer failed, and what to do."""

    reason: str
    mend: str


def trouble(error: BaseException, mend: str = "check the network") -> Trouble:
    """What is behind an error of a transfer; `mend` is what to do if nothing more is known."""
    causes = list(_causes(error))
    names = {type(cause).__name__ for cause in causes}
    if "OfflineModeIsEnabled" in names:
        name = next((name for name in _OFFLINE if os.environ.get(name)), _OFFLINE[0])
        return Trouble(f"{name} is set", f"unset it (`unset {name}`) where there is a network")
    if is_disk_full(error):
        return Trouble("no space is left on the disk", "free some space, or set HF_HOME to a folder on another disk")
    for cause in causes:
        if status := status_of(cause):
            return Trouble(answer(status), _MENDS.get(status, "try again later" if status >= 500 else mend))
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _untrusted(cause)
        if isinstance(cause, ssl.SSLError):
            return Trouble(f"the encrypted connection failed: {brief(cause)}", "check the proxy")
        if isinstance(cause, PermissionError):
            where = cause.filename or "the folder"
            return Trouble(f"{where} may not be written", "allow it, or set HF_HOME to another folder")
        if isinstance(cause, socket.gaierror):
            return Trouble(f"the server's name is unknown{_through()}: {cause.strerror}", mend)
        if isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__:
            return Trouble(f"it did not answer in time{_through()}", mend)
        if isinstance(cause, ConnectionError) and cause.strerror:
            return Trouble(f"{cause.strerror}{_through()}", "check the proxy" if _through() else mend)
    if "ProxyError" in names:
        return Trouble(f"the proxy failed: {brief(causes[-1])}", "check HTTPS_PROXY")
    return Trouble(brief(error), mend)


def status_of(error: BaseException) -> int | None:
    """The HTTP status with which a server refused, if it did."""
    status = getattr(getattr(error, "response", None), "status_code", None) or getattr(error, "code", None)
    return status if isinstance(status, int) and status >= 400 else None


def answer(status: int) -> str:
    """An HTTP status in words."""
    known = status in set(HTTPStatus)
    return f"it answered {status} {HTTPStatus(status).phrase}" if known else f"it answered {status}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what caused it, the innermost last."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _untrusted(error: ssl.SSLCertVerificationError) -> Trouble:
    reason = f"the server's certificate is not trusted: {error.verify_message}"
    if "expired" in error.verify_message or "not yet valid" in error.verify_message:
        return Trouble(reason, "check this computer's date")
    return Trouble(reason, "set SSL_CERT_FILE and REQUESTS_CA_BUNDLE to the file of your institution's certificate")


def _through() -> str:
    """The proxy that requests go through, without a password, or ""."""
    proxies = getproxies()
    proxy = proxies.get("https") or proxies.get("http") or proxies.get("all")
    if not proxy:
        return ""
    parts = urlsplit(proxy)
    return f" through the proxy {parts.hostname or proxy}" + (f":{parts.port}" if parts.port else "")
