"""Features as arrays: those that training encodes, in the order of the images."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

import ogkd
from ogkd.core import UserError
from ogkd.predict import embed
from ogkd.predict.classifier import PromptClassifier
from ogkd.runs.records import sampled_images
from tests.support import tiny_models
from tests.support.check_method import SmallRuns


@pytest.fixture(scope="module")
def probe(tmp_path_factory, data):
    """A finished run of a probe with a feature cache of its own: the run's folder and the cache."""
    runs = SmallRuns("LinearProbe", tmp_path_factory.mktemp("probe"), data)
    runs.run("run")
    return runs.folder / "run", runs.cache


@pytest.fixture
def image_folder(data):
    return data / "Phantom" / "Phantom"


def entries(cache, count):
    """The cached features of each part with `count` images."""
    for path in cache.glob("*.safetensors"):
        with safe_open(path, "np") as file:
            features = file.get_tensor("features")
            if json.loads(file.metadata()["key"])["kind"] == "image" and len(features) == count:
                yield features


def test_features_are_those_that_training_encodes(probe, image_folder):
    run, cache = probe
    images = [image_folder / path for path, *_ in sampled_images(run)["train"]]
    features = ogkd.embed(images, run, batch=64)
    (trained_on,) = [part for part in entries(cache, len(images)) if np.array_equal(part, features)]
    for source in (run, "PhantomCLIP"):
        features = ogkd.embed(images, source)
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, trained_on, atol=1e-6)


def test_a_classifier_embeds_with_its_own_backbone(probe, image_folder):
    paths = sorted(image_folder.glob("*/000.png"))[:3]
    pictures = [Image.open(path) for path in paths]
    features = PromptClassifier.load(probe[0]).embed(pictures)
    np.testing.assert_array_equal(features, ogkd.embed(paths, "PhantomCLIP"))
    assert ogkd.embed([], "PhantomCLIP").shape == (0, features.shape[1])


def test_the_command_writes_arrays_or_a_table_and_leaves_out_what_it_cannot_read(command, image_folder, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    paths = sorted(map(str, image_folder.glob("*_mass/*.png")))[:9]
    words = ["scripts/embed.py", "PhantomCLIP", *paths, str(tmp_path / "bad.png"), "--batch", "4", "-o"]
    done = command([*words, str(tmp_path / "features.npz")])
    assert done.returncode == 0 and "1 of 10 images" in done.stderr and "bad.png: not read" in done.stderr
    with np.load(tmp_path / "features.npz") as arrays:
        assert arrays["paths"].tolist() == paths
        np.testing.assert_allclose(arrays["features"], ogkd.embed(paths, "PhantomCLIP"), atol=1e-6)
        assert command([*words, str(tmp_path / "features.csv")]).returncode == 0
        with (tmp_path / "features.csv").open(newline="") as file:
            _, *rows = csv.reader(file)
        assert [row[0] for row in rows] == paths
        np.testing.assert_allclose([list(map(float, row[1:])) for row in rows], arrays["features"], atol=1e-7)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["PhantomCLIP", "{image}", "-o", "{tmp}/features.parquet"], "neither a .npz nor a .csv"),
        (["PhantomCLIP", "{image}", "-o", "{tmp}/no/features.npz"], "create it first"),
        (["PhantomCLIP", "{tmp}/absent.png", "-o", "{tmp}/features.npz"], "No image could be read"),
        (["PhantomKLIP", "{image}", "-o", "{tmp}/features.npz"], "PhantomCLIP"),
    ],
)
def test_what_is_wrong_is_reported_and_nothing_is_written(image_folder, tmp_path, words, sentence):
    image = next(image_folder.glob("*/*.png"))
    with pytest.raises(UserError, match=sentence):
        embed.main([word.format(image=image, tmp=tmp_path) for word in words])
    assert list(tmp_path.iterdir()) == []


def test_other_weights_than_the_prompt_s_are_refused(probe, image_folder, tmp_path):
    tiny_models.biomedclip(tmp_path / "other")
    with pytest.raises(UserError, match="fingerprint"):
        embed.main(
            [str(probe[0]), str(image_folder), "--backbone", str(tmp_path / "other"), "-o", str(tmp_path / "f.npz")]
        )
