"""bash scripts/ogkd/ablation.sh: which runs an ablation consists of, and its table."""

import pytest

from ogkd.cli import ablation
from ogkd.core import UserError
from ogkd.evaluation.collect import collect
from ogkd.reports.ablation import ablation_table
from ogkd.runs.config import resolve
from ogkd.runs.protocols import Places, job
from tests.support.tables import write_run

GAMMA = "TRAINER.OGKD.GAMMA"
VALUES = [(0.2, 60.0, 50.0), (0.3, 64.0, 52.0), (1.0, 56.0, 58.0)]  # gamma, base, novel at seed 1; 0.3 as configured


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path / "data", tmp_path / "output", "PhantomCLIP")


def options_of(job):
    return resolve(job.specs[0]).cfg.TRAINER.OGKD


@pytest.mark.parametrize("protocol", ["base2new", "few_shot"])
def test_each_variant_differs_from_the_configured_run_in_one_option_and_none_is_there_twice(places, protocol):
    jobs = ablation.planned(protocol, "phantom", [1], 16, places, [])
    (configured,) = jobs.pop("")
    usual = options_of(configured)
    seen = []
    for option, of_option in jobs.items():
        for one in of_option:
            options = options_of(one)
            assert {key for key in usual if options[key] != usual[key]} == {option}
            seen.append((option, options[option]))
    assert len(seen) == len(set(seen))
    every = {(option, value) for option, values in ablation.VARIANTS.items() for value in values}
    assert {(option, value) for option, value in every if value != usual[option]} == set(seen)


def test_the_configured_run_is_the_main_grids_own_and_variants_have_folders_of_their_own(places):
    jobs = ablation.planned("base2new", "phantom", [1, 2], 16, places, ["OPTIM.MAX_EPOCH", "3"])
    grid = [job("base2new", "OGKD", "phantom", 16, seed, places, ["OPTIM.MAX_EPOCH", "3"]) for seed in (1, 2)]
    assert jobs[""] == grid
    folders = [folder for of_option in jobs.values() for one in of_option for folder in one.folders()]
    assert len(folders) == len(set(folders))
    gamma = places.output / "ablation" / "GAMMA_0.2" / "base2new" / "train_base"
    assert any(folder.is_relative_to(gamma) for folder in folders)


def test_a_data_set_without_a_geometry_file_has_no_variant_of_it(places):
    (places.data / "moles").mkdir(parents=True)
    kinds = {name: [options_of(one).GRAPH for one in ablation.planned("few_shot", name, [1], 16, places, [])["GRAPH"]]
             for name in ("phantom", "moles")}  # fmt: skip
    assert kinds == {"phantom": ["geometry", "identity", "uniform"], "moles": ["identity", "uniform"]}


def test_a_data_set_that_has_no_part_in_the_protocol_is_an_error(places):
    with pytest.raises(UserError, match="busi is not part of base2new: choose another protocol with --protocol"):
        ablation.planned("base2new", "busi", [1], 16, places, [])


def test_students_are_run_with_ogkds_distillation_terms_and_without(places):
    jobs = ablation.planned("few_shot", "phantom", [1], 16, places, ["OPTIM.MAX_EPOCH", "3"], ["CoOp", "PromptSRC"])
    trainers = [resolve(one.specs[0]).cfg.TRAINER for one in jobs["DISTIL"]]
    named = [(cfg.NAME, cfg[cfg.NAME.upper()].DISTIL) for cfg in trainers]
    assert named == [(name, distil) for name in ("CoOp", "PromptSRC") for distil in ("none", "ogkd")]
    assert len({folder for one in jobs["DISTIL"] for folder in one.folders()}) == 4
    with pytest.raises(UserError, match="ZSLP takes no distillation terms"):
        ablation.planned("few_shot", "phantom", [1], 16, places, [], ["ZSLP"])


@pytest.mark.slow
def test_the_script_does_all_runs_once_goes_on_after_a_failure_and_ends_with_a_table(
    data, cache, tmp_path, monkeypatch, capsys
):
    few = {"GRAPH": ("text", "geometry"), "GAMMA": (0.0, 0.3), "TOP_K_RATIO": (0.1, 0.3)}
    monkeypatch.setattr(ablation, "VARIANTS", few)
    monkeypatch.setenv("DATA", str(data))
    monkeypatch.setenv("OUTPUT", str(tmp_path))
    words = ["phantom", "1", "--jobs", "1", "--", "OPTIM.MAX_EPOCH", "1", "FEATURES.CACHE_DIR", str(cache)]
    base = "base2new/train_base/phantom/shots_16/OGKD/PhantomCLIP/seed1"
    broken = tmp_path / "ablation/TOP_K_RATIO_0.1" / base / "results.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")

    with pytest.raises(UserError, match=r"1 of 4 jobs failed, the first: .*TOP_K_RATIO 0\.1"):
        ablation.main(words)
    broken.unlink()
    assert (tmp_path / base / "results.json").is_file()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("results.json")}
    assert len(before) == 6
    capsys.readouterr()
    ablation.main(words)
    printed = capsys.readouterr().out
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("results.json")}
    assert len(after) == 8
    assert all(after[path] == time for path, time in before.items())
    rows = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("| OGKD")]
    assert rows == [
        "OGKD, MAX_EPOCH 1",
        *(f"OGKD, MAX_EPOCH 1, {one}" for one in ("GAMMA 0", "GRAPH geometry", "TOP_K_RATIO 0.1")),
    ]


# The table


@pytest.fixture
def runs(tmp_path):
    """Base-to-novel runs of three gammas with seeds 1 and 2, the second of which is 2 points better on base."""
    for gamma, base, novel in VALUES:
        changed = {} if gamma == 0.3 else {GAMMA: gamma}
        for seed, more in ((1, 0.0), (2, 2.0)):
            for kind, value in (("train_base", base + more), ("test_new", novel)):
                folder = tmp_path / f"{gamma}" / kind / f"seed{seed}"
                write_run(folder, kind, "BTMRI", "OGKD", seed, value, options={"GAMMA": gamma}, changed=changed)
    return collect(tmp_path)


def test_the_table_has_calibration_beside_accuracy_and_ranks_accuracy_alone(runs):
    table = ablation_table(runs, "base2new")
    assert table.headers == ["method", "base", "novel", "HM", "ECE, base", "ECE, novel"]
    assert table.ranked == ["base", "novel", "HM"]
    cells = {row.name: row.cells for row in table.rows}
    assert cells.keys() == {"OGKD", "OGKD, GAMMA 0.2", "OGKD, GAMMA 1"}
    for (_, base, novel), name in zip(VALUES, ("OGKD, GAMMA 0.2", "OGKD", "OGKD, GAMMA 1"), strict=True):
        means = [cell.mean for cell in cells[name].values()]
        hm = 2 * (base + 1) * novel / (base + 1 + novel)
        # write_run's calibration error is 100 - accuracy
        assert means == pytest.approx([base + 1, novel, hm, 99 - base, 100 - novel])
        assert [cells[name]["base"].std, cells[name]["ECE, base"].std] == pytest.approx([1.0, 1.0])


def test_an_ablation_over_several_data_sets_is_an_error(runs, tmp_path):
    write_run(tmp_path / "other", "train_base", "Kvasir", "OGKD", 1, 50.0, options={"GAMMA": 0.3}, changed={})
    with pytest.raises(UserError, match="needs one data set, but there are finished runs of 2"):
        ablation_table(collect(tmp_path), "base2new")
