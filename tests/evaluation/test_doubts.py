"""Answers that are no better than one and the same answer are doubted wherever their accuracy is shown."""

import json

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from dassl.engine import TRAINER_REGISTRY
from ogkd.cli import train
from ogkd.evaluation.collect import collect
from ogkd.evaluation.doubts import AT_CHANCE, FLAT, LOSS_ROSE, about_probabilities, doubts
from ogkd.evaluation.predictions import Predictions
from ogkd.reports.page import write as write_page
from ogkd.reports.render import render
from ogkd.reports.tables import average, base2new_tables, few_shot_tables, led_by
from ogkd.reports.transfer import transfer_tables
from ogkd.tuning.registration import trainer_of
from tests.report_runs import random_predictions, write_run
from trainers.zeroshot import ZeroShot

CLASSES = ("benign", "malignant", "normal")
LABELS = [0] * 20 + [1] * 3 + [2] * 6  # as unequal as small folders of images are
IMAGES = [f"{number}.png" for number in range(len(LABELS))]
ONE = "benign is the answer for all test images"

counts = st.integers(1, 6).flatmap(
    lambda size: st.lists(st.lists(st.integers(0, 9), min_size=size, max_size=size), min_size=size, max_size=size)
)


@given(counts, st.floats(0, 10), st.floats(0, 10))
def test_each_reason_for_doubt_is_named_and_nothing_else_is_doubted(matrix, first, last):
    array, names = np.array(matrix), [f"class {number}" for number in range(len(matrix))]
    found = doubts(matrix, names, {"first_loss": first, "last_loss": last})
    assert (LOSS_ROSE in found) == (last > first)
    total, correct, tested = array.sum(), array.trace(), (array.sum(1) > 0).sum()
    judged = len(names) > 1 and total > 0
    at_chance, no_better = correct * len(names) <= total, tested > 1 and correct <= array.sum(1).max()
    assert (AT_CHANCE in found) == (judged and at_chance)
    assert any("of the most common class" in one for one in found) == (judged and no_better and not at_chance)
    one_answer = tested > 1 and (array.sum(0) > 0).sum() == 1
    assert any("is the answer for all" in one for one in found) == (judged and one_answer)
    assert not {LOSS_ROSE} & set(doubts(matrix, names, {"first_loss": None, "last_loss": last}))


def test_probabilities_that_are_all_alike_are_doubted():
    assert about_probabilities(np.full((4, 3), 1 / 3)) == [FLAT]
    assert about_probabilities(np.array([[0.5, 0.3, 0.2], [1 / 3] * 3])) == about_probabilities(np.ones((4, 1))) == []


class OneAnswer(ZeroShot):
    def classifier(self):
        logits = torch.eye(len(self.classnames))[3]
        return lambda features: logits.expand(len(features), -1)


def always(answer: int) -> Predictions:
    return Predictions(tuple(IMAGES), np.array(LABELS), np.eye(3)[[answer] * len(LABELS)], CLASSES)


def good(seed=1) -> Predictions:
    return random_predictions(IMAGES, LABELS, CLASSES, 4, seed)


def row(table, name):
    return next(line for line in render(table).splitlines() if line.startswith(f"| {name} "))


def test_a_method_that_always_answers_one_class_has_a_footnote_and_is_not_bold(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path / f"tip{seed}", "few_shot", "TipAdapter", seed, always(0), 4)
        write_run(tmp_path / f"zero{seed}", "few_shot", "ZeroShot", seed, always(2), 4)
    (table,) = few_shot_tables(collect(tmp_path))
    assert f"Tip-Adapter, 4 shots: {ONE} (seeds 1, 2)." in table.footnotes
    assert f"Zero-shot, 4 shots: {AT_CHANCE} (seeds 1, 2)." in table.footnotes
    assert sum("69.0 %" in sentence for sentence in table.footnotes) == 1  # it is said of the column, not of each row
    assert "**" not in render(table) and "<u>" not in render(table)
    write_run(tmp_path / "coop", "few_shot", "CoOp", 1, good(), 4)
    (table,) = few_shot_tables(collect(tmp_path))
    assert "**" in row(table, "CoOp")
    assert "<u>" not in render(table)


def test_results_without_counts_are_judged_by_their_predictions(tmp_path):
    path = write_run(tmp_path / "tip", "few_shot", "TipAdapter", 1, always(0), 4)
    results = json.loads((path / "results.json").read_text())
    for name in ("confusion_matrix", "classnames"):
        results.pop(name)
    (path / "results.json").write_text(json.dumps(results))
    assert f"Tip-Adapter, 4 shots: {ONE} (seed 1)." in few_shot_tables(collect(tmp_path))[0].footnotes
    (path / "predictions.npz").unlink()
    assert few_shot_tables(collect(tmp_path))[0].footnotes == []


def test_base_and_novel_are_judged_each_and_the_hm_with_either(tmp_path):
    for method, novel in (("CoOp", always(0)), ("KgCoOp", good(3))):
        for dataset in ("Phantom", "PhantomShift"):
            folder = tmp_path / dataset / method
            write_run(folder / "base", "train_base", method, 1, good(1), dataset=dataset)
            predictions = novel if dataset == "Phantom" else good(2)
            write_run(folder / "novel", "test_new", method, 1, predictions, dataset=dataset)
    first, second = base2new_tables(collect(tmp_path))
    assert f"CoOp, novel: {ONE} (seed 1)." in first.footnotes
    assert not any("base" in sentence for sentence in [*first.footnotes, *second.footnotes])
    doubtful = {one.name: [cell.doubtful for cell in one.cells.values()] for one in led_by(first, True).rows}
    assert doubtful == {"CoOp": [False, True, True], "KgCoOp": [False, False, False]}
    mean, _ = average([first, second], "base2new")
    assert not any(
        cell.doubtful for one in mean.rows for cell in one.cells.values()
    )  # one data set of two is no verdict


def counted(*rows):
    """Predictions with these numbers of images by true class (rows) and answer, of the classes normal, rare, ..."""
    pairs = [(i, j) for i, row in enumerate(rows) for j, number in enumerate(row) for _ in range(number)]
    labels, answers = np.transpose(pairs)
    images = tuple(f"{number}.png" for number in range(len(labels)))
    return Predictions(images, labels, np.eye(len(rows))[answers], ("normal", "rare", "other")[: len(rows)])


def test_where_classes_are_imbalanced_balanced_accuracy_decides_and_the_table_says_what_one_answer_gives(tmp_path):
    write_run(tmp_path / "tip", "few_shot", "TipAdapter", 1, counted((980, 0), (5, 0)), 4)
    write_run(tmp_path / "coop", "few_shot", "CoOp", 1, counted((930, 50), (1, 4)), 4)
    write_run(tmp_path / "zero", "few_shot", "ZeroShot", 1, counted((975, 5), (4, 1)), 4)
    (table,) = few_shot_tables(collect(tmp_path))
    assert table.headers == ["method", "balanced, 4 shots", "4 shots"]
    assert (
        "**87.45**" in row(table, "CoOp")
        and "**94.82**" not in row(table, "CoOp")
        and "**" not in row(table, "Tip-Adapter")
    )
    assert "99.5 % of the images are “normal”" in table.caption
    (sentence,) = [one for one in table.footnotes if "always answering" in one]
    assert "CoOp, has an accuracy of 94.8 %" in sentence and "“normal” has 99.5 %" in sentence
    page = write_page(tmp_path, tmp_path / "page.html").read_text()
    summary = page[page.index('id="summary"') : page.index('id="ran"')]
    assert "CoOp" in summary and "87.4" in summary and "balanced accuracy" in summary and sentence in page


def test_a_method_of_its_own_is_the_best_unless_it_is_no_better_than_one_answer(tmp_path):
    for name, rows in (("sound", ((930, 50), (1, 4))), ("one", ((980, 0), (5, 0)))):
        write_run(tmp_path / name, "few_shot", "CoOp", 1, counted(*rows), 4, dataset=name)
    footnotes = {table.datasets[0]: table.footnotes[-1] for table in few_shot_tables(collect(tmp_path))}
    assert "the best, CoOp" in footnotes["sound"] and "no method is better" in footnotes["one"]


def test_balanced_classes_and_other_metrics_have_their_usual_columns(tmp_path):
    for name, rows in (("even", ((10, 0), (5, 5))), ("uneven", ((15, 1), (2, 2)))):
        write_run(tmp_path / name, "few_shot", "CoOp", 1, counted(*rows), 4, dataset=name)
    columns = {table.datasets[0]: len(table.headers) for table in few_shot_tables(collect(tmp_path))}
    assert columns == {"even": 2, "uneven": 3}
    assert {len(table.headers) for table in few_shot_tables(collect(tmp_path), "nll")} == {2}
    assert average(few_shot_tables(collect(tmp_path)), "few-shot")[0].headers == ["method", "4 shots"]


def test_at_chance_a_calibration_error_is_never_the_best(tmp_path):
    write_run(tmp_path / "zero", "few_shot", "ZeroShot", 1, counted((11, 9), (10, 10)), 4)  # 52.5 %, calibrated
    write_run(tmp_path / "coop", "few_shot", "CoOp", 1, counted((18, 2), (2, 18)), 4)
    (table,) = few_shot_tables(collect(tmp_path), "expected_calibration_error")
    assert "**" not in row(table, "Zero-shot") and "**" in row(table, "CoOp")
    assert "**" in row(few_shot_tables(collect(tmp_path), "nll")[0], "CoOp")


def test_transfer_tables_and_the_page_have_the_footnotes_too(tmp_path):
    write_run(tmp_path / "all", "few_shot", "TipAdapter", 1, always(0), 4)
    write_run(tmp_path / "transfer", "few_shot", "TipAdapter", 1, always(0), 4, source="BUSI")
    (table,) = transfer_tables(collect(tmp_path))
    assert f"Tip-Adapter, phantom: {ONE} (seed 1)." in table.footnotes
    text = write_page(tmp_path, tmp_path / "page.html").read_text()
    assert all(f"Tip-Adapter, {column}: {ONE} (seed 1)." in text for column in ("4 shots", "phantom"))


def test_the_log_and_the_results_say_so(arguments, tmp_path, monkeypatch):
    monkeypatch.setitem(TRAINER_REGISTRY._obj_map, "OneAnswer", trainer_of(OneAnswer))  # for this test alone
    results = train.main(arguments("OneAnswer"))
    answer = f"{results['classnames'][3]} is the answer for all test images"
    assert results["warnings"] == [AT_CHANCE, answer]
    assert f"Warning: {answer}\n" in (tmp_path / "run" / "log.txt").read_text()
