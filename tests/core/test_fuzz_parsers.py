"""Every reader of a file gives what the file says or a UserError in one line, whatever bytes the file holds.

FUZZ=2000 in the environment sets the number of examples of each test.
"""

import copy
import io
import json
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.data import get_testdata_file
from safetensors.torch import save

from dassl.config import get_cfg_default
from ogkd import models
from ogkd.classes import read_geometry
from ogkd.classes.graphs import read_graph
from ogkd.core import UserError
from ogkd.core.images import read_image
from ogkd.core.torchtools import load_checkpoint, restore, save_checkpoint
from ogkd.data.splits import parse_split
from ogkd.evaluation.collect import collect
from ogkd.evaluation.predictions import Predictions
from ogkd.predict.export import KIND, read_prompt
from ogkd.predict.predictor import Predictor
from ogkd.prompts.bank import is_bank, read_bank
from ogkd.prompts.importing import parse_bank
from ogkd.reports.page import write as write_page
from ogkd.reports.render import document
from ogkd.reports.tables import TABLES, average
from ogkd.runs.config import check_values, extend_config, merge_yaml
from ogkd.runs.records import run_config, sampled_images
from ogkd.runs.registry import register_everything
from tests.conftest import ROOT
from tests.support import tiny_models
from tests.support.tables import write_run

EXAMPLES = int(os.environ.get("FUZZ", 60))
fuzz = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.integers(), st.just(10**400), st.floats(), st.text(max_size=8)
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def quietly(read, *arguments, **more):
    """What a reader gives, or None for a UserError of one line; any other exception is a failure."""
    try:
        return read(*arguments, **more)
    except UserError as error:
        assert str(error).strip()
        return None


def damaged(content: bytes):
    """Strategy: the content with bytes changed, a piece cut out or put in, or the end cut off; or any bytes at all."""
    size = len(content)

    def change(places):
        found = bytearray(content)
        for place, value in places:
            found[place] = value
        return bytes(found)

    def piece(start, length, inserted):
        return content[:start] + inserted + content[start + length :]

    at = st.integers(0, size - 1)
    return st.one_of(
        st.lists(st.tuples(at, st.integers(0, 255)), min_size=1, max_size=8).map(change),
        st.builds(piece, at, st.integers(0, max(1, size // 2)), st.binary(max_size=8)),
        at.map(lambda end: content[:end]),
        st.binary(max_size=64),
    )


@st.composite
def changed(draw, content):
    """Strategy: plain values with one to three places in them replaced, removed or added to."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        node = content
        while isinstance(node, (dict, list)) and node:
            key = draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
            if isinstance(node[key], (dict, list)) and node[key] and draw(st.integers(0, 3)):
                node = node[key]
                continue
            action = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
            if action == "replace":
                node[key] = draw(values)
            elif action == "remove":
                del node[key]
            elif isinstance(node, dict):
                node[draw(st.text(max_size=5))] = draw(values)
            else:
                node.append(draw(values))
            break
    return content


def json_like(content):
    """Strategy: bytes of a JSON file that was such content once."""
    text = json.dumps(content).encode()
    return st.one_of(changed(content).map(lambda found: json.dumps(found).encode()), damaged(text))


def yaml_like(content):
    """Strategy: bytes of a YAML file that was such content once."""
    dumped = changed(content).map(lambda found: yaml.safe_dump(found, allow_unicode=True).encode("utf-8", "replace"))
    return st.one_of(dumped, damaged(yaml.safe_dump(content).encode()))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


# Data

SPLIT = {part: [[f"{part}{i}/{n}.png", n, name] for n, name in enumerate("ab") for i in (1, 2)]
         for part in ("train", "val", "test")}  # fmt: skip


def _images() -> list[bytes]:
    pixels = np.arange(12 * 10 * 3, dtype=np.uint8).reshape(12, 10, 3)
    made = []
    for form in ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF"):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, form)
        made.append(file.getvalue())
    shipped = ("CT_small", "693_J2KI", "JPEG2000", "MR_small_RLE", "MR_small_jpeg_ls_lossless")
    return [*made, *(Path(get_testdata_file(f"{name}.dcm", download=False)).read_bytes()[:20_000] for name in shipped)]


# Prompts and geometry

BANK = {"normal": ["a scan of a normal organ.", "healthy tissue"], "cyst": ["a scan of a cyst.", "a round cyst"]}


GEOMETRY = yaml.safe_load((ROOT / "ogkd" / "classes" / "Phantom.yaml").read_text())
GRADES = {"order": ["none", "mild", "severe"], "costs": {"none": {"severe": 1.0}}, "source": "a book", "reviewed": True}


# Runs

CONFIG = {
    "_BASE_": "base.yaml",
    "DATASET": {"NAME": "Phantom", "NUM_SHOTS": 4},
    "INPUT": {"SIZE": [160, 160], "RRCROP_SCALE": "(0.1, 1.0)", "TRANSFORMS": ["normalize"], "PIXEL_STD": [1, 1, 1]},
    "OPTIM": {"LR": 0.1, "MAX_EPOCH": 3, "NAME": "sgd", "STEPSIZE": [-1]},
    "TRAINER": {"COOP": {"N_CTX": 4, "CTX_INIT": "a photo of a", "CSC": False}},
}


def read_method(path):
    register_everything()
    cfg = get_cfg_default()
    extend_config(cfg)
    cfg.TRAINER.NAME = "CoOp"
    path.with_name("base.yaml").write_text("SEED: 2\n")
    merge_yaml(cfg, path, "CoOp")
    check_values(cfg)
    return json.dumps(cfg)


RUN_CONFIG = {
    "DATASET": {"NAME": "Phantom", "FOLDER": "", "TEST_ON": ""},
    "TRAINER": {"NAME": "CoOp"},
    "MODEL": {"BACKBONE": {"NAME": "PhantomCLIP"}},
    "INPUT": {"SIZE": [160, 160]},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with two runs, and what the second one's results.json holds."""
    folder = tmp_path_factory.mktemp("finished")
    write_run(folder / "one", "few_shot", "BTMRI", "CoOp", 1, 50.0)
    run = write_run(
        folder / "two", "few_shot", "BTMRI", "CoOp", 2, 60.0, changed={"OPTIM.LR": 0.1}, title="CoOp", trained=True,
        source="", notes=["a note"], versions={"python": "3.11"}, novel=True, split="test",
    )  # fmt: skip
    return folder, json.loads((run / "results.json").read_text())


@pytest.mark.slow
@settings(fuzz, max_examples=EXAMPLES // 3)  # each writes a page
@given(data=st.data())
def test_results(finished, data):
    folder, results = finished
    (folder / "two" / "results.json").write_bytes(data.draw(json_like(results)))
    runs = collect(folder)
    assert runs[0].results["accuracy"] == 50.0  # the intact run is there, whatever the other one holds
    for protocol in TABLES:
        tables = quietly(TABLES[protocol], runs)
        for form in ("markdown", "latex", "csv") if tables else ():
            document([*tables, average(tables, protocol)[0]], form)
    quietly(write_page, folder, folder / "page.html")


def _predictions() -> bytes:
    buffer = io.BytesIO()
    arrays = {
        "images": np.array(["a.png", "b.png"]), "labels": np.array([0, 1]), "logits": np.eye(2, dtype="<f4"),
        "classnames": np.array(["normal", "cyst"]),
    }  # fmt: skip
    np.savez(buffer, **arrays)
    return buffer.getvalue()


# Learned parameters


def _parts():
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return model, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)


def _checkpoint() -> dict:
    model, optimizer, scheduler = _parts()
    return {
        "state_dict": dict(model.state_dict()), "epoch": 1, "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(), "val_result": 50.0,
        "meta": {"method": "CoOp", "backbone": "09be77", "files": {}},
    }  # fmt: skip


def _saved(checkpoint: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()


@st.composite
def spoiled(draw):
    """Strategy: a checkpoint with places in it replaced by anything, tensors of other shapes too."""
    checkpoint, more = _checkpoint(), st.sampled_from([torch.zeros(2, 3), torch.zeros(5), torch.tensor(1)]) | values
    for _ in range(draw(st.integers(1, 3))):
        node = checkpoint
        while node:
            key = draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
            if isinstance(node[key], (dict, list)) and node[key] and draw(st.integers(0, 3)):
                node = node[key]
            elif draw(st.integers(0, 3)):
                node[key] = draw(more)
                break
            else:
                del node[key]
                break
    return _saved(checkpoint)


def _with_switch(value):
    checkpoint = _checkpoint()
    checkpoint["optimizer"]["param_groups"][0]["foreach"] = value
    return _saved(checkpoint)


@fuzz
@example(_with_switch(torch.zeros(2, 3)))
@given(st.one_of(spoiled(), damaged(_saved(_checkpoint()))))
def test_a_checkpoint(place, content):
    path = place / "model.pth.tar-1"
    path.write_bytes(content)
    checkpoint = quietly(load_checkpoint, str(path))
    if checkpoint is None:
        return
    model, optimizer, scheduler = _parts()
    if quietly(restore, checkpoint, model, optimizer, scheduler, str(path)) is None:
        return
    model(torch.ones(1, 3)).sum().backward()  # what was restored can go on
    optimizer.step()
    scheduler.step()
    with suppress(ValueError):  # NaN in the tensors is no matter of the file's form
        save_checkpoint({"state_dict": model.state_dict(), "epoch": 2}, str(place / "next"))


PROMPT = {
    "kind": KIND, "format": 1, "method": "CoOp", "options": {"N_CTX": 4, "CTX_INIT": "a photo of a"},
    "classes": ["normal", "cyst"], "training_images": [2, 2], "dataset": "Phantom",
    "backbone": {"name": "PhantomCLIP", "revision": None, "fingerprint": "09be77"},
    "images": {"FRAME": 0, "RESIZE": "", "SIZE": [160, 160], "INTERPOLATION": "bicubic", "TRANSFORMS": ["normalize"],
               "PIXEL_MEAN": [0.4, 0.4, 0.4], "PIXEL_STD": [0.2, 0.2, 0.2], "NO_TRANSFORM": False},
    "temperature": 1.5, "validation_images": 4, "sentences": None, "versions": {"python": "3.11"},
}  # fmt: skip


def read_prompt_and_use_it(path):
    (path.parent / "prompt.safetensors").write_bytes(save({"prompt_learner.ctx": torch.zeros(4, 3)}))
    prompt = read_prompt(path.parent)
    Predictor(prompt)
    return prompt


# What reads one file: its name, what it holds, the reader, and what must be true of what it gives

IMAGES = st.sampled_from(_images()).flatmap(damaged)
GRAPH_FILE = damaged(b"class,a,b\na,1.0,0.25\nb,0.25,1.0\n")
READERS = {
    "split.json": (json_like(SPLIT), lambda path: parse_split(path.read_bytes(), path.name),
                   lambda split: all(split[part] for part in SPLIT)),
    **{f"image.{suffix}": (IMAGES, read_image, lambda image: image.mode == "RGB") for suffix in ("png", "tif", "dcm")},
    "bank.json": (json_like(BANK), read_bank, is_bank),
    "bank.py": (damaged(f"import os\nTEMPLATES = {BANK!r}\n".encode()),
                lambda path: parse_bank(path.read_bytes(), ["TEMPLATES"], path.name), is_bank),
    "geometry.yaml": (st.sampled_from([GEOMETRY, GRADES]).flatmap(yaml_like), read_geometry,
                      lambda geometry: len(geometry.classnames) > 1),
    "graph.csv": (GRAPH_FILE, lambda path: read_graph(path, ["a", "b"]), lambda graph: np.isfinite(graph).all()),
    "finished.csv": (GRAPH_FILE, lambda path: read_graph(path, ["a", "b"], True), lambda graph: (graph >= 0).all()),
    "method.yaml": (yaml_like(CONFIG), read_method, bool),
    "run/config.yaml": (yaml_like(RUN_CONFIG), lambda path: run_config(path.parent),
                        lambda config: isinstance(config["MODEL"]["BACKBONE"]["NAME"], str)),
    "run/split.json": (json_like(SPLIT), lambda path: sampled_images(path.parent),
                       lambda images: all(isinstance(name, str) for _, _, name in images["train"])),
    "predictions.npz": (damaged(_predictions()), Predictions.load, lambda found: np.isfinite(found.logits).all()),
    "prompt/config.json": (json_like(PROMPT), read_prompt_and_use_it, bool),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
@fuzz
@given(data=st.data())
def test_a_file_is_read_as_it_says_or_refused_in_one_sentence(tmp_path_factory, name, data):
    contents, read, sound = READERS[name]
    path = tmp_path_factory.getbasetemp() / "fuzz" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.draw(contents))
    value = quietly(read, path)
    assert value is None or sound(value)


# Models


FORMATS = {
    "open_clip_config.json": tiny_models.biomedclip,
    "config.json": tiny_models.transformers_clip,
    "preprocessor_config.json": tiny_models.transformers_clip,
    "config.json of a text tower": tiny_models.biomedclip,
}


@pytest.fixture(scope="module", params=FORMATS)
def configuration(request, tmp_path_factory):
    """A file of a tiny model's folder."""
    folder = tmp_path_factory.mktemp("model") / "folder"
    FORMATS[request.param](folder)
    if FORMATS[request.param] is tiny_models.biomedclip:
        tiny_models.write_text_config(folder)
    return folder / request.param.split()[0]


def _loaded(folder):
    models.image_spec(folder)
    found = models.load(folder)
    return found.encode_image(torch.zeros(1, 3, found.image_size, found.image_size)).global_token


@settings(fuzz, max_examples=EXAMPLES // 2)  # each builds a model
@given(data=st.data())
def test_a_models_configuration(configuration, data):
    path = configuration
    intact = path.read_bytes() if path.is_file() else b'{"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}'
    try:
        path.write_bytes(data.draw(json_like(json.loads(intact))))
        quietly(_loaded, path.parent)
    finally:
        path.write_bytes(intact)
