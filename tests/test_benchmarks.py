"""The benchmarks run at tiny sizes, and mutations are caught, restored, and their texts where they are."""

import json
import queue
import re
import threading

import pytest
import torch

from benchmarks import gpu, mutations, scaling
from ogkd.core import UserError
from tests.support.tiny_models import biomedclip


@pytest.fixture
def checkout(tmp_path):
    """A checkout of one method and its one test."""
    for name, text in {
        "trainers/moved/half.py": "def half(x):\n    return x / 2  # of x\n",
        "tests/test_half.py": "from trainers.moved.half import half\n\ndef test_half():\n    assert half(4) == 2\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("new", "survives"), [("x / 3", False), ("0.5 * x", True)])
def test_a_mutation_is_caught_if_a_test_fails_and_leaves_the_code_as_it_was(checkout, new, survives):
    before = (checkout / "trainers/moved/half.py").read_text()
    mutation = mutations.Mutation("half.py", ("test_half.py",), "x / 2", new, "another share")
    assert mutations.survives(mutation, checkout) == survives
    assert (checkout / "trainers/moved/half.py").read_text() == before


@pytest.mark.parametrize("file", ["half.py", "renamed.py"])
def test_a_mutation_finds_its_text_in_a_file_that_has_moved_or_another_name(checkout, file):
    mutation = mutations.Mutation(file, (), "x / 2", "x / 3", "another share")
    assert mutation.place(checkout) == checkout / "trainers/moved/half.py"


@pytest.mark.parametrize("old", ["x / 4", "x"])  # not there, there twice
def test_a_mutation_of_a_text_that_is_not_there_once_is_an_error(checkout, old):
    with pytest.raises(UserError, match=r"half\.py"):
        mutations.survives(mutations.Mutation("half.py", ("test_half.py",), old, "y", "nothing"), checkout)


# Speed: the benchmarks run at tiny sizes on any machine


@pytest.mark.slow
def test_the_gpu_benchmark_runs_without_a_gpu_and_agrees_with_the_reference(tmp_path):
    assert gpu.main(["--device", "cpu", "--tiny", "--most", "0", "--out", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert [row["difference"] < 1e-5 for row in results["steps"] if "difference" in row] == [True, True]
    page = (tmp_path / "gpu.md").read_text()
    assert all(f"| {name}" in page for name in ("CoOp", "OGKD", "LinearProbe"))


@pytest.mark.slow
def test_a_run_side_by_side_counts_its_steps(tmp_path):
    weights, results = biomedclip(tmp_path / "weights"), queue.Queue()
    gpu._work(scaling.Place(tmp_path, weights), 0.1, 2, gpu.Setting("cpu"), threading.Barrier(1), results)
    steps_per_second, peak = results.get_nowait()
    assert steps_per_second > 0
    assert peak > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_the_gpu_benchmark_says_that_there_is_no_gpu():
    with pytest.raises(UserError, match="no GPU"):
        gpu.main([])


def test_the_tables_are_projected_from_the_steps_of_the_configurations():
    """5,600 steps of OGKD and 650 of CoOp per seed (docs/benchmark.md), here of half a second."""
    runs = [{"method": name, "setup": 0.0, "epoch": 1.0, "steps": 2, "images": 8} for name in ("OGKD", "CoOp")]
    flat = gpu.projection({2: 1.0, 4: 1.0, 8: 1.0}, runs, 0.0, 1.0)["base2new"]
    assert (flat["OGKD"], flat["CoOp"]) == pytest.approx((3 * 5600 / 120, 3 * 650 / 120))
    fewer = gpu.projection({2: 0.5, 4: 1.0}, runs, 0.0, 2.0)["base2new"]  # most sets have two or three base classes
    assert fewer["OGKD"] < flat["OGKD"] / 2
    images = gpu.projection({4: 1.0}, runs, 0.125, 1.0)[
        "base2new"
    ]  # then an epoch is its images, and all is test images
    assert images["OGKD"] == pytest.approx(3 * 5600 * 4 * 0.125 / 60)


@pytest.mark.slow
def test_the_scaling_benchmark_writes_a_table_and_a_plot(tmp_path):
    assert scaling.main(["--tiny", "--only", "step", "interval-macro_auroc", "--out", str(tmp_path)]) == 0
    assert len(re.findall("^\\| .* \\| .*\\d", (tmp_path / "scaling.md").read_text(), re.MULTILINE)) == 4
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("seconds", "named"), [(9.0, False), (20.0, True)])
def test_what_grows_faster_than_its_work_is_named(seconds, named):
    measured = [scaling.Measured("step", 8, 2.0, 2.0, 1.0), scaling.Measured("step", 32, 9.0, seconds, 1.0)]
    assert bool(scaling.too_steep(scaling.with_growth(measured))) == named
