"""OpenAI's files: downloaded only as published, and read without running anything in them."""

import hashlib
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from clip import clip
from clip.model import build_model
from ogkd.core import UserError
from ogkd.models.openai_archive import read_archive
from tests.support.download_server import Served, serving
from tests.support.openai_clip import RESOLUTION, tiny, write_archive

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:Warning", "ignore::torch.jit.TracerWarning")
DTYPES = (
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return tiny(vocab_size=300)


@pytest.fixture(scope="module")
def archive(model, tmp_path_factory):
    """A TorchScript archive of a tiny fp16 CLIP."""
    half = build_model(model.state_dict())
    return write_archive(tmp_path_factory.mktemp("archive") / "tiny.pt", half)


@pytest.fixture
def server():
    with serving() as running:
        yield running


def rewritten(archive: Path, path: Path, change) -> Path:
    """A copy of an archive, each entry as `change(name, content)` makes it, left out where that is None."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return path


def same(found: dict, expected: dict) -> bool:
    return set(found) == set(expected) and all(
        found[name].dtype is value.dtype and torch.equal(found[name], value) for name, value in expected.items()
    )


# Archives


def test_an_archives_tensors_are_those_that_torchscript_loads(archive):
    state = read_archive(archive)
    assert same(state, torch.jit.load(archive, map_location="cpu").state_dict())
    assert {value.dtype for value in state.values()} == {torch.float16, torch.float32, torch.int64}


class Odd(nn.Module):
    """A module with all that an archive may hold beside parameters: buffers, views, plain tensors, lists, a device."""

    def __init__(self, buffers):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.tied = self.inner[0]
        self.plain = torch.arange(3.0)
        self.sizes = [1, 2]
        self.names = {"a": 1.5}
        self.place = torch.device("cpu")
        for index, buffer in enumerate(buffers):
            self.register_buffer(f"buffer{index}", buffer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tied(x) + self.inner(x) + self.plain + self.sizes[0] + self.names["a"]


@settings(max_examples=15)
@given(st.lists(st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=3)), max_size=4))
def test_any_buffers_of_a_scripted_module_are_read(tmp_path_factory, buffers):
    path = tmp_path_factory.mktemp("odd") / "odd.pt"
    tensors = [torch.randint(0, 2, shape).to(dtype) for dtype, shape in buffers]
    whole = torch.arange(12.0).view(3, 4)
    module = Odd([*tensors, whole, whole.t(), whole[1:, 1::2]]).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(path)
    assert same(read_archive(path), torch.jit.load(path).state_dict())


@torch.no_grad()
def test_clip_load_reads_an_archive_as_the_published_ones_are(archive, model):
    loaded, _ = clip.load(str(archive), "cpu")
    images, tokens = torch.randn(2, 3, RESOLUTION, RESOLUTION), torch.randint(1, 300, (3, 77))
    expected = build_model(model.state_dict()).float()
    assert torch.equal(loaded.encode_image(images), expected.encode_image(images))
    assert torch.equal(loaded.encode_text(tokens), expected.encode_text(tokens))


def test_trainers_load_an_archive_themselves(archive, model):
    jit_model = torch.jit.load(clip._download(clip._MODELS[str(archive)]), map_location="cpu").eval()
    built = clip.build_model(jit_model.state_dict())
    assert same(built.state_dict(), build_model(model.state_dict()).state_dict())


def test_the_code_of_an_archive_is_not_even_compiled(archive, tmp_path):
    def broken(name, content):
        return b"def nonsense(:" if name.endswith("container.py") else content

    path = rewritten(archive, tmp_path / "broken.pt", broken)
    with pytest.raises(RuntimeError):
        torch.jit.load(path)
    assert same(read_archive(path), read_archive(archive))


class Touch:
    """An object whose pickle makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_what_a_pickle_calls_is_not_called(archive, tmp_path):
    trap = pickle.dumps(Touch(tmp_path / "touched"), protocol=2)
    path = rewritten(archive, tmp_path / "trap.pt", lambda name, c: trap if name.endswith("/data.pkl") else c)
    assert read_archive(path) == {}
    with pytest.raises(UserError, match="it lacks"):
        clip.load(str(path), "cpu")
    assert not (tmp_path / "touched").exists()
    pickle.loads(trap)
    assert (tmp_path / "touched").exists(), "the trap works"


def drop(end):
    return lambda name, content: None if name.endswith(end) else content


@pytest.mark.parametrize(
    "change",
    [
        drop("/data/3"),
        lambda name, content: content[:6] if name.endswith("/data/3") else content,
        lambda name, content: b"\x80\x02]." if name.endswith("/data.pkl") else content,
    ],
    ids=["no bytes of a tensor", "cut tensor", "another object"],
)
def test_a_damaged_archive_is_one_sentence_that_says_how_to_convert(archive, tmp_path, change):
    path = rewritten(archive, tmp_path / "damaged.pt", change)
    with pytest.raises(UserError, match=r"damaged\.pt.*torch\.save") as caught:
        read_archive(path)
    assert "\n" not in str(caught.value)


@settings(max_examples=30)
@given(st.data())
def test_a_changed_byte_is_found_or_changes_nothing(archive, tmp_path_factory, data):
    content = bytearray(archive.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("flipped") / "flipped.pt"
    path.write_bytes(content)
    try:
        loaded, _ = clip.load(str(path), "cpu")
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert same(loaded.state_dict(), clip.load(str(archive), "cpu")[0].state_dict())


# Downloads


def publish(server, monkeypatch, content: bytes, digest: str | None = None) -> Served:
    """Serve a file under a name of the published models, at an address with its SHA-256."""
    path = f"/clip/models/{digest or hashlib.sha256(content).hexdigest()}/Tiny.pt"
    monkeypatch.setitem(clip._MODELS, "Tiny", server.url + path)
    return server.put(path, Served(content, etag='"0x8D1"'))


def test_a_published_model_is_downloaded_once_and_loaded(server, monkeypatch, archive, tmp_path):
    publish(server, monkeypatch, archive.read_bytes())
    for _ in range(2):
        loaded, _ = clip.load("Tiny", "cpu", download_root=tmp_path / "new" / "cache")
        assert same(loaded.state_dict(), clip.load(str(archive), "cpu")[0].state_dict())
    assert len([request for request in server.requests if request.method == "GET"]) == 1
    assert (tmp_path / "new" / "cache" / "Tiny.pt").read_bytes() == archive.read_bytes()


def test_the_usual_folder_is_clips_cache_in_the_home_folder(server, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    publish(server, monkeypatch, b"weights")
    assert clip._download(clip._MODELS["Tiny"]) == str(tmp_path / ".cache" / "clip" / "Tiny.pt")


def test_another_content_than_the_published_one_never_gets_its_name(server, monkeypatch, tmp_path):
    publish(server, monkeypatch, b"changed", digest=hashlib.sha256(b"weights").hexdigest())
    with pytest.raises(UserError, match=r"did not send the published Tiny\.pt .*SHA-256 differs"):
        clip._download(clip._MODELS["Tiny"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_refuses_is_one_sentence(server, monkeypatch, tmp_path):
    publish(server, monkeypatch, b"weights").status = 403
    with pytest.raises(UserError, match=r"Tiny\.pt cannot be downloaded from .*403.*Tiny\.pt\.$") as caught:
        clip.load("Tiny", download_root=tmp_path)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_a_damaged_copy_is_replaced_once_an_intact_one_is_there(server, monkeypatch, tmp_path):
    served = publish(server, monkeypatch, b"weights")
    (tmp_path / "Tiny.pt").write_bytes(b"weigh")
    served.status = 404
    with pytest.warns(match="SHA-256 differs"), pytest.raises(UserError, match="intact copy"):
        clip._download(clip._MODELS["Tiny"], tmp_path)
    assert (tmp_path / "Tiny.pt").read_bytes() == b"weigh"
    served.status = 200
    with pytest.warns(match="SHA-256 differs"):
        clip._download(clip._MODELS["Tiny"], tmp_path)
    assert (tmp_path / "Tiny.pt").read_bytes() == b"weights"


def test_an_address_without_a_sha256_is_refused(server, tmp_path):
    with pytest.raises(UserError, match="has no SHA-256"):
        clip._download(f"{server.url}/models/Tiny.pt", tmp_path)


def test_a_folder_that_cannot_be_made_is_one_sentence(server, monkeypatch, tmp_path):
    publish(server, monkeypatch, b"weights")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot be downloaded .*file"):
        clip._download(clip._MODELS["Tiny"], tmp_path / "file")
