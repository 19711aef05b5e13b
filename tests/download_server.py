"""A file server on 127.0.0.1 that can misbehave in the ways that real ones do."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """A file and how it is served."""

    content: bytes = b""
    status: int = 200
    statuses: list[int] = field(default_factory=list)  # of the first requests, before `status`
    etag: str | None = "auto"
    modified: str | None = None
    ranges: bool = True
    breaks: list[int] = field(default_factory=list)  # bytes after which the first answers break off
    announced: int | None = None  # Content-Length that is told, whatever the truth
    redirect: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    gate: threading.Event | None = None  # the answer waits for it in its middle
    halfway: threading.Event = field(default_factory=threading.Event)

    def tag(self) -> str | None:
        return f'"{hashlib.sha256(self.content).hexdigest()[:20]}"' if self.etag == "auto" else self.etag


@dataclass
class Request:
    path: str
    range: str | None
    status: int
    sent: int


class Server:
    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.requests: list[Request] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self._answer(body=False)

            def do_GET(self) -> None:
                self._answer(body=True)

            def _answer(self, body: bool) -> None:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    owner._serve(self, body)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def put(self, path: str, content: bytes | Served) -> Served:
        self.files[path] = content if isinstance(content, Served) else Served(content)
        return self.files[path]

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    def _serve(self, http: BaseHTTPRequestHandler, body: bool) -> None:
        wanted = http.headers.get("Range")
        log = Request(http.path, wanted, 404, 0)
        self.requests.append(log)
        file = self.files.get(http.path)
        if file is None:
            http.send_error(404)
            return
        log.status = file.statuses.pop(0) if file.statuses else file.status
        if log.status != 200:
            http.send_error(log.status)
            return
        if file.redirect is not None:
            log.status = 302
            http.send_response(302)
            for name, value in file.headers.items():
                http.send_header(name, value)
            http.send_header("Location", file.redirect)
            http.end_headers()
            return
        tag, start = file.tag(), 0
        same = http.headers.get("If-Range") in (None, tag, file.modified)
        if wanted and file.ranges and same:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(file.content):
                log.status = 416
                http.send_error(416)
                return
            log.status = 206
        payload = file.content[start:]
        http.send_response(log.status)
        http.send_header("Content-Length", str(len(payload) if file.announced is None else file.announced))
        if log.status == 206:
            http.send_header("Content-Range", f"bytes {start}-{len(file.content) - 1}/{len(file.content)}")
        for name, value in {"ETag": tag, "Last-Modified": file.modified, **file.headers}.items():
            if value is not None:
                http.send_header(name, value)
        http.end_headers()
        if not body:
            return
        if file.breaks:
            payload = payload[: file.breaks.pop(0)]
        middle = len(payload) // 2 if file.gate is not None else 0
        http.wfile.write(payload[:middle])
        if file.gate is not None:
            file.halfway.set()
            file.gate.wait(60)
        http.wfile.write(payload[middle:])
        log.sent = len(payload)


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.close()
