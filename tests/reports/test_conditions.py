"""Tables say what they average, against means that pandas forms from the runs."""

import csv
import io
import re
import shutil
import sys

import numpy as np
import pandas as pd
import pytest

from ogkd.evaluation.collect import collect
from ogkd.evaluation.predictions import Predictions
from ogkd.reports.tables import average, few_shot_tables
from tests.support.tables import hm, line_of, rows_of, write_run

NAMES = {"BTMRI": "btmri", "Kvasir": "kvasir", "RETINA": "retina"}


def write(folder, rows, **changes):
    """Runs of (kind, data set, method, seed, shots), with accuracies from 40 to 90; returns them as a frame."""
    rng, written = np.random.default_rng(3), []
    for kind, dataset, method, seed, shots in rows:
        accuracy = round(float(rng.uniform(40, 90)), 3)
        write_run(
            folder / f"{kind}{dataset}{method}{seed}{shots}", kind, dataset, method, seed, accuracy, shots, **changes
        )
        written.append((kind, NAMES[dataset], method, seed, shots, accuracy))
    return pd.DataFrame(written, columns=["kind", "dataset", "method", "seed", "shots", "accuracy"])


def configured(method, epochs=None, test="test", bank=None, **more):
    """Changes of a run's results: its epochs, tested part and bank as its configuration has them."""
    options = {} if bank is None else {"PROMPTS": "bank", "PROMPT_BANK": bank}
    config = {
        "TRAINER": {"NAME": method, method.upper(): options}, "TEST": {"SPLIT": test}, "DATASET": {"NAME": "BTMRI"},
        **({} if epochs is None else {"OPTIM": {"MAX_EPOCH": epochs}}), **more,
    }  # fmt: skip
    return {"config": config, "split": test}


# Budget


def test_images_that_an_older_run_did_not_record_are_not_those_of_the_others(tmp_path, parse):
    known = {"labelled": {"train": [16, 16], "val": [4, 4], "chosen": ["alpha"]}, "tuned": []}
    write(tmp_path, [("few_shot", "BTMRI", "GDA", 1, 16)], **known)
    write(tmp_path, [("few_shot", "BTMRI", "CoOp", 1, 16)])
    text = parse(tmp_path, "--table", "few_shot").stdout
    assert "not recorded" in line_of(text, "CoOp") and "16 + 4 (alpha)" in line_of(text, "GDA")
    assert "labelled images per class." not in text


# Seeds


def test_an_hm_is_of_the_seeds_that_base_and_novel_both_have(tmp_path, parse):
    frame = write(
        tmp_path,
        [
            (kind, dataset, method, seed, 16)
            for kind in ("train_base", "test_new")
            for dataset in ("BTMRI", "Kvasir")
            for method in ("CoOp", "OGKD")
            for seed in (1, 2, 3)
            if not (kind == "test_new" and method == "OGKD" and seed == 3)
        ],
    )
    both = frame[(frame.method != "OGKD") | (frame.seed < 3)]
    means = both.groupby(["method", "dataset", "kind"]).accuracy.mean().unstack()
    done = parse(tmp_path, "--table", "base2new", "--format", "csv")
    for dataset in ("btmri", "kvasir"):
        row, of = rows_of(done.stdout, f"{dataset} base2new")["OGKD"], means.loc["OGKD", dataset]
        every = frame[(frame.method == "OGKD") & (frame.dataset == dataset) & (frame.kind == "train_base")]
        assert float(row["base mean"]) == pytest.approx(every.accuracy.mean(), abs=1e-3)  # all three seeds
        assert float(row["HM mean"]) == pytest.approx(hm(of.train_base, of.test_new), abs=1e-3)
        assert (row["n"], row["seeds"]) == ("2, 3", "1-3 (not in every cell)")
    row, of = rows_of(done.stdout, "average base2new")["OGKD"], means.loc["OGKD"].mean()
    assert float(row["HM of means mean"]) == pytest.approx(hm(of.train_base, of.test_new), abs=1e-3)
    assert float(row["mean of HM mean"]) == pytest.approx(hm(*means.loc["OGKD"].to_numpy().T).mean(), abs=1e-3)
    text = parse(tmp_path, "--table", "base2new").stdout
    assert "The HM of OGKD is of seeds 1, 2, which base and novel both have." in text
    assert "seeds that base and novel both have" in text.partition("average base2new")[2]
    assert "OGKD, novel: fewer seeds than others, which have 1, 2, 3 (seeds 1, 2)." in text


def test_base_and_novel_without_a_common_seed_have_no_hm(tmp_path, parse):
    write(tmp_path, [("train_base", "BTMRI", "CoOp", 1, 16), ("test_new", "BTMRI", "CoOp", 2, 16)])
    text = parse(tmp_path, "--table", "base2new").stdout
    assert line_of(text, "CoOp")[2] == "–" and "no seed in common" in text


def test_tables_of_chosen_shots_and_seeds_average_those_alone(tmp_path, parse):
    frame = write(tmp_path, [("few_shot", "BTMRI", "CoOp", s, shots) for s in (1, 2, 3, 7) for shots in (1, 4)])
    done = parse(tmp_path, "--table", "few_shot", "--shots", "4", "--seeds", "2-3", "7", "--format", "csv")
    row = rows_of(done.stdout, "btmri few-shot")["CoOp"]
    of = frame[(frame.shots == 4) & (frame.seed > 1)].accuracy
    assert "1 shot mean" not in row and (row["n"], row["seeds"], row["shots"]) == ("3", "2, 3, 7", "4")
    assert float(row["4 shots mean"]) == pytest.approx(of.mean(), abs=1e-3)
    assert float(row["4 shots population std"]) == pytest.approx(of.std(ddof=0), abs=1e-3)
    for words, reason in ((["--seeds", "5"], "1-3, 7"), (["--shots", "8"], "1, 4"), (["--seeds", "3-1"], "range")):
        done = parse(tmp_path, "--table", "few_shot", *words)
        assert done.returncode == 2 and reason in done.stderr and done.stderr.count("\n") == 1


# Conditions


def test_a_caption_has_what_rows_share_and_columns_have_what_differs(tmp_path, parse):
    settings = {"settings": "published"}
    for method, epochs, bank in (("ZeroShot", 50, None), ("CoOp", 50, None), ("OGKD", 100, "biomedcoop")):
        write_run(
            tmp_path / method, "few_shot", "BTMRI", method, 1, 60.0, **configured(method, epochs, bank=bank), **settings
        )
    text = parse(tmp_path, "--table", "few_shot").stdout
    assert "Seed 1; 16 shots; BiomedCLIP; teacher sentences: biomedcoop; published settings." in text
    assert [line_of(text, name)[-1] for name in ("method", "Zero-shot", "CoOp", "OGKD")] == ["epochs", "–", "50", "100"]
    frame = pd.read_csv(
        io.StringIO(parse(tmp_path, "--table", "few_shot", "--format", "csv").stdout), index_col="method"
    )
    assert frame.loc["OGKD", ["n", "seeds", "shots", "epochs"]].tolist() == [1, 1, 16, 100]
    words = frame.loc["OGKD", ["data sets", "backbone", "bank", "settings"]].tolist()
    assert words == ["btmri", "BiomedCLIP", "biomedcoop", "published"]
    assert frame.loc["Zero-shot", ["epochs", "bank"]].isna().all()


@pytest.mark.parametrize(
    ("method", "epochs"), [("CoOp", "50"), ("CLIPLoRA", "at most 50"), ("GDA", ""), ("Other", "50")]
)
def test_epochs_are_those_of_methods_that_have_some(tmp_path, method, epochs):
    write_run(tmp_path / "a", "few_shot", "BTMRI", method, 1, 60.0, **configured(method, 50))
    assert few_shot_tables(collect(tmp_path))[0].rows[0].conditions["epochs"] == epochs


@pytest.mark.parametrize(
    ("method", "sections", "bank"),
    [
        ("OGKD", {"OGKD": {"PROMPTS": "bank", "PROMPT_BANK": "/home/me/mine"}}, "mine"),
        ("OGKD", {"OGKD": {"PROMPTS": "templates", "PROMPT_BANK": "mine"}}, "templates"),
        ("CoOp", {"COOP": {"DISTIL": "ogkd"}, "OGKD": {"PROMPTS": "bank", "PROMPT_BANK": ""}}, "this project's"),
        ("CoOp", {"COOP": {"DISTIL": "none"}, "OGKD": {"PROMPTS": "bank", "PROMPT_BANK": ""}}, None),
    ],
)
def test_the_bank_is_that_of_the_teacher_that_a_run_had(tmp_path, method, sections, bank):
    config = {"TRAINER": {"NAME": method, **sections}, "DATASET": {"NAME": "BTMRI"}}
    write_run(tmp_path / "a", "few_shot", "BTMRI", method, 1, 60.0, config=config)
    (table,) = few_shot_tables(collect(tmp_path))
    assert (table.rows[0].conditions["bank"] or None) == bank


def test_bank_and_settings_are_in_a_name_only_where_runs_of_a_method_differ_in_them(tmp_path, parse):
    def run(number, bank, settings, changed):
        facts = configured("OGKD", bank=bank, SETTINGS=settings)
        write_run(tmp_path / number, "few_shot", "BTMRI", "OGKD", 1, 60.0, **facts, settings=settings, changed=changed)

    run("a", "biomedcoop", "universal", {"TRAINER.OGKD.PROMPT_BANK": "biomedcoop", "SETTINGS": "universal"})
    text = parse(tmp_path, "--table", "few_shot").stdout
    assert line_of(text, "OGKD") and "teacher sentences: biomedcoop; universal settings" in text
    run("b", "", "published", {})
    text = parse(tmp_path, "--table", "few_shot").stdout
    assert line_of(text, "OGKD")[1:] == ["this project's", "published"]
    assert line_of(text, "OGKD, universal settings, PROMPT_BANK biomedcoop")[1:] == ["biomedcoop", "universal"]


@pytest.mark.parametrize(
    ("method", "changed", "name"),
    [
        ("ZeroShot", {"OPTIM.MAX_EPOCH": 20, "DATALOADER.TRAIN_X.BATCH_SIZE": 8}, "Zero-shot"),
        ("ZeroShot", {"TRAINER.ZEROSHOT.TEMPLATE": "a {}"}, "Zero-shot, TEMPLATE a {}"),
        ("LinearProbe", {"OPTIM.MAX_EPOCH": 20, "FEATURES.CROPS": 4}, "Linear probe"),
        ("LinearProbe", {"FEATURES.TRAIN_VIEW": "augmented"}, "Linear probe, TRAIN_VIEW augmented"),
        ("CoOp", {"OPTIM.MAX_EPOCH": 20, "FEATURES.TRAIN_VIEW": "augmented"}, "CoOp, MAX_EPOCH 20"),
        ("Elsewhere", {"OPTIM.MAX_EPOCH": 20}, "Elsewhere, MAX_EPOCH 20"),
    ],
)
def test_an_option_that_a_method_does_not_read_names_no_row(tmp_path, method, changed, name):
    def nested(values):
        node = {"TRAINER": {"NAME": method}, "DATASET": {"NAME": "BTMRI"}}
        for key, value in values.items():
            *sections, last = key.split(".")
            of = node
            for section in sections:
                of = of.setdefault(section, {})
            of[last] = value
        return node

    write_run(tmp_path / "b", "few_shot", "BTMRI", method, 2, 70.0, config=nested(changed), changed=changed)
    (table,) = few_shot_tables(collect(tmp_path))
    assert [row.name for row in table.rows] == [name]
    write_run(
        tmp_path / "a", "few_shot", "BTMRI", method, 1, 60.0, config=nested(dict.fromkeys(changed, 1)), changed={}
    )
    (table,) = few_shot_tables(collect(tmp_path))
    rows = {row.name: row.cells["16 shots"].mean for row in table.rows}
    assert rows == ({name: 65.0} if "," not in name else {name.partition(",")[0]: 60.0, name: 70.0})


def test_rows_of_validation_images_have_no_rank_beside_rows_of_test_images(tmp_path, parse):
    for number, (method, value, part) in enumerate(
        [("CoOp", 60.0, "test"), ("OGKD", 50.0, "test"), ("CoOp", 90.0, "val")]
    ):
        changed = {} if part == "test" else {"TEST.SPLIT": part}
        write_run(
            tmp_path / str(number),
            "few_shot",
            "BTMRI",
            method,
            1,
            value,
            **configured(method, test=part),
            changed=changed,
        )
    text = parse(tmp_path, "--table", "few_shot").stdout
    cells = {name: line_of(text, name)[0] for name in ("CoOp", "OGKD", "CoOp, SPLIT val")}
    assert cells == {"CoOp": "**60.00**", "OGKD": "<u>50.00</u>", "CoOp, SPLIT val": "90.00"}
    assert "2 validation images" in text
    write_run(tmp_path / "more", "few_shot", "Kvasir", "CoOp", 1, 80.0, **configured("CoOp", test="val"))
    write_run(tmp_path / "most", "few_shot", "Kvasir", "OGKD", 1, 70.0, **configured("OGKD", test="val"))
    assert "**80.00**" in parse(tmp_path, "--table", "few_shot", "--dataset", "kvasir").stdout


# Averages


def test_an_average_is_over_the_data_sets_that_all_methods_share_in_its_columns(tmp_path):
    rows = [
        ("few_shot", dataset, method, seed, shots)
        for dataset in NAMES
        for method in ("CoOp", "OGKD")
        for seed in (1, 2)
        for shots in (1, 4, 16)
        if (dataset, method, shots) not in {("RETINA", "OGKD", 4), ("RETINA", "OGKD", 16)}
        and (dataset, shots) != ("BTMRI", 1)
    ]
    frame = write(tmp_path, rows)
    table, notes = average(few_shot_tables(collect(tmp_path)), "few_shot")
    assert (table.headers, table.datasets) == (["method", "4 shots", "16 shots"], ("btmri", "kvasir"))
    of = frame[frame.dataset.isin(table.datasets) & (frame.shots > 1)]
    means = of.groupby(["method", "shots", "dataset"]).accuracy.mean().groupby(["method", "shots"]).mean().unstack()
    assert [[cell.mean for cell in row.cells.values()] for row in table.rows] == [
        pytest.approx(list(r)) for r in means.to_numpy()
    ]
    assert "means over 2 data sets (btmri, kvasir)" in table.caption
    assert any("retina few-shot is not in the average, as it lacks OGKD" in note for note in notes)
    assert any(note.startswith("1 shot is not in the average") for note in notes)


def test_mean_ranks_and_diagrams_are_over_shared_data_sets_and_the_others_are_named(tmp_path, parse):
    sets, methods = ("BTMRI", "Kvasir", "RETINA", "BUSI"), ("CoOp", "KgCoOp", "OGKD")
    rng, values = np.random.default_rng(0), {}
    for dataset in sets:
        for method in methods if dataset != "BUSI" else methods[:2]:
            folder = tmp_path / "runs" / dataset / method
            values[dataset, method] = round(float(rng.uniform(40, 90)), 3)
            write_run(folder, "few_shot", dataset, method, 1, values[dataset, method])
            labels = np.arange(20) % 2
            Predictions(tuple(map(str, range(20))), labels, rng.normal(size=(20, 2)), ("a", "b")).save(
                folder / "predictions.npz"
            )
    diagram = ("--diagram", tmp_path / "ranks.svg")
    done = parse(tmp_path / "runs", "--table", "few_shot", "--against", "CoOp", *diagram, "--format", "csv")
    of_sets = pd.Series(values).unstack().dropna().rank(axis=1, ascending=False)
    ranks = {
        row["row"]: row["16 shots mean"]
        for row in csv.DictReader(io.StringIO(done.stdout))
        if row["table"] == "mean ranks"
    }
    assert {name: float(rank) for name, rank in ranks.items()} == pytest.approx(of_sets.mean().to_dict(), abs=1e-3)
    assert "busi is not in the mean ranks of 16 shots, as OGKD is not finished on it" in done.stderr
    assert "3 data sets" in (tmp_path / "ranks-16-shots.svg").read_text()
    assert "Seed 1; 16 shots; BiomedCLIP" in parse(tmp_path / "runs", "--table", "few_shot", "--against", "CoOp").stdout
    shutil.rmtree(tmp_path / "runs" / "RETINA" / "OGKD")
    done = parse(tmp_path / "runs", "--table", "few_shot", "--against", "CoOp", *diagram)
    assert done.returncode == 2 and "3 methods on 3 data sets" in done.stderr and "as OGKD" in done.stderr


# Footnotes


def test_a_warning_that_methods_share_is_said_once(tmp_path):
    leak = "2 images are in both training and test"
    for method in ("CoOp", "KgCoOp", "OGKD"):
        for seed in (1, 2):
            write_run(tmp_path / f"{method}{seed}", "few_shot", "BTMRI", method, seed, 60.0, warnings=[leak])
    assert few_shot_tables(collect(tmp_path))[0].footnotes == [f"All runs: {leak}."]
    write_run(tmp_path / "more", "few_shot", "BTMRI", "ProGrad", 1, 60.0)
    write_run(tmp_path / "most", "few_shot", "BTMRI", "ProGrad", 2, 60.0, warnings=[leak])
    (one,) = few_shot_tables(collect(tmp_path))[0].footnotes
    assert one == f"CoOp, KgCoOp and OGKD, 16 shots (seeds 1, 2); ProGrad, 16 shots (seed 2): {leak}."


# Formats


def test_one_latex_table_has_methods_by_data_sets(tmp_path, parse):
    frame = write(
        tmp_path,
        [
            (kind, dataset, method, seed, 16)
            for kind in ("train_base", "test_new")
            for dataset in NAMES
            for method in ("CoOp", "KgCoOp", "OGKD")
            for seed in (1, 2)
        ],
    )
    latex = parse(tmp_path, "--table", "base2new", "--format", "latex").stdout
    assert latex.count(r"\begin{tabular}") == latex.count(r"\label{tab:base2new}") == 1
    assert [latex.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 3, 1]
    parts = re.split(r"\\multicolumn\{5\}\{l\}\{\\textit\{(.+?)\}\} \\\\\n", latex)[1:]
    means = frame.groupby(["method", "dataset", "kind"]).accuracy.mean().unstack()
    means["HM"] = hm(means.train_base, means.test_new)
    means.columns = means.columns.map({"train_base": "base", "test_new": "novel", "HM": "HM"})
    assert parts[::2] == ["base", "novel", "HM"]
    for part, body in zip(parts[::2], parts[1::2], strict=True):
        expected = means[part].unstack()
        expected["average"] = expected.mean(axis=1)
        rows = [line.removesuffix(r" \\").split(" & ") for line in body.splitlines()[:3]]
        for column in range(4):
            order = expected.iloc[:, column].rank(ascending=False)
            for (name, *cells), rank, value in zip(rows, order, expected.iloc[:, column], strict=True):
                mark = {1: rf"\textbf{{{value:.2f}}}", 2: rf"\underline{{{value:.2f}}}"}.get(rank, f"{value:.2f}")
                assert cells[column] == mark, (name, part)


def test_one_latex_table_says_a_remark_once_and_where_the_averages_of_balanced_accuracy_are(tmp_path, parse):
    for dataset in ("BTMRI", "BUSI"):
        for method in ("CoOp", "OGKD"):
            more = {"confusion_matrix": [[90, 5], [1, 4]], "classnames": ["a", "b"], "num_test": 100}
            of_set = [f"a lamp flickered in {dataset}"]
            write_run(
                tmp_path / dataset / method, "few_shot", dataset, method, 1, 94.0, warnings=["rain", *of_set], **more
            )
    latex = parse(tmp_path, "--table", "few_shot", "--format", "latex").stdout
    assert latex.count("rain") == 1 and "btmri: All runs: a lamp flickered in BTMRI" in latex
    assert r"-{}-metric balanced\_accuracy" in latex
    assert (
        "--metric balanced_accuracy" in parse(tmp_path, "--table", "few_shot").stdout.partition("average few_shot")[2]
    )


def test_a_spreadsheet_without_openpyxl_is_one_sentence(tmp_path, parse, monkeypatch):
    write_run(tmp_path / "a", "few_shot", "BTMRI", "CoOp", 1, 60.0)
    monkeypatch.setitem(sys.modules, "openpyxl.styles", None)
    done = parse(tmp_path, "--table", "few_shot", "--format", "xlsx", "-o", tmp_path / "t.xlsx")
    assert done.returncode == 2 and "pip install openpyxl" in done.stderr and done.stderr.count("\n") == 1
