"""What may be averaged in a cell, and what rows are called."""

import json
import shutil

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ogkd.evaluation.collect import collect
from ogkd.evaluation.protocol import PLACES
from ogkd.reports.tables import average, base2new_tables, few_shot_tables
from tests.support.tables import line_of, write_run

PRINTS = {"dataset": "3fa2c1", "weights": "09be77", "checkpoint": None}
OLDER, NOW = {}, {"changed": {}}  # whether a run recorded that nothing was changed


def ogkd(folder, seed=1, accuracy=50.0, dataset="BTMRI", kind="few_shot", changed=None, **words):
    """A run of OGKD; `changed`: the options that it recorded as changed by the user; None: it recorded nothing."""
    options = {"GAMMA": 0.3} | words.pop("options", {}) | (changed or {})
    if changed is not None:
        words["changed"] = {f"TRAINER.OGKD.{name}": value for name, value in changed.items()}
    return write_run(folder, kind, dataset, "OGKD", seed, accuracy, options=options, **words)


def labels(folder):
    """Names of the rows of the first data set's few-shot table, with their means and seeds at 16 shots."""
    table = few_shot_tables(collect(folder))[0]
    return {row.name: (row.cells["16 shots"].mean, row.cells["16 shots"].seeds) for row in table.rows}


@pytest.mark.parametrize(
    ("runs", "rows"),
    [
        ([OLDER, OLDER], {"OGKD": (65.0, 2)}),
        ([NOW, {"changed": {"GAMMA": 0.6}}], {"OGKD": (60.0, 1), "OGKD, GAMMA 0.6": (70.0, 1)}),
        (
            [OLDER, OLDER, {"options": {"GAMMA": 0.999}}],
            {"OGKD, GAMMA 0.3": (65.0, 2), "OGKD, GAMMA 0.999": (80.0, 1)},
        ),
        ([{"options": {"N_CTX": 16}}, {"changed": {"N_CTX": 16}}], {"OGKD, N_CTX 16": (65.0, 2)}),
        (
            [OLDER, {"options": {"CROPS": 0}, "changed": {}}, {"changed": {"CROPS": 8}}],
            {"OGKD": (65.0, 2), "OGKD, CROPS 8": (80.0, 1)},
        ),
        ([OLDER, {"changed": {"CROPS": 8}}], {"OGKD": (60.0, 1), "OGKD, CROPS 8": (70.0, 1)}),
        (
            [OLDER, {"options": {"CROPS": 0}}, {"options": {"CROPS": 8}}],
            {"OGKD, CROPS 0": (70.0, 1), "OGKD, CROPS 8": (80.0, 1), "OGKD, CROPS not recorded": (60.0, 1)},
        ),
        (
            [{"fingerprints": PRINTS | {"weights": "w"}}, {"fingerprints": PRINTS}],
            {"OGKD, weights w": (60.0, 1), "OGKD, weights 09be77": (70.0, 1)},
        ),
        (
            [{"fingerprints": PRINTS | {"dataset": "aaaaaabb"}}, {"fingerprints": PRINTS}],
            {"OGKD, data aaaaaa": (60.0, 1), "OGKD, data 3fa2c1": (70.0, 1)},
        ),
        (
            [NOW | {"trained": True}, NOW | {"trained": False, "fingerprints": PRINTS | {"checkpoint": "c"}}],
            {"OGKD": (60.0, 1), "OGKD, tested only": (70.0, 1)},
        ),
    ],
    ids=["older", "changed", "older, another value", "older and new, same value", "key of a later version",
         "later key, changed", "later key, ambiguous", "weights", "data", "tested only"],
)  # fmt: skip
def test_runs_are_averaged_if_they_share_all_but_the_seed_and_else_named_by_the_difference(tmp_path, runs, rows):
    for seed, facts in enumerate(runs, 1):
        ogkd(tmp_path / str(seed), seed, 50.0 + 10 * seed, **{"fingerprints": PRINTS} | facts)
    assert labels(tmp_path) == rows


def test_rows_of_two_data_sets_have_the_same_name(tmp_path):
    for number, n_ctx, dataset in ((1, 4, "BTMRI"), (2, 16, "BTMRI"), (3, 4, "Kvasir")):
        ogkd(tmp_path / str(number), 1, dataset=dataset, options={"N_CTX": n_ctx})
    assert "OGKD, N_CTX 4" in [row.name for row in average(few_shot_tables(collect(tmp_path)), "few_shot")[0].rows]


@pytest.mark.parametrize(("name", "words"), [("test_images", "test images"), ("sentences", "teacher sentences")])
def test_a_mean_over_seeds_between_which_data_changed_has_a_footnote_that_names_two_runs(tmp_path, name, words):
    for seed, value in ((1, "a"), (2, "a"), (3, "b")):
        ogkd(tmp_path / str(seed), seed, fingerprints=PRINTS | {name: value})
    ogkd(tmp_path / "older", 4, fingerprints=PRINTS)
    note = f"{tmp_path / '1'} and {tmp_path / '3'} have different {words}"
    assert any(note in one for one in few_shot_tables(collect(tmp_path))[0].notes)


def test_base_and_novel_of_a_row_have_the_same_configuration_and_shots(tmp_path):
    ogkd(tmp_path / "base", 1, 60.0, kind="train_base", changed={})
    ogkd(tmp_path / "four", 1, 50.0, kind="train_base", changed={}, shots=4)
    novel = ogkd(tmp_path / "novel", 1, 40.0, kind="test_new", changed={"GAMMA": 0.6})
    (table,) = base2new_tables(collect(tmp_path))
    rows = {row.name: (row.cells["base"].mean, row.cells["novel"]) for row in table.rows}
    assert rows == {"OGKD": (60.0, None), "OGKD, 4 shots": (50.0, None)}
    assert any("OGKD, GAMMA 0.6 on btmri, novel" in note for note in table.notes)
    shutil.rmtree(novel)
    assert not base2new_tables(collect(tmp_path))[0].notes


def test_copies_count_once_and_a_seed_with_two_results_is_left_out_with_both_named(tmp_path, parse):
    runs = [ogkd(tmp_path / str(number), min(number, 2), 10.0 * number) for number in (1, 2, 3)]
    shutil.copytree(tmp_path / "1", tmp_path / "copy of 1")
    ogkd(tmp_path / "rounded", 1, 10.0 + 1e-12)
    assert labels(tmp_path) == {"OGKD": (10.0, 1)}
    done = parse(tmp_path, "--table", "few_shot")
    assert str(runs[1]) in done.stderr and str(runs[2]) in done.stderr and "copy" not in done.stderr
    assert line_of(done.stdout, "OGKD") == ["10.00"]
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
@example([{"B": "a photo of a " * 9 + end} for end in ("cyst", "mass")])
def test_different_configurations_never_share_a_row_or_a_name_and_names_are_short(tmp_path_factory, changes):
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
    assert sum(row.cells["16 shots"].seeds for row in table.rows) == len(changes)
    configurations = {repr(sorted((key, _number(value)) for key, value in one.items())) for one in changes}
    assert len(table.rows) == len({row.name for row in table.rows}) == len(configurations)
    assert max(len(row.name) for row in table.rows) < 80 * len(KEYS)


def _number(value):
    """Equal for what a configuration does not tell apart: 1 and 1.0, and a number written as text."""
    try:
        return repr(float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else value)
    except ValueError:
        return repr(value)
