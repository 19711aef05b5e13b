"""Training that diverges ends with one sentence, nothing wrong is stored, and tables say so."""

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import openpyxl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dassl.engine import TRAINER_REGISTRY, TrainerX
from ogkd.cli import train
from ogkd.core import Diverged, UserError, read_json, write_json
from ogkd.evaluation.collect import collect, runs_in
from ogkd.evaluation.doubts import AT_CHANCE, LOSS_ROSE
from ogkd.evaluation.predictions import Predictions
from ogkd.reports.page import write as write_page
from ogkd.reports.render import document, render, write_xlsx
from ogkd.reports.tables import average, base2new_tables, few_shot_tables
from ogkd.runs.execute import execute
from ogkd.runs.registry import benchmark_methods
from ogkd.runs.spec import RunSpec
from tests.dassl.test_toy_trainer import GIVEN
from tests.report_runs import random_predictions, write_run
from tests.support.runs import configured, killed_at, learned
from tests.toy_trainer import ToyCoOp

AT_ONCE = ("OPTIM.WARMUP_EPOCH", "0")
BROKEN = ("OPTIM.LR", "1e30", *AT_ONCE)
UNTRAINED = {"ZeroShot", "ZeroShotEnsemble", "TipAdapter", "LinearProbe"}  # OPTIM does not apply


def finite(value) -> bool:
    """Whether every number in a JSON value is finite."""
    if isinstance(value, dict | list):
        return all(map(finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def all_stored_is_finite(folder: Path) -> bool:
    jsons = [json.loads(path.read_text()) for path in folder.rglob("*.json")]
    arrays = [Predictions.load(path).logits for path in folder.glob("*predictions.npz")]
    return (
        all(map(finite, jsons))
        and all(np.isfinite(one).all() for one in arrays)
        and all(torch.isfinite(one).all() for one in learned(folder).values() if one.is_floating_point())
    )


def break_checkpoint(path: Path, **changes) -> None:
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["state_dict"]["ctx"][0, 0] = float("nan")
    torch.save(checkpoint | changes, path)


def checkpoint_of(folder: Path, epoch: int) -> Path:
    return folder / "prompt_learner" / f"model.pth.tar-{epoch}"


# Every method


@pytest.mark.parametrize(
    ("method", "rate"), [*((method, "1e30") for method in benchmark_methods()), ("CoOp", "1e32"), ("OGKD", "1e32")]
)
def test_whatever_the_learning_rate_nothing_that_is_stored_is_not_finite(arguments, tmp_path, method, rate):
    folder = tmp_path / "run"
    words = configured(arguments, method, "OPTIM.LR", rate, *AT_ONCE)
    try:
        train.main(words)
    except Diverged as error:
        assert str(error).startswith(f"The training of {method} diverged: ")
        assert "lower OPTIM.LR (it is " in str(error)
        assert (folder / "diverged.json").is_file()
        assert not (folder / "results.json").exists()
        assert not learned(folder)
        assert method not in UNTRAINED
    else:
        assert json.loads((folder / "results.json").read_text())["accuracy"] >= 0
        assert not (folder / "diverged.json").exists()
    assert all_stored_is_finite(folder)


# The sentence and the marker


def test_the_sentence_names_epoch_step_term_and_what_to_lower(arguments, tmp_path):
    with pytest.raises(Diverged) as caught:
        train.main(configured(arguments, "OGKD", "TRAINER.OGKD.LAMBDA_GAD", "1e39"))
    assert (caught.value.epoch, caught.value.step, caught.value.term) == (1, 1, "gad")
    assert isinstance(caught.value, FloatingPointError)  # for code that was written for Dassl
    assert str(caught.value) == (
        "The training of OGKD diverged: in epoch 1, step 1 the term 'gad' is not finite; "
        "lower OPTIM.LR (it is 0.0025) or TRAINER.OGKD.LAMBDA_GAD (it is 1e+39)."
    )
    assert f"error: {caught.value}" in (tmp_path / "run" / "log.txt").read_text()


def test_the_last_step_counts_too(arguments, tmp_path):
    with pytest.raises(Diverged, match=r"after epoch 1 the parameter prompt_learner\.\w+ is not finite"):
        train.main(arguments("Overshoots", *GIVEN, "OPTIM.MAX_EPOCH", "1"))
    assert not learned(tmp_path / "run")


def test_a_run_that_diverged_is_marked_and_neither_repeated_nor_tested_until_it_runs_as_advised(arguments, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(Diverged) as caught:
        train.main(arguments("ProGrad", *BROKEN))
    (run,) = runs_in([folder], diverged=True)
    assert (run.method, run.dataset, run.shots, run.seed, run.diverged) == ("ProGrad", "phantom", 2, 1, True)
    assert run.results["diverged"]["message"] == str(caught.value)
    assert run.changed["OPTIM.LR"] == 1e30
    assert runs_in([folder]) == []
    log = (folder / "log.txt").read_text()
    with pytest.raises(Diverged, match="holds a run that diverged and is not repeated") as again:
        train.main(arguments("ProGrad", *BROKEN))
    assert str(caught.value) in str(again.value)
    assert (folder / "log.txt").read_text() == log
    with pytest.raises(Diverged, match="holds a run that diverged"):
        train.main(["--eval-only", "--model-dir", str(folder), *arguments("ProGrad", output=tmp_path / "test")])
    assert finite(train.main(arguments("ProGrad", "OPTIM.LR", "0.01", *AT_ONCE)))
    assert not (folder / "diverged.json").exists()


# Checkpoints that are not finite


def test_a_checkpoint_that_is_not_finite_is_not_tested(arguments, tmp_path):
    train.main(arguments("CoOp"))
    break_checkpoint(checkpoint_of(tmp_path / "run", 3))
    words = arguments("CoOp", output=tmp_path / "test")
    with pytest.raises(UserError, match=r"diverged \(ctx is not finite\): train again with a lower OPTIM.LR"):
        train.main(["--eval-only", "--model-dir", str(tmp_path / "run"), *words])
    assert not (tmp_path / "test" / "results.json").exists()


def test_a_resume_takes_the_newest_finite_checkpoint_or_starts_from_scratch(arguments, tmp_path, capsys):
    options = ("TRAIN.KEEP_CHECKPOINTS", "True")
    first = train.main(arguments("CoOp", *options))
    whole = learned(tmp_path / "run")
    for broken, resumed in (((3,), "Resuming after epoch 2"), ((1, 2, 3), "train from scratch")):
        for epoch in broken:
            break_checkpoint(checkpoint_of(tmp_path / "run", epoch))
        (tmp_path / "run" / "results.json").unlink()
        capsys.readouterr()
        again = train.main(arguments("CoOp", *options))
        out = capsys.readouterr().out
        assert resumed in out
        assert "is from training that diverged (its ctx is not finite)" in out
        assert all(torch.equal(value, whole[name]) for name, value in learned(tmp_path / "run").items())
        assert again["training"] == first["training"]


# Trainers written for Dassl


@TRAINER_REGISTRY.register()
class GoesRound(ToyCoOp):
    """Updates without model_backward, and reports a term that is not finite in its second step."""

    def forward_backward(self, batch):
        summary = super().forward_backward(batch)
        return summary | {"aux": torch.tensor(math.nan if self.batch_idx else 0.0)}


@TRAINER_REGISTRY.register()
class Confident(ToyCoOp):
    """Its logits overflow."""

    def model_inference(self, input):
        return super().model_inference(input) * math.inf


@TRAINER_REGISTRY.register()
class Overshoots(ToyCoOp):
    """Its last step breaks what it learns."""

    def forward_backward(self, batch):
        summary = super().forward_backward(batch)
        if self.batch_idx + 1 == self.num_batches:
            next(self.model.prompt_learner.parameters()).data.mul_(math.inf)
        return summary


@TRAINER_REGISTRY.register()
class Worsens(ToyCoOp):
    """Its loss rises from epoch to epoch."""

    def forward_backward(self, batch):
        return super().forward_backward(batch) | {"loss": 1.0 + self.epoch}


def test_a_term_that_a_trainer_returns_must_be_finite(arguments):
    with pytest.raises(Diverged, match=r"in epoch 1, step 2 the term 'aux' is not finite; lower OPTIM.LR"):
        train.main(arguments("GoesRound", *GIVEN))


def test_logits_must_be_finite(arguments, tmp_path):
    with pytest.raises(Diverged, match="a logit of the test images is not finite"):
        train.main(arguments("Confident", *GIVEN))
    assert (tmp_path / "run" / "diverged.json").is_file()
    assert not (tmp_path / "run" / "predictions.npz").exists()


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_detect_anomaly_takes_a_loss_or_terms_by_name(loss):
    trainer = TrainerX.__new__(TrainerX)
    trainer._remedy = lambda term: "lower it"
    bad, good = torch.tensor(loss), torch.tensor(1.0)
    trainer.detect_anomaly(good)
    trainer.detect_anomaly({"ce": good, "kl": good})
    with pytest.raises(Diverged, match="the loss is not finite; lower it"):
        trainer.detect_anomaly(torch.stack([good, bad]))
    with pytest.raises(Diverged, match="the term 'kl' is not finite"):
        trainer.detect_anomaly({"ce": good, "kl": bad, "gad": bad})


# JSON

numbers = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(values, st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_number_that_is_not_finite_is_not_written_and_its_place_is_named(tmp_path_factory, value, number):
    path = tmp_path_factory.mktemp("json") / "x.json"
    with pytest.raises(UserError, match=r"x\.json is not written: b\.1\.c is not a finite number"):
        write_json({"a": value, "b": [value, {"c": number}]}, path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_not_finite_makes_a_foreign_file_corrupt(arguments, tmp_path, token):
    train.main(arguments("ZeroShot"))
    path = tmp_path / "run" / "results.json"
    path.write_text(path.read_text().replace('"seconds": ', f'"extra": {token}, "seconds": ', 1))
    with pytest.raises(UserError, match="is not valid JSON"):
        read_json(path)
    with pytest.raises(UserError, match=r"is corrupt .* delete it and test the run again"):
        train.main(arguments("ZeroShot"))
    assert runs_in([tmp_path / "run"]) == []


# Doubts about a finite result


def test_a_loss_that_rose_is_in_the_log_and_in_the_results(arguments, tmp_path):
    results = train.main(arguments("Worsens", *GIVEN))
    assert results["training"] == {"first_loss": 1.0, "last_loss": 3.0}
    assert LOSS_ROSE in results["warnings"]
    assert f"Warning: {LOSS_ROSE}" in (tmp_path / "run" / "log.txt").read_text()
    usual = train.main(arguments("CoOp", output=tmp_path / "usual"))
    assert LOSS_ROSE not in usual["warnings"]
    assert train.main(arguments("ZeroShot", output=tmp_path / "none"))["training"] is None


def test_the_first_loss_survives_a_kill(arguments, tmp_path):
    words = configured(arguments, "CoOp", "TRAIN.PRINT_FREQ", "1", output=tmp_path / "killed")
    killed_at(RunSpec.parse(words), "epoch [3/3] batch [1/")
    killed = execute(RunSpec.parse(words))
    whole = train.main(configured(arguments, "CoOp", "TRAIN.PRINT_FREQ", "1", output=tmp_path / "whole"))
    assert killed["training"] == whole["training"]
    assert killed["warnings"] == whole["warnings"]


# Tables

CLASSES = ["a", "b", "c"]


def runs_of(folder: Path, method: str, seeds, diverged=(), kind="few_shot", **changes) -> list[Path]:
    """Run folders of seeds, of which those of `diverged` have no result."""
    written = []
    for seed in seeds:
        predictions = random_predictions([f"{i}.png" for i in range(30)], [0, 1, 2] * 10, CLASSES, 1, [seed, 7])
        path = write_run(folder / kind / method / str(seed), kind, method, seed, predictions, 4, **changes)
        if seed in diverged:
            (path / "predictions.npz").unlink()
            results = json.loads((path / "results.json").read_text())
            for name in ("accuracy", "confusion_matrix"):
                results.pop(name)
            results["diverged"] = {"message": "It diverged.", "epoch": 1, "step": 1, "term": "loss"}
            (path / "diverged.json").write_text(json.dumps(results))
            (path / "results.json").unlink()
        written.append(path)
    return written


def test_a_cell_is_the_mean_of_the_finite_runs_and_a_footnote_names_the_others(tmp_path):
    runs_of(tmp_path, "CoOp", (1, 2, 3), diverged=(2,))
    (table,) = few_shot_tables(collect(tmp_path, diverged=True))
    (row,) = table.rows
    assert row.cells["4 shots"].mean == pytest.approx(np.mean([run.results["accuracy"] for run in collect(tmp_path)]))
    assert row.cells["4 shots"].seeds == 2
    assert table.footnotes == ["CoOp, 4 shots: 1 of 3 runs diverged (seed 2)."]
    assert table.notes == []
    for fmt in ("markdown", "latex"):
        assert "1 of 3 runs diverged (seed 2)" in render(table, fmt)


def test_a_cell_without_a_finite_run_says_diverged_in_every_format(tmp_path):
    runs_of(tmp_path, "CoOp", (1, 2), diverged=(1, 2))
    runs_of(tmp_path, "KgCoOp", (1, 2))
    (table,) = few_shot_tables(collect(tmp_path, diverged=True), seconds=True)
    line = next(line for line in render(table).splitlines() if line.startswith("| CoOp "))
    assert [cell.strip() for cell in line.split("|")[2:-1]] == ["diverged", "–"]
    assert "diverged" in next(line for line in render(table, "latex").splitlines() if line.startswith("CoOp &"))
    (row,) = [row for row in csv.DictReader(io.StringIO(document([table], "csv"))) if row["method"] == "CoOp"]
    assert (row["4 shots mean"], row["4 shots population std"]) == ("diverged", "")
    write_xlsx([table], tmp_path / "t.xlsx")
    cells = [cell.value for line in openpyxl.load_workbook(tmp_path / "t.xlsx").active for cell in line]
    assert "diverged" in cells
    assert "CoOp, 4 shots: 2 of 2 runs diverged (seeds 1, 2)." in cells


def test_what_diverged_on_the_base_classes_has_no_novel_figure_hm_or_average(tmp_path):
    for dataset in ("Phantom", "PhantomShift"):
        runs_of(tmp_path / dataset, "CoOp", (1,), diverged=(1,), kind="train_base", dataset=dataset)
        runs_of(tmp_path / dataset, "LinearProbe", (1,), diverged=(1,), kind="train_base", dataset=dataset, novel=False)
        for kind in ("train_base", "test_new"):
            runs_of(tmp_path / dataset, "KgCoOp", (1,), kind=kind, dataset=dataset)
    tables = base2new_tables(collect(tmp_path, diverged=True))
    mean, _ = average(tables, "base2new")
    for table in (*tables, mean):
        lines = {line.split("|")[1].strip(): line for line in render(table).splitlines() if line.startswith("|")}
        of = {name: [cell.strip() for cell in line.split("|")[2:-1]] for name, line in lines.items()}
        assert set(next(cells for name, cells in of.items() if name.startswith("CoOp"))) == {"diverged"}
        base, novel, *_ = next(cells for name, cells in of.items() if name.startswith("Linear probe"))
        assert (base, novel) == ("diverged", "–")
        assert "diverged" not in next(cells for name, cells in of.items() if name.startswith("KgCoOp"))


def test_a_doubt_is_a_footnote(tmp_path):
    runs_of(tmp_path, "CoOp", (1, 2), warnings=[AT_CHANCE])
    (table,) = few_shot_tables(collect(tmp_path))
    assert table.footnotes == [f"CoOp, 4 shots: {AT_CHANCE} (seeds 1, 2)."]


def test_the_page_marks_what_diverged(tmp_path, capsys):
    runs_of(tmp_path, "CoOp", (1, 2), diverged=(1, 2))
    runs_of(tmp_path, "KgCoOp", (1, 2), diverged=(2,))
    text = write_page(tmp_path, tmp_path / "page.html").read_text()
    assert '<span class="v">diverged</span>' in text
    assert "KgCoOp, 4 shots: 1 of 2 runs diverged (seed 2)." in text
    assert "few_shot/CoOp/1</li>" in text
    assert "3 runs diverged." in text


def test_where_everything_diverged_the_table_says_so_and_the_page_has_nothing_to_show(command, tmp_path):
    runs_of(tmp_path, "CoOp", (1, 2), diverged=(1, 2))
    done = command(["parse_test_res.py", str(tmp_path), "--table", "few_shot"])
    assert done.returncode == 0
    assert "diverged |" in done.stdout
    with pytest.raises(UserError, match="is finished; 2 diverged, the first is "):
        write_page(tmp_path, tmp_path / "page.html")
    seeds = command(["parse_test_res.py", str(tmp_path / "few_shot" / "CoOp")])
    assert seeds.returncode == 2
    assert "is finished, 2 diverged" in seeds.stderr


def test_csv_says_its_footnotes_on_stderr(command, tmp_path):
    runs_of(tmp_path, "CoOp", (1, 2), diverged=(2,))
    done = command(["parse_test_res.py", str(tmp_path), "--table", "few_shot", "--format", "csv"])
    assert "CoOp, 4 shots: 1 of 2 runs diverged (seed 2)." in done.stderr
    assert "diverged" not in done.stdout


# A grid


def test_a_comparison_goes_on_past_a_method_that_diverges_and_ends_with_its_table(command, data, cache, tmp_path):
    words = ["scripts/compare.py", "phantom", "--protocol", "few_shot", "--seeds", "1"]
    words += ["--methods", "ProGrad", "ZeroShot"]
    pairs = [*BROKEN, "OPTIM.MAX_EPOCH", "2", "FEATURES.CACHE_DIR", str(cache), "DATALOADER.NUM_WORKERS", "0"]
    places = {"DATA": str(data), "OUTPUT": str(tmp_path)}
    for _ in range(2):  # the second time nothing is trained
        done = command([*words, "--shots", "2", "--jobs", "1", "--", *pairs], env=places)
        assert done.returncode == 2
        row = next(line for line in done.stdout.splitlines() if line.startswith("| ProGrad"))
        assert row.split("|")[2].strip() == "diverged"
        assert "1 of 1 run diverged (seed 1)" in done.stdout
        assert (tmp_path / "phantom.html").is_file()
        assert "1 of 2 jobs diverged, the first: few_shot phantom ProGrad" in done.stderr.splitlines()[-1]


def test_a_method_whose_epochs_have_no_loss_resumes_to_the_same_results(arguments, tmp_path):
    words = configured(arguments, "TipAdapter")
    whole = train.main(words)
    (tmp_path / "run" / "results.json").unlink()
    assert train.main(words)["training"] == whole["training"]
