"""A file server on 127.0.0.1 that also speaks the Hugging Face hub's protocol and can fail as real servers do."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Served:
    """A file and how it is served."""

    content: bytes = b""
    status: int = 200
    statuses: list[int] = field(default_factory=list)  # of the first requests, before `status`
    etag: str | None = "sha256"  # or the ETag itself; None: no ETag is sent
    ranges: bool = True
    breaks: list[int] = field(default_factory=list)  # bytes after which the first transfers break
    announced: int | None = None  # Content-Length that is announced, whatever the truth
    redirect: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    gate: threading.Event | None = None  # the transfer waits for it halfway
    halfway: threading.Event = field(default_factory=threading.Event)

    def tag(self) -> str | None:
        return f'"{hashlib.sha256(self.content).hexdigest()}"' if self.etag == "sha256" else self.etag


@dataclass
class Request:
    method: str
    path: str
    range: str | None
    status: int
    sent: int


class Server:
    def __init__(self) -> None:
        self.files: dict[str, Served] = {"/": Served()}  # asked for to learn whether there is a server
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

    def put_repository(self, name: str, folder: Path, commit: str) -> dict[str, Served]:
        """Serve a folder's files as the hub does, on its main branch and at `commit`; what is served, by file name."""
        served = {}
        for file in folder.iterdir():
            content = file.read_bytes()
            large = file.suffix in (".bin", ".safetensors")  # the hub's ETag of others is git's name of the content
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            tag, headers = "sha256" if large else f'"{blob}"', {"X-Repo-Commit": commit}
            served[file.name] = Served(content, etag=tag, headers=headers)
            for revision in ("main", commit):
                self.put(f"/{name}/resolve/{revision}/{file.name}", served[file.name])
        return served

    def transfers(self, path: str) -> list[Request]:
        """The transfers of a file."""
        return [request for request in self.requests if request.path == path and request.method == "GET"]

    def _serve(self, http: BaseHTTPRequestHandler, body: bool) -> None:
        wanted = http.headers.get("Range")
        log = Request(http.command, http.path, wanted, 404, 0)
        self.requests.append(log)
        file = self.files.get(http.path)
        if file is None:
            self._refuse(http)
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
        start = 0
        if wanted and file.ranges:
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
        for name, value in {"ETag": file.tag(), **file.headers}.items():
            if value is not None:
                http.send_header(name, value)
        http.end_headers()
        if not body:
            return
        if file.breaks:
            payload = payload[: file.breaks.pop(0)]
        log.sent = len(payload)  # before the client can have it all and look
        middle = len(payload) // 2 if file.gate is not None else 0
        http.wfile.write(payload[:middle])
        if file.gate is not None:
            file.halfway.set()
            file.gate.wait(60)
        http.wfile.write(payload[middle:])

    def _refuse(self, http: BaseHTTPRequestHandler) -> None:
        repository, is_hub, _ = http.path.partition("/resolve/")
        known = any(path.startswith(f"{repository}/resolve/") for path in self.files)
        http.send_response(404)
        if is_hub:
            http.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
        http.send_header("Content-Length", "0")
        http.end_headers()


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def encrypted(folder: Path) -> Iterator[tuple[str, Path]]:
    """A server whose certificate it has signed itself: its address and the certificate's file."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    files = ["-keyout", key, "-out", certificate]
    subprocess.run([*words.split(), *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving() as server:
        server._http.socket = context.wrap_socket(server._http.socket, server_side=True)
        yield server.url.replace("http:", "https:"), certificate
