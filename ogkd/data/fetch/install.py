"""Installs a published data set in the data folder, from the network or from local files.

An interrupted call can be repeated: a partial download is resumed and a complete zip is reused. Images are unpacked
beside their folder and moved into it when all are unpacked; the split file is written last.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ogkd.core import UserError, atomic_path, progress
from ogkd.core.hashes import file_sha256, git_blob_sha1
from ogkd.core.locks import locked
from ogkd.core.network import trouble
from ogkd.core.transfer import TransferError, download, read_small, require_space, writing
from ogkd.data import catalogue
from ogkd.data.catalogue import PARTS, Facts
from ogkd.data.fetch.archive import ArchiveError, Limits, Source, find_prefix, opened
from ogkd.data.fetch.check import Report, check, has_image_header
from ogkd.data.splits import parse_split


@dataclass(frozen=True)
class Places:
    """The servers that files are downloaded from; each can be replaced by a mirror."""

    hub: str = "https://huggingface.co"
    drive: str = "https://drive.google.com"
    raw: str = "https://raw.githubusercontent.com"
    pause: float = 1.0  # seconds before the first retry of a failed request
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def from_environment(cls, endpoint: str | None = None) -> Places:
        """Return the servers, replaced by HF_ENDPOINT (or `endpoint`), GDRIVE_ENDPOINT and GITHUB_RAW_ENDPOINT if
        set."""
        variables = {"hub": "HF_ENDPOINT", "drive": "GDRIVE_ENDPOINT", "raw": "GITHUB_RAW_ENDPOINT"}
        servers: dict[str, Any] = {name: os.environ.get(variable) for name, variable in variables.items()}
        servers["hub"] = endpoint or servers["hub"]
        return cls(**{name: url.rstrip("/") for name, url in servers.items() if url})

    def zip_url(self, facts: Facts) -> str:
        published = catalogue.load()
        revision = published.zip_revision or "main"
        return f"{self.hub}/datasets/{published.zip_repository}/resolve/{revision}/{facts.zip_name}"

    def drive_url(self, facts: Facts) -> str:
        return f"{self.drive}/uc?id={facts.gdrive_id}"

    def split_url(self, facts: Facts) -> str:
        published = catalogue.load()
        place = facts.splits or f"{published.split_repository}/{published.split_commit}"
        return f"{self.raw}/{place}/data/{facts.name}/split_{facts.name}.json"


def install(facts: Facts, root: Path, places: Places, given: Path | None = None) -> Report:
    """Complete the data set in `root`, from the zip or folder `given` or otherwise from the network.

    Returns the report of the final check. Raises UserError if the data set is still incomplete.
    """
    report = check(facts, root)
    if report.complete and not _leftovers(facts, root):
        return report
    with writing(facts.name, root):
        facts.folder(root).mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        with writing("a lock file", facts.folder(root)):
            lock = facts.folder(root) / ".download.lock"
            stack.enter_context(locked(lock, f"the download of {facts.name} to {root}"))
        report = check(facts, root)  # another process may have completed it in the meantime
        if report.split is None and facts.image_folder(root).is_dir():  # the split may be all that is missing
            with contextlib.suppress(ArchiveError, UserError):
                _place(Source({}), facts, root, places)
                report = check(facts, root)
        if not report.complete:
            if given is None:
                _from_network(facts, root, places)
            else:
                _from_files(facts, root, places, given)
            report = check(facts, root)
        if not report.complete:
            print(report.table())
            raise UserError(f"{facts.name} is incomplete, {report.fault()}: remove that folder and run this again.")
        with writing(facts.name, root):
            for path in _leftovers(facts, root):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    return report


def _leftovers(facts: Facts, root: Path) -> list[Path]:
    """Find the temporary files of interrupted calls: zips, partial downloads, unpacked images and split files."""
    patterns = (f".{facts.zip_name}*", f".{facts.split_file(root).name}*", ".unpacked")
    return [path for pattern in patterns for path in facts.folder(root).glob(pattern)]


def _from_network(facts: Facts, root: Path, places: Places) -> None:
    """Download the zip from the hub, or else from Google Drive, first reusing what an interrupted call left."""
    zip_file = facts.folder(root) / f".{facts.zip_name}"
    reasons = []
    for name in ("the Hugging Face hub", "Google Drive") if facts.gdrive_id else ("the Hugging Face hub",):
        try:
            if not zip_file.exists():
                unknown = "" if facts.sha256 else ", whose SHA-256 the catalogue does not know,"
                print(f"Fetching {facts.zip_name}{unknown} from {name}.")
                if name == "Google Drive":
                    _from_drive(places.drive_url(facts), zip_file, facts.sha256)
                else:
                    url = places.zip_url(facts)
                    download(url, zip_file, sha256=facts.sha256, beside=1.0, pause=places.pause)
            with opened(zip_file, places.limits) as source:
                _place(source, facts, root, places)
        except TransferError as error:
            reasons.append(f"from {name}: {error}")
        except ArchiveError as error:
            zip_file.unlink()
            reasons.append(f"from {name}: the download is unusable, {error}")
        else:
            zip_file.unlink()
            return
    raise UserError(
        f"{facts.name} could not be fetched ({'; '.join(reasons)}): run this again later (partial downloads resume), "
        f"or download {facts.zip_name} yourself and give it with --from."
    )


def _from_drive(url: str, target: Path, sha256: str | None) -> None:
    """Download with gdown, which keeps and resumes partial downloads. Raises TransferError."""
    import gdown
    import requests

    part = target.with_name(f"{target.name}.drive")

    def partial_files() -> dict[Path, int]:
        return {file: file.stat().st_size for file in part.parent.glob(f"{part.name}*")}

    def has_room(done: int, total: int | None) -> None:
        if total is not None:
            require_space(part.parent, 2 * total - done, f"{target.name.lstrip('.')} and its content")

    before = partial_files()
    try:
        quiet = not sys.stderr.isatty()
        gdown.download(url, str(part), quiet=quiet, resume=True, timeout=30, progress=has_room)
    except (gdown.exceptions.DownloadError, requests.RequestException, OSError, RuntimeError) as error:
        if partial_files() == before:  # the partial download is of no use: the next call starts over
            for file in before:
                file.unlink()
        raise TransferError(f"{url} failed ({'; '.join(filter(None, trouble(error, '')))})") from error
    if not part.is_file():
        raise TransferError(f"{url} sent no file")
    if sha256 and file_sha256(part, target.name.lstrip(".")) != sha256:
        part.unlink()
        raise TransferError(f"what {url} sent is corrupt (its SHA-256 differs from the published one)")
    part.replace(target)


def _from_files(facts: Facts, root: Path, places: Places, local: Path) -> None:
    local = local / facts.zip_name if (local / facts.zip_name).is_file() else local
    if not local.exists():
        raise UserError(f"{local} does not exist: give --from the folder or zip that has the images of {facts.name}.")
    if facts.sha256 and local.is_file() and file_sha256(local, local.name) != facts.sha256:
        print(f"note: {local} is not the published {facts.zip_name}, as its SHA-256 differs.")
    try:
        with opened(local, places.limits) as source:
            _place(source, facts, root, places)
    except ArchiveError as error:
        raise UserError(f"{local} is unusable for {facts.name}, {error}: give --from another folder or zip.") from error


def _place(source: Source, facts: Facts, root: Path, places: Places) -> None:
    """Copy the images listed in the split from `source` into the image folder; other files there are kept.

    Raises ArchiveError if images are neither in the source nor in the image folder.
    """
    content = _split_content(source, facts, root, places)
    split = parse_split(content, f"split_{facts.name}.json")
    wanted = list(dict.fromkeys(item.path for part in PARTS for item in split[part]))
    prefix = find_prefix(source.sizes, wanted)
    here = [path for path in wanted if prefix + path in source.sizes]
    images = facts.image_folder(root)
    absent = [path for path in wanted if prefix + path not in source.sizes and not has_image_header(images / path)]
    if absent:
        raise ArchiveError(f"it lacks {len(absent)} of the {len(wanted)} images, the first is {absent[0]}")
    unpacked = facts.folder(root) / ".unpacked"
    with writing(facts.name, unpacked):
        shutil.rmtree(unpacked, ignore_errors=True)
        unpacked.mkdir()
    require_space(unpacked, sum(source.sizes[prefix + path] for path in here), f"the images of {facts.name}")
    for path in progress(here, f"Unpacking {facts.name}", unit="image"):
        target = unpacked / path
        with writing(path, unpacked):
            target.parent.mkdir(parents=True, exist_ok=True)
        source.copy(prefix + path, target)
        if not has_image_header(target):
            raise ArchiveError(f"its file {prefix + path} is not a readable image")
    with writing(facts.name, images):
        if images.exists():
            for path in here:
                (images / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.move(unpacked / path, images / path)
            shutil.rmtree(unpacked)
        else:
            unpacked.replace(images)
    _put_split(facts, root, content)


def _split_content(source: Source, facts: Facts, root: Path, places: Places) -> bytes:
    """Return the published split file's content, from the data folder, the source or the public repository."""
    name = f"split_{facts.name}.json"
    local = [facts.split_file(root).read_bytes] if facts.split_file(root).is_file() else []
    inside: list[Callable[[], bytes]] = [
        partial(source.read, path)
        for path, size in source.sizes.items()
        if path.rpartition("/")[2] == name and size <= 64 << 20
    ]
    for read in (*local, *inside):
        if git_blob_sha1(content := read()) == facts.split_blob_sha1:
            return content
    url, instead = places.split_url(facts), f"put the published {name} into {facts.folder(root)}"
    try:
        content = read_small(url, pause=places.pause)
    except TransferError as error:
        raise UserError(f"{name} could not be fetched ({error}): run this again later, or {instead}.") from error
    if (blob := git_blob_sha1(content)) != facts.split_blob_sha1:
        raise UserError(
            f"{url} did not send the published split (git blob {blob} instead of {facts.split_blob_sha1}): {instead}."
        )
    return content


def _put_split(facts: Facts, root: Path, content: bytes) -> None:
    """Write the published split; a different file already there is renamed and kept."""
    file = facts.split_file(root)
    with writing(file.name, file.parent):
        if file.exists():
            if file.read_bytes() == content:
                return
            backup = next(path for n in range(1, 1000) if not (path := file.with_suffix(f".{n}.json")).exists())
            file.replace(backup)
            print(f"{file} was not the published split; it was renamed to {backup}.")
        with atomic_path(file) as temporary:
            temporary.write_bytes(content)
