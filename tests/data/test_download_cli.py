"""`python scripts/download.py` as a user meets it: real zips from a server that does what servers do."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import random
import signal
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ogkd import models
from ogkd.cli.download import main
from ogkd.core import run_program
from ogkd.core.hashes import git_blob_sha1
from ogkd.data import catalogue
from ogkd.data.catalogue import Catalogue, Facts
from ogkd.data.fetch.install import Places
from ogkd.models.sources import BIOMEDCLIP
from tests.support import tiny_models
from tests.support.download_server import Served, serving
from tests.support.zips import write_zip

COUNTS = {"train": 3, "val": 2, "test": 2}


class Published:
    """A data set of two classes: its facts, its images by path, its split file, and zips of them."""

    def __init__(self, name: str, seed: int = 0):
        numbers, split = random.Random(seed), {part: [] for part in COUNTS}
        self.images: dict[str, bytes] = {}
        for label, classname in enumerate(("cyst", "stone")):
            for part, count in COUNTS.items():
                for i in range(count):
                    path, file = f"{classname}/{part}{i}.png", io.BytesIO()
                    Image.frombytes("RGB", (8, 8), numbers.randbytes(192)).save(file, "PNG")
                    self.images[path] = file.getvalue()
                    split[part].append([path, label, classname])
        self.split = json.dumps(split).encode()
        counts = tuple(COUNTS.values())
        self.facts = Facts(
            name=name,
            config=name.lower(),
            modality="CT",
            organ="kidney",
            zip_name=f"{name}.zip",
            gdrive_id=f"id-of-{name}",
            split_blob_sha1=git_blob_sha1(self.split),
            counts=tuple(2 * count for count in counts),
            classes={"cyst": counts, "stone": counts},
        )

    def zip(self, *, prefix: str | None = None, split: bytes | None = None, more: dict[str, bytes] | None = None):
        """The zip's bytes: images below `prefix`, the published split beside them (b"" for none), and `more`."""
        name = self.facts.name
        prefix = f"{name}/{name}/" if prefix is None else prefix
        members = {prefix + path: content for path, content in self.images.items()} | (more or {})
        if split != b"":
            members[f"{name}/split_{name}.json"] = split or self.split
        file = io.BytesIO()
        write_zip(file, members, links=["link"])
        return file.getvalue()


class World:
    """Two published data sets, the server that has them, and the command line."""

    def __init__(self, server, root: Path, capsys):
        self.server, self.root, self._capsys = server, root, capsys
        self.seen: list[str] = []  # what a user saw
        self.sets = {name: Published(name, seed) for seed, name in enumerate(("Kidney", "Other"))}
        facts = {name: published.facts for name, published in self.sets.items()}
        known = catalogue.load()
        self.catalogue = Catalogue(known.split_repository, known.split_commit, known.zip_repository, facts)
        self.kidney = self.sets["Kidney"]

    def path(self, kind: str, name: str = "Kidney") -> str:
        """Where the server has the "zip_url", "drive_url" or "split_url" of a data set."""
        url = getattr(Places(*[self.server.url] * 3), kind)(self.sets[name].facts)
        return url.removeprefix(self.server.url)

    def put(self, kind: str, content: bytes | Served, name: str = "Kidney") -> Served:
        return self.server.put(self.path(kind, name), content)

    def transfers(self, kind: str) -> list:
        return self.server.transfers(self.path(kind))

    def download(self, *arguments: str) -> tuple[int, str, str]:
        """(exit status, standard output, standard error) of the program."""
        status = run_program(lambda: main([*arguments, "--root", str(self.root)], self.catalogue))
        out, err = self._capsys.readouterr()
        self.seen.append(f"$ python scripts/download.py {' '.join(arguments)}\n{out}{err}exit status {status}\n")
        return status, out, err

    def tree(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file()
        }

    def whole(self, name: str = "Kidney") -> dict[str, bytes]:
        """The content of the data folder when the data set is complete."""
        published = self.sets[name]
        files = {f"{name}/{name}/{path}": content for path, content in published.images.items()}
        return dict(sorted({**files, f"{name}/split_{name}.json": published.split}.items()))


@pytest.fixture
def world(tmp_path, capsys, monkeypatch):
    with serving() as server:
        for name in ("HF_ENDPOINT", "GDRIVE_ENDPOINT", "GITHUB_RAW_ENDPOINT"):
            monkeypatch.setenv(name, server.url)
        made = World(server, tmp_path / "data", capsys)
        yield made
    print(*made.seen, sep="\n")  # for `pytest -rP`


def one_sentence(err: str) -> bool:
    """Whether standard error is one line, and that an error sentence."""
    lines = err.splitlines()
    return len(lines) == 1 and lines[0].startswith("error: ") and lines[0].endswith(".")


def test_a_data_set_comes_from_the_hub_and_is_not_fetched_twice(world):
    world.put("zip_url", world.kidney.zip(prefix="some/where/else/"))
    status, out, _ = world.download("kidney")
    assert status == 0 and world.tree() == world.whole()
    rows = [line.split() for line in out.splitlines()]
    assert ["cyst", "3", "2", "2"] in rows and ["all", "6", "4", "4"] in rows and ["as", "published"] in rows
    before = len(world.server.requests)
    assert world.download("Kidney")[0] == 0 and len(world.server.requests) == before


def test_a_wrong_split_from_the_repository_is_refused_by_its_hash(world):
    world.put("zip_url", world.kidney.zip(split=b'{"train": [], "val": [], "test": []}'))
    world.put("split_url", world.kidney.split + b" ")
    status, _, err = world.download("kidney")
    assert status == 2 and one_sentence(err) and world.kidney.facts.split_blob_sha1 in err
    world.put("split_url", world.kidney.split)
    assert world.download("kidney")[0] == 0 and world.tree() == world.whole()
    assert len([request for request in world.transfers("zip_url") if request.sent]) == 1, "the zip is used again"


@pytest.mark.parametrize("kind", ["zip_url", "drive_url"])
def test_a_zip_is_verified_by_its_published_sha256_wherever_it_comes_from(world, tmp_path, kind):
    sha256 = hashlib.sha256(world.kidney.zip()).hexdigest()
    facts = replace(world.kidney.facts, sha256=sha256)
    world.catalogue = replace(world.catalogue, datasets={"Kidney": facts})
    other = world.kidney.zip(more={"more.txt": b"complete and harmless, but another zip"})
    world.put("zip_url", other)
    world.put("drive_url", other)
    status, out, err = world.download("kidney")
    assert status == 2 and one_sentence(err) and err.count("SHA-256 differs from the published one") == 2
    assert "does not know" not in out and not world.tree()
    world.put(kind, world.kidney.zip())
    assert world.download("kidney")[0] == 0 and world.tree() == world.whole()
    (tmp_path / "own.zip").write_bytes(other)
    next(facts.image_folder(world.root).rglob("*.png")).unlink()
    status, out, _ = world.download("kidney", "--from", str(tmp_path / "own.zip"))  # a person's own choice
    assert status == 0 and "not the published Kidney.zip" in out


def test_a_transfer_set_has_its_split_in_another_repository_and_no_copy_on_google_drive(world, tmp_path):
    target = Published("Target", 2)
    target.facts = replace(target.facts, gdrive_id="", splits="someone/else/abcdef", source_set="Kidney")
    world.sets["Target"] = target
    world.catalogue = replace(world.catalogue, transfer={"Target": target.facts})
    status, _, err = world.download("target")
    assert status == 2 and one_sentence(err)
    assert "from the Hugging Face hub" in err and "Google Drive" not in err and "give it with --from" in err
    assert world.path("split_url", "Target") == "/someone/else/abcdef/data/Target/split_Target.json"
    world.put("zip_url", target.zip(split=b""), "Target")
    world.put("split_url", target.split, "Target")
    assert world.download("transfer")[0] == 0
    assert world.tree() == world.whole("Target"), "and nothing of the benchmark"


def lacking(published: Published, content: dict[str, bytes]) -> bytes:
    """A zip with other images."""
    other = Published("Kidney")
    other.images = content
    return other.zip()


HARM = {
    "404": lambda published: Served(status=404),
    "a page instead of a zip": lambda published: b"<html>Quota exceeded</html>",
    "a zip cut short": lambda published: published.zip()[:-300],
    "../ members": lambda published: published.zip(more={"../../outside.png": b"harm"}),
    "a link": lambda published: published.zip(more={"link": b"/etc/passwd"}),
    "a zip without the images": lambda published: lacking(published, dict([*published.images.items()][:1])),
    "images that are none": lambda published: lacking(published, dict.fromkeys(published.images, b"no image")),
}


@pytest.mark.parametrize("kind", HARM)
def test_what_is_harmful_is_put_nowhere_and_google_drive_helps(world, kind):
    world.put("zip_url", HARM[kind](world.kidney))
    world.put("drive_url", HARM[kind](world.kidney))
    status, _, err = world.download("kidney")
    assert status == 2 and one_sentence(err)
    assert "from the Hugging Face hub" in err and "from Google Drive" in err and "--from" in err
    assert not any(world.kidney.facts.image_folder(world.root).rglob("*.png"))
    world.put("drive_url", world.kidney.zip())
    status, out, _ = world.download("kidney")
    assert status == 0 and "from Google Drive" in out and world.tree() == world.whole()
    assert not list(world.root.parent.rglob("outside*"))


@pytest.fixture
def small_chunks(monkeypatch):
    """The hub's client writes what it has received in chunks, here smaller than the test's zips; their size."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    return 1000


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_download_resumes_where_it_stopped(world, small_chunks, end):
    content = world.kidney.zip(more={"more": random.Random(0).randbytes(100_000)})
    file = world.put("zip_url", Served(content, gate=threading.Event()))
    child = in_a_process(world)
    assert file.halfway.wait(30)
    until = time.monotonic() + 30
    while not received(world) and time.monotonic() < until:
        time.sleep(0.01)
    while child.is_alive():  # an interrupt that arrives while Python cleans up an object is lost
        os.kill(child.pid, end)
        child.join(1)
    had = received(world)
    file.gate.set()
    assert 0 < had < len(content)
    assert world.download("kidney")[0] == 0 and world.tree() == world.whole()
    assert world.transfers("zip_url")[-1].range == f"bytes={had}-"


@pytest.mark.slow
def test_a_second_call_for_the_same_data_set_waits_for_the_first_and_finds_it_complete(world, monkeypatch):
    monkeypatch.setattr("ogkd.core.locks.SECONDS_BEFORE_SAYING_SO", 0.1)
    file = world.put("zip_url", Served(world.kidney.zip(), gate=threading.Event()))
    child = in_a_process(world)
    assert file.halfway.wait(30)
    threading.Timer(0.5, file.gate.set).start()
    status, _, err = world.download("kidney")
    assert status == 0 and f"Waiting for the download of Kidney to {world.root}, which process {child.pid}" in err
    child.join()
    assert child.exitcode == 0 and len(world.transfers("zip_url")) == 1 and world.tree() == world.whole()


def received(world: World) -> int:
    """Bytes of the partial download on the disk."""
    return sum(file.stat().st_size for file in world.root.glob("Kidney/.Kidney.zip*"))


def test_what_an_interrupted_call_left_neither_harms_nor_stays(world):
    facts = world.kidney.facts
    (facts.folder(world.root) / ".unpacked/cyst").mkdir(parents=True)
    for name in (".unpacked/cyst/train0.png", ".Kidney.zip", ".Kidney.zip.0.hub", ".split_Kidney.json.1"):
        (facts.folder(world.root) / name).write_bytes(b"half")
    world.put("zip_url", world.kidney.zip())
    world.put("drive_url", world.kidney.zip())
    assert world.download("kidney")[0] == 0 and world.tree() == world.whole()


def in_a_process(world: World) -> multiprocessing.Process:
    def download() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background processes ignore
        main(["kidney", "--root", str(world.root)], world.catalogue)

    child = multiprocessing.get_context("fork").Process(target=download)
    child.start()
    return child


def test_check_only_looks(world):
    status, _, err = world.download("kidney", "--check")
    assert status == 2 and one_sentence(err) and "download.py kidney" in err
    world.put("zip_url", world.kidney.zip())
    assert world.download("kidney")[0] == 0
    before = len(world.server.requests)
    assert world.download("kidney", "--check")[0] == 0
    images = world.kidney.facts.image_folder(world.root)
    lost, corrupt = images / "stone/val1.png", images / "cyst/val0.png"
    lost.unlink(), corrupt.write_text("no image")
    status, out, err = world.download("kidney", "--check")
    assert status == 2 and str(lost) in err and f"unreadable, the first is {corrupt}" in err
    assert "1 of 2" in out and "NOT as published" in out
    assert len(world.server.requests) == before
    assert world.download("kidney")[0] == 0 and world.tree() == world.whole(), "a call without --check mends it"


@pytest.mark.parametrize("kind", ["zip", "folder of images", "folder with all"])
def test_files_at_hand_are_used_instead_of_the_network(world, tmp_path, kind):
    given = tmp_path / "at hand"
    given.mkdir()
    if kind == "folder of images":
        for path, content in world.kidney.images.items():
            (given / path).parent.mkdir(exist_ok=True)
            (given / path).write_bytes(content)
        world.put("split_url", world.kidney.split)
    elif kind == "folder with all":
        with zipfile.ZipFile(io.BytesIO(world.kidney.zip())) as file:
            file.extractall(given)
    else:
        (given / "Kidney.zip").write_bytes(world.kidney.zip())
    source = given / "Kidney.zip" if kind == "zip" else given
    before = sorted(given.rglob("*"))
    assert world.download("kidney", "--from", str(source))[0] == 0
    assert world.tree() == world.whole() and sorted(given.rglob("*")) == before
    assert not world.transfers("zip_url")


@pytest.mark.parametrize("kind", ["absent", "a zip without the images", "a page instead of a zip"])
def test_files_at_hand_that_are_not_the_data_set_are_named(world, tmp_path, kind):
    given = tmp_path / "given.zip"
    if kind in HARM:
        given.write_bytes(HARM[kind](world.kidney))
    status, _, err = world.download("kidney", "--from", str(given))
    assert status == 2 and one_sentence(err) and "given.zip" in err
    assert not world.tree()


def test_all_fetches_what_can_be_had_and_names_the_rest(world):
    world.put("zip_url", world.kidney.zip(), "Kidney")
    status, _, err = world.download("all")
    assert status == 2 and world.tree() == world.whole()
    assert one_sentence(err) and "Other could not be fetched" in err
    world.put("zip_url", world.sets["Other"].zip(), "Other")
    assert world.download("all")[0] == 0 and world.tree() == {**world.whole("Kidney"), **world.whole("Other")}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["liver"], "Unknown data set 'liver'"),
        (["phantom"], "python -m ogkd.phantom.dataset"),
        (["kidney", "--export", "x"], "weights NAME --export"),
        (["weights", "--from", "x"], "BACKBONE=FOLDER"),
        (["kidney", "--from", "x", "--check"], "leave out"),
        (["all", "--from", "x"], "needs the zip of each"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_explained(world, arguments, words):
    status, _, err = world.download(*arguments)
    assert status == 2 and one_sentence(err) and words in err and not world.server.requests


@pytest.fixture
def weights(world, tmp_path, monkeypatch):
    """BiomedCLIP's repository on the server, with tiny weights; what it serves, by file name."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    folder = tiny_models.biomedclip(tmp_path / "tiny")
    return world.server.put_repository(BIOMEDCLIP.name, folder, BIOMEDCLIP.revision)


def test_the_weights_are_fetched_checked_and_exported(world, weights, tmp_path):
    status, _, err = world.download("weights", "--check")
    assert status == 2 and one_sentence(err) and BIOMEDCLIP.revision in err
    plain = tmp_path / "plain"
    status, out, _ = world.download("weights", "--endpoint", world.server.url, "--export", str(plain))
    assert status == 0 and BIOMEDCLIP.revision in out and f"BACKBONE={plain}" in out
    exported = {file.name: file.read_bytes() for file in plain.iterdir()}
    assert BIOMEDCLIP.revision.encode() in exported.pop("ogkd_source.json")
    assert exported == {name: file.content for name, file in weights.items()}
    assert models.load(str(plain)).embed_dim == models.load(str(tmp_path / "tiny")).embed_dim
    before = len(world.server.requests)
    assert world.download("weights", "--check")[0] == 0 and len(world.server.requests) == before


def test_weights_that_are_refused_or_corrupt_are_one_sentence_and_fetched_again(world, weights, tmp_path):
    for file in weights.values():
        file.status = 403
    status, _, err = world.download("weights", "--endpoint", world.server.url)
    assert status == 2 and one_sentence(err) and "could not be fetched" in err
    for file in weights.values():
        file.status = 200
    assert world.download("weights", "--endpoint", world.server.url)[0] == 0
    name = next(name for name in weights if name in BIOMEDCLIP.weights)
    blob = next((tmp_path / "cache").rglob(name)).resolve()
    blob.write_bytes(weights[name].content[:-1] + b"?")
    status, _, err = world.download("weights", "--check")
    assert status == 2 and one_sentence(err) and "is corrupt" in err
    assert world.download("weights", "--endpoint", world.server.url)[0] == 0
    assert next((tmp_path / "cache").rglob(name)).read_bytes() == weights[name].content
