"""Processes that load images: where they would fail or cost more than they save, there are none."""

from __future__ import annotations

import multiprocessing
import re
import subprocess
import sys

import pytest

from dassl.config import get_cfg_default
from ogkd.core.workers import worker_options
from ogkd.phantom.dataset import write_dataset
from tests.conftest import ROOT

LOAD = """
from PIL import Image
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
        loader = type(loader)(loader.dataset, 64, num_workers=2)
    print(sum(len(batch["img"]) for batch in loader), "loaded with", loader.num_workers)

raise SystemExit(run_program(main))
"""


def in_small_container(code: str, folder, megabytes: int) -> subprocess.CompletedProcess:
    """Run Python code where /dev/shm has this size."""
    mount = f"mount -t tmpfs -o size={megabytes}m tmpfs /dev/shm"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("mounting needs root")
    words = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, "-c", code]
    return subprocess.run(words, cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=100)


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
    start = "import multiprocessing\nmultiprocessing.set_start_method('spawn')\n"
    script.write_text(f"{start}{example}\nprint(classifier.score(test, test_labels))\n", encoding="utf-8")
    words = [sys.executable, str(script)]
    done = subprocess.run(words, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout.splitlines()[-1]) <= 1
