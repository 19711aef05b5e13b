"""A published data set in its place under the data folder, from the network or from files at hand.

The order of steps makes it safe to stop anywhere and run again: a download is continued or its zip used again; images
are unpacked beside their place and moved there when all are out; the split file comes last.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dassl.utils import UserError, progress

from .. import catalogue
from ..catalogue import PARTS, Facts
from ..splits import missing_images, parse_split
from .archive import ArchiveError, FolderSource, Limits, Source, ZipSource, find_prefix
from .check import Report, check, git_blob_sha1, has_image_header
from .transfer import TransferError, brief, download, read_small, require_space, writing


@dataclass(frozen=True)
class Places:
    """Where files are fetched from; each can be replaced, by a mirror for instance."""

    hub: str = "https://huggingface.co"
    drive: str = "https://drive.google.com"
    raw: str = "https://raw.githubusercontent.com"
    pause: float = 1.0  # seconds before the first repetition of a failed request
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def from_environment(cls, endpoint: str | None = None) -> Places:
        """HF_ENDPOINT (or `endpoint`), GDRIVE_ENDPOINT and GITHUB_RAW_ENDPOINT, where set."""
        chosen = {
            "hub": endpoint or os.environ.get("HF_ENDPOINT"),
            "drive": os.environ.get("GDRIVE_ENDPOINT"),
            "raw": os.environ.get("GITHUB_RAW_ENDPOINT"),
        }
        return cls(**{name: url.rstrip("/") for name, url in chosen.items() if url})

    def zip_url(self, facts: Facts) -> str:
        return f"{self.hub}/datasets/{catalogue.load().zip_repository}/resolve/main/{facts.zip_name}"

    def drive_url(self, facts: Facts) -> str:
        return f"{self.drive}/uc?id={facts.gdrive_id}"

    def split_url(self, facts: Facts) -> str:
        published = catalogue.load()
        folder = f"{self.raw}/{published.split_repository}/{published.split_commit}"
        return f"{folder}/data/{facts.name}/split_{facts.name}.json"


def install(facts: Facts, root: Path, places: Places, given: Path | None = None) -> Report:
    """Make the data set complete under `root`, from the zip or folder `given` or else from the network.

    Gives the report of the final check; raises UserError, in one sentence, when the data set is not complete.
    """
    report = check(facts, root)
    if report.complete and not _leftovers(facts, root):
        return report
    with writing(facts.name, root):
        facts.folder(root).mkdir(parents=True, exist_ok=True)
    with _alone(facts, root):
        if not report.complete:
            if not _only_the_split_was_missing(facts, root, places, report):
                if given is None:
                    _from_network(facts, root, places)
                else:
                    _from_files(facts, root, places, given)
            report = check(facts, root)
        if not report.complete:
            print(report.table())
            raise UserError(f"{facts.name} is not complete, {report.fault()}: remove that folder and run this again.")
        with writing(facts.name, root):
            for path in _leftovers(facts, root):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    return report


def _leftovers(facts: Facts, root: Path) -> list[Path]:
    """Files on their way to a data set: zips, parts of them, images and a split that are not in place yet."""
    patterns = (f".{facts.zip_name}*", f".{facts.split_file(root).name}", ".unpacked")
    return [path for pattern in patterns for path in facts.folder(root).glob(pattern)]


@contextlib.contextmanager
def _alone(facts: Facts, root: Path) -> Iterator[None]:
    """Keep a second call for the same data set out, where the system has such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with contextlib.ExitStack() as stack:
        with writing("a lock file", facts.folder(root)):
            lock = stack.enter_context(open(facts.folder(root) / ".download.lock", "w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"Another process is fetching {facts.name} to {root}: wait until it has ended.") from error
        yield


def _only_the_split_was_missing(facts: Facts, root: Path, places: Places, report: Report) -> bool:
    if report.split is not None or not facts.image_folder(root).is_dir():
        return False
    try:
        content = read_small(places.split_url(facts), pause=places.pause)
    except TransferError:
        return False  # the zip may have the split as well
    if git_blob_sha1(content) != facts.split_blob_sha1:
        return False
    split = parse_split(content, places.split_url(facts))
    if missing_images(facts.image_folder(root), [item.path for part in PARTS for item in split[part]]):
        return False
    _put_split(facts, root, content)
    return True


def _from_network(facts: Facts, root: Path, places: Places) -> None:
    """The zip from the hub, else from Google Drive; a zip that a stopped call left is used first."""
    zip_file = facts.folder(root) / f".{facts.zip_name}"
    ways: list[tuple[str, Callable[[], None]]] = [
        ("the Hugging Face hub", lambda: download(places.zip_url(facts), zip_file, beside=1.0, pause=places.pause)),
        ("Google Drive", lambda: _from_drive(places.drive_url(facts), zip_file)),
    ]
    reasons = []
    for name, fetch in ways:
        try:
            if not zip_file.exists():
                print(f"Fetching {facts.zip_name} from {name}.")
                fetch()
            with ZipSource(zip_file, places.limits) as source:
                _place(source, facts, root, places)
        except TransferError as error:
            reasons.append(f"from {name}: {error}")
        except ArchiveError as error:
            zip_file.unlink()
            reasons.append(f"from {name}: what came is not used, {error}")
        else:
            zip_file.unlink()
            return
    raise UserError(
        f"{facts.name} could not be fetched ({'; '.join(reasons)}): run this again later, it goes on where it stopped, "
        f"or fetch {facts.zip_name} by hand and give it with --from."
    )


def _from_drive(url: str, target: Path) -> None:
    """Fetch with gdown, which keeps what came of a broken transfer and continues it. Raises TransferError."""
    import gdown
    import requests

    part = target.with_name(f"{target.name}.drive")

    def kept() -> dict[Path, int]:
        return {file: file.stat().st_size for file in part.parent.glob(f"{part.name}*")}

    looked = False

    def has_room(done: int, total: int | None) -> None:
        nonlocal looked
        if total is not None and not looked:
            looked = True
            purpose = f"{target.name} and what is in it"
            require_space(part.parent, 2 * total - done, purpose)

    refused = gdown.exceptions.FileURLRetrievalError
    refused = getattr(gdown.exceptions, "DownloadError", refused)  # its base class since gdown 6
    newer = {"timeout": 30, "progress": has_room}
    known = inspect.signature(gdown.download).parameters
    options = {name: value for name, value in newer.items() if name in known}
    before = kept()
    try:
        gdown.download(url, str(part), quiet=not sys.stderr.isatty(), resume=True, **options)
    except (refused, requests.RequestException, OSError, RuntimeError) as error:
        if kept() == before:  # what is here does not help: the next call begins anew
            for file in before:
                file.unlink()
        raise TransferError(f"{url} failed ({brief(error)})") from error
    if not part.is_file():
        raise TransferError(f"{url} gave no file")
    part.replace(target)


def _from_files(facts: Facts, root: Path, places: Places, given: Path) -> None:
    given = given / facts.zip_name if (given / facts.zip_name).is_file() else given
    if not given.exists():
        raise UserError(f"{given} is not there: give --from the folder or zip that has the images of {facts.name}.")
    try:
        with FolderSource(given) if given.is_dir() else ZipSource(given, places.limits) as source:
            _place(source, facts, root, places)
    except ArchiveError as error:
        raise UserError(f"{given} is not used for {facts.name}, {error}: give --from another folder or zip.") from error


def _place(source: Source, facts: Facts, root: Path, places: Places) -> None:
    """Copy what the split names from `source` into place; what else is there already stays, unless it has that name.

    Raises ArchiveError when the source lacks images that are not in place either.
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
            raise ArchiveError(f"its file {prefix + path} is no readable image")
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
    """The published split file: the one in place, the source's, or the public repository's."""
    name = f"split_{facts.name}.json"
    candidates: list[Callable[[], bytes]] = []
    if facts.split_file(root).is_file():
        candidates.append(facts.split_file(root).read_bytes)
    for path, size in source.sizes.items():
        if path.rpartition("/")[2] == name and size <= 64 << 20:
            candidates.append(lambda path=path: source.read(path))
    for candidate in candidates:
        content = candidate()
        if git_blob_sha1(content) == facts.split_blob_sha1:
            return content
    url = places.split_url(facts)
    try:
        content = read_small(url, pause=places.pause)
    except TransferError as error:
        raise UserError(
            f"The split file of {facts.name} could not be fetched ({error}): run this again later, or put {name} into "
            f"{facts.folder(root)}."
        ) from error
    if git_blob_sha1(content) != facts.split_blob_sha1:
        raise UserError(
            f"{url} gives another file than the published split (git blob {git_blob_sha1(content)} instead of "
            f"{facts.split_blob_sha1}): put the published {name} into {facts.folder(root)}."
        )
    return content


def _put_split(facts: Facts, root: Path, content: bytes) -> None:
    """Store the published split; another one that is in its place is kept under another name."""
    file = facts.split_file(root)
    with writing(file.name, file.parent):
        if file.exists():
            if file.read_bytes() == content:
                return
            kept = next(path for n in range(1, 1000) if not (path := file.with_suffix(f".{n}.json")).exists())
            file.replace(kept)
            print(f"{file} was not the published split; it is kept as {kept}.")
        temporary = file.with_name(f".{file.name}")
        temporary.write_bytes(content)
        temporary.replace(file)
