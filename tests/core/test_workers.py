"""Processes that load images: where they would fail or cost more than they save, there are none."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from dassl.config import get_cfg_default
from dassl.data import Datum
from dassl.data.data_manager import build_data_loader
from dassl.data.transforms import build_transform
from ogkd.core import decoded, workers
from ogkd.core.images import read_image
from ogkd.core.memory import available_bytes
from ogkd.core.torchtools import set_random_seed
from ogkd.core.workers import worker_options
from ogkd.phantom.dataset import write_dataset
from tests.conftest import ROOT
from tests.support.forked import python

LOAD = """
from PIL import Image
from torch.utils.data import DataLoader
from dassl.config import get_cfg_default
from dassl.data import Datum
from dassl.data.data_manager import build_data_loader
from dassl.data.transforms import build_transform
from dassl.utils import run_program

def main():
    cfg = get_cfg_default()
    cfg.DATALOADER.NUM_WORKERS, cfg.VERBOSE = 2, False
    Image.new("RGB", (8, 8)).save("image.png")
    items = [Datum("image.png")] * 200
    loader = build_data_loader(cfg, data_source=items, tfm=build_transform(cfg, is_train=False), is_train=False)
    if {by_hand}:
        loader = DataLoader(loader.dataset, 64, num_workers=2)
    print(sum(len(batch["img"]) for batch in loader), "loaded with", loader.num_workers)

raise SystemExit(run_program(main))
"""


SMALL = """
import ctypes, os, subprocess
NEW_MOUNTS, NO_ROOT = 0x20000, 77
mounts = ["--make-rprivate", "/"], ["-t", "tmpfs", "-o", "size={megabytes}m", "tmpfs", "/dev/shm"]
if ctypes.CDLL(None).unshare(NEW_MOUNTS) or any(subprocess.run(["mount", *words]).returncode for words in mounts):
    os._exit(NO_ROOT)
"""


def in_small_container(code: str, folder, megabytes: int) -> subprocess.CompletedProcess:
    """Run Python code where /dev/shm has this size."""
    if not sys.platform.startswith("linux"):
        pytest.skip("elsewhere there is no /dev/shm")
    done = python(["-c", SMALL.format(megabytes=megabytes) + code], folder, {**os.environ, "PYTHONPATH": str(ROOT)})
    if done.returncode == 77:
        pytest.skip("mounting needs root")
    return done


@pytest.mark.slow
def test_dockers_shared_memory_of_64_mb_is_enough(tmp_path):
    done = in_small_container(LOAD.replace("{by_hand}", "False"), tmp_path, 64)
    assert (done.returncode, done.stdout, done.stderr) == (0, "200 loaded with 0\n", "")


@pytest.mark.slow
def test_shared_memory_that_fills_up_is_one_sentence_with_the_mend(tmp_path):
    done = in_small_container(LOAD.replace("{by_hand}", "True"), tmp_path, 20)
    assert done.returncode == 2
    assert re.search(r"error: .*NUM_WORKERS 0.*--shm-size", done.stderr.splitlines()[-1])
    assert "Traceback" not in done.stderr


def test_processes_are_forked_where_their_batches_fit_into_shared_memory(monkeypatch, tmp_path):
    if not sys.platform.startswith("linux"):
        pytest.skip("elsewhere there are none")
    cfg = get_cfg_default()
    monkeypatch.setattr("ogkd.core.workers.SHARED_MEMORY", tmp_path / "absent")
    assert worker_options(cfg, 32) == {"num_workers": 4, "multiprocessing_context": "fork"}
    cfg.DATALOADER.NUM_WORKERS = 0
    assert worker_options(cfg, 32) == {"num_workers": 0}


def options_of_a_child(results) -> None:
    results.put(worker_options(get_cfg_default(), 1))


def test_a_process_that_may_have_no_children_loads_images_itself():
    results = multiprocessing.Queue()
    child = multiprocessing.Process(target=options_of_a_child, args=(results,), daemon=True)
    child.start()
    assert results.get(timeout=60) == {"num_workers": 0}
    child.join()


@pytest.mark.slow
def test_the_first_example_of_docs_python_md_is_a_script_where_processes_are_not_forked(tmp_path):
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    example = re.search(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[1]
    write_dataset(tmp_path / "data" / "Phantom", counts={"train": 5, "val": 4, "test": 4})
    script = tmp_path / "script.py"
    start = "import multiprocessing\nmultiprocessing.set_start_method('spawn', force=True)\n"
    script.write_text(f"{start}{example}\nprint(classifier.score(test, test_labels))\n", encoding="utf-8")
    done = python([str(script)], tmp_path, {**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout.splitlines()[-1]) <= 1


FORKS = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere there are no processes")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    paths = [str(folder / f"{number}.png") for number in range(7)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (12, 9, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture
def loading(monkeypatch):
    """Four cores, no image in memory, and processes that start in no time."""
    monkeypatch.setattr("dassl.data.data_manager.DECODED", decoded.DecodedImages())
    monkeypatch.setattr(workers, "_cores", lambda: 4)
    monkeypatch.setattr(workers, "_seconds_to_start", lambda: 0.0)
    yield monkeypatch
    if (owner := workers._owner()) is not None:
        owner.end_processes()


def training_loader(paths, number=2, share=0.25):
    cfg = get_cfg_default()
    cfg.VERBOSE, cfg.DATALOADER.NUM_WORKERS, cfg.DATALOADER.MEMORY_SHARE = False, number, share
    cfg.INPUT.SIZE, cfg.INPUT.TRANSFORMS = (8, 8), ("random_resized_crop", "random_flip", "normalize")
    tfm, items = build_transform(cfg, is_train=True), [Datum(path) for path in paths]
    return build_data_loader(cfg, "RandomSampler", items, 2, tfm=tfm)


def epoch(loader, number, batches=None):
    """The batches of an epoch, and the random state after it."""
    set_random_seed(number)
    loader.dataset.epoch_seed = number
    shown = [batch["img"] for batch in itertools.islice(loader, batches)]
    return torch.stack(shown), torch.rand(1)


@FORKS
@settings(max_examples=8, deadline=None)
@given(
    number=st.integers(0, 2),
    share=st.sampled_from([0, 1e-9, 0.25]),
    start=st.sampled_from([0.0, 1e-4, 1e9]),
    first=st.integers(0, 2),
    broken_off=st.booleans(),
)
def test_crops_are_the_same_with_any_number_of_processes_in_memory_or_not_and_after_resuming(
    images, number, share, start, first, broken_off
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dassl.data.data_manager.DECODED", decoded.DecodedImages())
        patch.setattr(workers, "_cores", lambda: 4)
        patch.setattr(workers, "_seconds_to_start", lambda: start)
        loader = training_loader(images, number, share)
        usual = DataLoader(loader.dataset, 2, shuffle=True, drop_last=True)
        expected = [epoch(usual, seed) for seed in range(3)]  # from files, since nothing is in memory yet
        assert not torch.equal(expected[0][0], expected[1][0])
        if broken_off:
            epoch(loader, 9, batches=1)
        for seed in range(first, 3):
            for ours, theirs in zip(epoch(loader, seed), expected[seed], strict=True):
                assert torch.equal(ours, theirs)
        loader.end_processes()


@FORKS
def test_processes_stay_for_later_epochs_and_end_when_another_loader_starts_its_own(images, loading):
    loading.setattr(workers.Loader, "_pays", lambda self: True)
    children, of_other_tests = [], {child.pid for child in multiprocessing.active_children()}
    loader, other = training_loader(images), training_loader(images)
    for one in (loader, loader, other):
        epoch(one, 1)
        children.append({child.pid for child in multiprocessing.active_children()} - of_other_tests)
    assert len(children[0]) == 2
    assert children[0] == children[1]
    assert children[0].isdisjoint(children[2])


@FORKS
def test_on_a_cpu_processes_start_only_where_loading_takes_longer_than_what_is_done_with_the_images(images, loading):
    loader = training_loader(images)
    loader._loading, loader._using = 1.0, 2.0
    assert loader._pays() == loader.pin_memory
    loader._using = 0.5
    assert loader._pays()
    loading.setattr(workers, "_seconds_to_start", lambda: 0.3)
    assert loader._pays() == loader.pin_memory
    loading.setattr(workers, "_cores", lambda: 1)
    assert not loader._pays()


@FORKS
def test_without_a_seed_per_epoch_the_number_of_processes_is_as_given(images, loading):
    loader = training_loader(images)
    usual = DataLoader(loader.dataset, 2, shuffle=True, drop_last=True, num_workers=2, multiprocessing_context="fork")
    shown = []
    for one in (loader, usual):
        set_random_seed(1)
        shown.append(torch.stack([batch["img"] for batch in one]))
    assert torch.equal(*shown)


def test_a_training_image_is_decoded_once_for_all_epochs_and_loaders(images, loading):
    decodings = []
    loading.setattr(decoded, "read_image", lambda *words: decodings.append(words[0]) or read_image(*words))
    for loader in (training_loader(images, 0), training_loader(images, 0)):
        for number in range(3):
            epoch(loader, number)
    assert sorted(decodings) == sorted([images[0], *images])  # the first once more, for its size


def test_images_that_do_not_fit_into_memory_are_read_in_each_epoch_and_the_log_says_so(images, loading, capsys):
    loader = training_loader(images, 0, 1e-9)
    epoch(loader, 1), epoch(loader, 2)
    assert capsys.readouterr().out.count("DATALOADER.MEMORY_SHARE") == 1


def test_an_image_that_changes_is_decoded_again(tmp_path, loading):
    path, store = str(tmp_path / "image.bmp"), decoded.DecodedImages()
    for image in (Image.new("RGB", (3, 2), "red"), Image.new("RGB", (5, 4), "blue")):
        image.save(path)
        store.keep([path], 0, 0.25)
        assert store.read(path, 0).tobytes() == image.tobytes()
        assert store.used == len(image.tobytes())


def test_a_set_takes_the_place_of_another_and_memory_stays_within_the_share(images, loading):
    store = decoded.DecodedImages()
    size = 3 * 12 * 9
    loading.setattr(decoded, "available_bytes", lambda: 16 * size - store.used)
    for some in (images[:3], images[2:6]):  # the share is for four images
        assert store.keep(some, 0, 0.25) == 0
        assert {path for path, _ in store._images} >= set(some)
        assert store.used <= 4 * size
    assert store.keep(images, 0, 0.25) > 0


def test_the_limit_of_a_container_counts(tmp_path):
    group = tmp_path / "cgroup" / "job" / "step"
    for file, text in {
        tmp_path / "proc" / "meminfo": "MemTotal: 900 kB\nMemAvailable: 800 kB\n",
        tmp_path / "proc" / "self" / "cgroup": "0::/job/step\n",
        group / "memory.max": "max\n",
        group.parent / "memory.max": "5000\n",
        group.parent / "memory.current": "4000\n",
        group.parent / "memory.stat": "anon 100\ninactive_file 3000\n",
    }.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert available_bytes(tmp_path / "proc", tmp_path / "cgroup") == 4000
    assert available_bytes(tmp_path / "proc", tmp_path / "none") == 800 * 1024
