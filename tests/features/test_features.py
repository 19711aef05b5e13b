"""Features stored on disk equal the features that would be computed."""

import pytest
import torch

from ogkd.features.cache import FeatureCache
from ogkd.features.encode import text_features
from ogkd.features.keys import model_key
from ogkd.models import load
from tests.support.check_method import SmallRuns, same


class Counting:
    """A computation that counts how often it runs."""

    def __init__(self):
        self.done = 0

    def __call__(self):
        self.done += 1
        return torch.arange(6.0).view(2, 3)


def test_an_entry_is_computed_once_and_another_key_is_another_entry(tmp_path):
    cache, compute = FeatureCache(tmp_path), Counting()
    first = cache.get({"weights": "a"}, compute)
    assert torch.equal(cache.get({"weights": "a"}, compute), first)
    assert compute.done == 1
    cache.get({"weights": "b"}, compute)
    assert compute.done == 2


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty", "of another key"])
def test_a_damaged_entry_is_computed_again(tmp_path, damage):
    cache, compute = FeatureCache(tmp_path), Counting()
    expected = cache.get({"weights": "a"}, compute)
    (path,) = tmp_path.glob("*.safetensors")
    content = path.read_bytes()
    if damage == "of another key":
        other = FeatureCache(tmp_path / "other")
        other.get({"weights": "b"}, lambda: torch.zeros(2, 3))
        content = next((tmp_path / "other").glob("*")).read_bytes()
    flipped = content[:-1] + bytes([content[-1] ^ 1])
    path.write_bytes({"truncated": content[: len(content) // 2], "one bit": flipped, "empty": b""}.get(damage, content))
    assert torch.equal(cache.get({"weights": "a"}, compute), expected)
    assert compute.done == 2
    assert torch.equal(cache.get({"weights": "a"}, compute), expected)
    assert compute.done == 2


def test_without_a_folder_nothing_is_kept():
    cache, compute = FeatureCache(None), Counting()
    cache.get({}, compute)
    cache.get({}, compute)
    assert compute.done == 2


def test_texts_encoded_in_order_of_length_come_back_in_their_own_order():
    model = load("PhantomCLIP")
    texts = ["a photo of a smooth mass with a bright even border.", "cyst", "a photo of a cyst.", "smooth mass"]
    together = text_features(model, texts, FeatureCache(None), "texts", batch=2)
    alone = torch.cat([text_features(model, [text], FeatureCache(None), "texts") for text in texts])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_features_from_the_cache_lie_in_memory_as_computed_ones_do(tmp_path):
    tensor = torch.randn(7, 33)
    FeatureCache(tmp_path).get({"weights": "a"}, lambda: tensor)
    found = FeatureCache(tmp_path).get({"weights": "a"}, lambda: torch.zeros(7, 33))
    assert torch.equal(found, tensor)
    assert found.data_ptr() % 64 == tensor.clone().data_ptr() % 64 == 0


def test_a_run_with_cached_features_learns_and_predicts_the_bits_of_one_with_computed_features(data, tmp_path):
    runs = SmallRuns("OGKD", tmp_path, data, tmp_path / "cache")
    for name, folder in (("cold", runs.cache), ("warm", runs.cache), ("none", "")):
        runs.run(name, "FEATURES.CACHE_DIR", str(folder))
        assert same(runs.learned("cold"), runs.learned(name))
        assert (runs.predictions("cold").logits == runs.predictions(name).logits).all()


def test_a_key_tells_the_processor_and_the_libraries_apart_that_computed_the_features():
    import pydicom

    key = model_key(load("PhantomCLIP"))
    assert key["vectors"] == torch.backends.cpu.get_cpu_capability()
    assert pydicom.__version__ in key["versions"]
