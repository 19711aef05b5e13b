"""What may be averaged in a cell, and what rows are called."""

import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ogkd.core.config_files import read_config
from ogkd.evaluation.collect import collect
from ogkd.evaluation.protocol import PLACES
from ogkd.reports.tables import average, base2new_tables, few_shot_tables
from ogkd.reports.variants import _words
from tests.conftest import ROOT
from tests.support.tables import line_of, write_run

BTMRI = read_config(ROOT / "configs/trainers/OGKD/few_shot/btmri.yaml")["TRAINER"]["OGKD"]
GAMMA = BTMRI["GAMMA"]


def ogkd(folder, seed=1, accuracy=50.0, dataset="BTMRI", kind="few_shot", **words):
    """A run of OGKD; `options` change those of its file."""
    options = (BTMRI if dataset == "BTMRI" else {}) | words.pop("options", {})
    return write_run(folder, kind, dataset, "OGKD", seed, accuracy, options=options, **words)


def labels(folder):
    """Names of the rows of the first data set's few-shot table, with their means and seeds at 16 shots."""
    table = few_shot_tables(collect(folder))[0]
    return {row.name: (row.cells[-1].mean, row.cells[-1].seeds) for row in table.rows}


def test_a_run_with_another_option_has_its_own_row(tmp_path, parse):
    for seed, accuracy in ((1, 60.0), (2, 70.0)):
        for kind in ("train_base", "test_new"):
            write_run(tmp_path / f"{kind}{seed}", kind, "BTMRI", "OGKD", seed, accuracy, changed={})
            write_run(
                tmp_path / "gamma06" / f"{kind}{seed}", kind, "BTMRI", "OGKD", seed, accuracy - 20,
                options={"GAMMA": 0.6}, changed={"TRAINER.OGKD.GAMMA": 0.6},
            )  # fmt: skip
    done = parse(tmp_path, "--table", "base2new")
    assert line_of(done.stdout, "OGKD")[0] == "**65.00 ± 5.00**"
    assert line_of(done.stdout, "OGKD, GAMMA 0.6") == ["<u>45.00 ± 5.00</u>"] * 2 + ["<u>45.00</u>"]
    assert done.stderr == ""


def test_runs_that_did_not_record_what_was_changed_have_a_row_and_are_told_apart_by_their_configuration(tmp_path):
    ogkd(tmp_path / "a", 1, 60.0)
    ogkd(tmp_path / "b", 2, 70.0)
    assert labels(tmp_path) == {"OGKD": (65.0, 2)}
    ogkd(tmp_path / "c", 1, 40.0, options={"GAMMA": 0.999})
    assert labels(tmp_path) == {f"OGKD, GAMMA {GAMMA}": (65.0, 2), "OGKD, GAMMA 0.999": (40.0, 1)}


def test_older_runs_that_differ_in_what_no_file_names_are_told_apart_by_it(tmp_path):
    ogkd(tmp_path / "a", 1, 60.0, options={"N_CTX": 4})
    ogkd(tmp_path / "b", 1, 40.0, options={"N_CTX": 16})
    ogkd(tmp_path / "c", 1, 50.0, dataset="Kvasir", options={"N_CTX": 4})
    assert labels(tmp_path) == {"OGKD, N_CTX 16": (40.0, 1), "OGKD, N_CTX 4": (60.0, 1)}
    assert "OGKD, N_CTX 4" in [row.name for row in average(few_shot_tables(collect(tmp_path)), "few_shot")[0].rows]


def test_an_older_and_a_new_run_of_one_configuration_are_one_row(tmp_path):
    ogkd(tmp_path / "a", 1, 60.0, options={"N_CTX": 16})
    ogkd(tmp_path / "b", 2, 70.0, options={"N_CTX": 16}, changed={"TRAINER.OGKD.N_CTX": 16})
    assert labels(tmp_path) == {"OGKD, N_CTX 16": (65.0, 2)}


def test_a_key_that_older_runs_lack_has_the_value_of_those_that_did_not_change_it(tmp_path):
    ogkd(tmp_path / "old", 1, 60.0)
    ogkd(tmp_path / "new", 2, 70.0, options={"CROPS": 0}, changed={})
    ogkd(tmp_path / "changed", 3, 10.0, options={"CROPS": 8}, changed={"TRAINER.OGKD.CROPS": 8})
    assert labels(tmp_path) == {"OGKD": (65.0, 2), "OGKD, CROPS 8": (10.0, 1)}


def test_an_older_run_is_not_averaged_with_one_that_changed_the_key_it_lacks(tmp_path):
    ogkd(tmp_path / "old", 1, 60.0)
    ogkd(tmp_path / "changed", 2, 10.0, options={"CROPS": 8}, changed={"TRAINER.OGKD.CROPS": 8})
    assert labels(tmp_path) == {"OGKD": (60.0, 1), "OGKD, CROPS 8": (10.0, 1)}


def test_a_key_that_a_run_lacks_is_not_guessed_where_others_have_several_values(tmp_path):
    ogkd(tmp_path / "lacking", 1, 60.0)
    for seed, crops in ((2, 0), (3, 8)):
        ogkd(tmp_path / str(seed), seed, 10.0 * seed, options={"CROPS": crops})
    assert labels(tmp_path) == {
        "OGKD, CROPS 0": (20.0, 1),
        "OGKD, CROPS 8": (30.0, 1),
        "OGKD, CROPS not recorded": (60.0, 1),
    }


@pytest.mark.parametrize(
    ("fingerprints", "label"),
    [
        ({"dataset": "3fa2c1", "weights": "09be77"}, "weights 09be77"),
        ({"dataset": "aaaaaa", "weights": "w"}, "data aaaaaa"),
    ],
    ids=["weights", "data"],
)
def test_other_data_or_weights_have_rows_of_their_own(tmp_path, fingerprints, label):
    ogkd(tmp_path / "a", 1, 60.0, fingerprints={"dataset": "3fa2c1", "weights": "w"})
    ogkd(tmp_path / "b", 2, 40.0, fingerprints=fingerprints)
    other = "weights w" if label.startswith("weights") else "data 3fa2c1"
    assert labels(tmp_path) == {f"OGKD, {other}": (60.0, 1), f"OGKD, {label}": (40.0, 1)}


@pytest.mark.parametrize(("name", "words"), [("test_images", "test images"), ("sentences", "teacher sentences")])
def test_a_mean_over_seeds_between_which_data_changed_has_a_footnote_that_names_two_runs(tmp_path, name, words):
    prints = {"dataset": "d", "weights": "w"}
    for seed, value in ((1, "a"), (2, "a"), (3, "b")):
        ogkd(tmp_path / str(seed), seed, fingerprints=prints | {name: value})
    ogkd(tmp_path / "older", 4, fingerprints=prints)
    note = f"{tmp_path / '1'} and {tmp_path / '3'} have different {words}"
    assert [found for found in few_shot_tables(collect(tmp_path))[0].notes if note in found]


def test_base_and_novel_of_a_row_belong_together(tmp_path):
    changed = {"options": {"GAMMA": 0.6}, "changed": {"TRAINER.OGKD.GAMMA": 0.6}}
    ogkd(tmp_path / "base", 1, 60.0, kind="train_base", changed={})
    novel = ogkd(tmp_path / "novel", 1, 40.0, kind="test_new", **changed)
    (table,) = base2new_tables(collect(tmp_path))
    assert [(row.name, row.cells[1]) for row in table.rows] == [("OGKD", None)]
    assert any("OGKD, GAMMA 0.6 on btmri, novel" in note for note in table.notes)
    shutil.rmtree(novel)
    assert not base2new_tables(collect(tmp_path))[0].notes


def test_base_to_novel_runs_of_other_shots_have_rows_of_their_own(tmp_path):
    ogkd(tmp_path / "a", 1, 60.0, kind="train_base", changed={})
    ogkd(tmp_path / "b", 1, 40.0, kind="train_base", changed={}, shots=4)
    (table,) = base2new_tables(collect(tmp_path))
    assert [(row.name, row.cells[0].mean) for row in table.rows] == [("OGKD", 60.0), ("OGKD, 4 shots", 40.0)]


def test_a_prompt_that_was_only_tested_is_not_averaged_with_trained_ones(tmp_path):
    prints = {"dataset": "d", "weights": "w", "checkpoint": "c"}
    ogkd(tmp_path / "a", 1, 60.0, changed={}, trained=True, fingerprints=prints | {"checkpoint": None})
    ogkd(tmp_path / "b", 2, 40.0, changed={}, trained=False, fingerprints=prints)
    assert labels(tmp_path) == {"OGKD": (60.0, 1), "OGKD, tested only": (40.0, 1)}


def test_copies_count_once(tmp_path, parse):
    for seed, accuracy in ((1, 60.0), (2, 70.0)):
        ogkd(tmp_path / str(seed), seed, accuracy)
    shutil.copytree(tmp_path / "1", tmp_path / "copy of 1")
    ogkd(tmp_path / "1 again", 1, 60.0 + 1e-12)
    assert labels(tmp_path) == {"OGKD": (65.0, 2)}
    assert parse(tmp_path, "--table", "few_shot").stderr == ""


def test_a_seed_with_two_results_is_left_out_and_both_are_named(tmp_path, parse):
    runs = [ogkd(tmp_path / str(number), min(number, 2), 10.0 * number) for number in (1, 2, 3)]
    assert labels(tmp_path) == {"OGKD": (10.0, 1)}
    stderr = parse(tmp_path, "--table", "few_shot").stderr
    assert str(runs[1]) in stderr
    assert str(runs[2]) in stderr
    ogkd(tmp_path / "other images", 1, 10.0, confusion_matrix=[[0, 1], [1, 0]])
    assert "other images" in parse(tmp_path, "--table", "few_shot").stderr


@given(key=st.sampled_from(PLACES), value=st.sampled_from(["x", "", 3, True]))
def test_places_and_the_seed_make_no_difference(tmp_path_factory, key, value):
    folder = tmp_path_factory.mktemp("runs")
    ogkd(folder / "a", 1, 60.0)
    path = ogkd(folder / "b", 2, 70.0) / "results.json"
    results = json.loads(path.read_text())
    section, _, name = key.rpartition(".")
    (results["config"].setdefault(section, {}) if section else results["config"])[name] = value
    path.write_text(json.dumps(results))
    assert labels(folder) == {"OGKD": (65.0, 2)}


KEYS = ("OPTIM.GAMMA", "TRAINER.OGKD.GAMMA", "TRAINER.OGKD.TAU", "DATALOADER.TRAIN_X.BATCH_SIZE", "A.B", "B")
VALUES = st.one_of(
    st.integers(-5, 5), st.floats(0.1, 1), st.booleans(), st.text("ab15.-e ", max_size=60), st.lists(st.integers(0, 9))
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES), min_size=2, max_size=5))
def test_different_configurations_never_share_a_row_or_a_name(tmp_path_factory, changes):
    folder = tmp_path_factory.mktemp("runs")
    for seed, changed in enumerate(changes):
        config = {"TRAINER": {"NAME": "OGKD"}}
        for key, value in (dict.fromkeys(KEYS, "usual") | changed).items():
            *sections, name = key.split(".")
            node = config
            for section in sections:
                node = node.setdefault(section, {})
            node[name] = value
        write_run(folder / str(seed), "few_shot", "BTMRI", "OGKD", seed, float(seed), config=config, changed=changed)
    (table,) = few_shot_tables(collect(folder))
    assert sum(row.cells[0].seeds for row in table.rows) == len(changes)
    configurations = {repr(sorted((key, _number(value)) for key, value in one.items())) for one in changes}
    assert len(table.rows) == len({row.name for row in table.rows}) == len(configurations)


def _number(value):
    """Equal for what a configuration does not tell apart: 1 and 1.0, and a number written as text."""
    try:
        return repr(float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else value)
    except ValueError:
        return repr(value)


def test_long_values_are_cut_and_stay_different():
    first, second = (_words("CTX_INIT", "a photo of a " * 9 + end) for end in ("cyst", "mass"))
    assert first != second
    assert len(first) < 70
