"""Published figures: what the tables show is what the file says, and definitions are not mixed."""

import json
from collections import defaultdict

import numpy as np
import pytest

from ogkd.core import UserError
from ogkd.evaluation.methods import named
from ogkd.reports import published
from ogkd.reports.tables import HM_OF_MEANS, MEAN_OF_HM
from tests.conftest import ROOT
from tests.support.tables import hm, line_of, rows_of, write_run

CONTENT = json.loads((ROOT / "ogkd/evaluation/published.json").read_text(encoding="utf-8"))
SETS = CONTENT["sources"]["biomedcoop"]["base2new_sets"]
NAMES = {"btmri": "BTMRI", "chmnist": "CHMNIST", "covid": "COVID_19", "ctkidney": "CTKidney", "busi": "BUSI",
         "dermamnist": "DermaMNIST", "kneexray": "KneeXray", "kvasir": "Kvasir", "lungcolon": "LungColon",
         "octmnist": "OCTMNIST", "retina": "RETINA"}  # fmt: skip


def of_runs(protocol, *facts):
    """Rows of the released checkpoints, {(data set, ...): figures}."""
    columns = CONTENT["released_checkpoints"]["columns"][protocol]
    found = defaultdict(list)
    for row in CONTENT["released_checkpoints"]["rows"]:
        if row[0] == protocol:
            of_row = dict(zip(columns, row, strict=True))
            found[tuple(of_row[name] for name in facts)].append(of_row)
    return found


def base2new(folder, datasets=SETS, method="BiomedCoOp", seeds=(1, 2, 3), **words):
    """Runs on the data sets, with their accuracies."""
    accuracy = {}
    for number, dataset in enumerate(datasets):
        for seed in seeds:
            for kind, value in (("train_base", 70 + number + seed / 7), ("test_new", 60 - number + seed / 9)):
                write_run(
                    folder / kind / dataset / method / str(seed), kind, NAMES[dataset], method, seed, value, **words
                )
                accuracy[dataset, seed, kind] = value
    return accuracy


# Biomed-DPT's and BiomedAP's HM is neither definition exactly; it is nearer to the HM of the means.
OWN_DEFINITION = {"biomed-dpt": 0.25, "biomedap": 0.05}


@pytest.mark.parametrize("entry", CONTENT["averages"], ids=lambda entry: f"{entry['source']} {entry['method']}")
def test_every_published_average_stands_in_the_column_of_its_definition(entry):
    figures = published.averages(published.sources()[entry["source"]], entry["protocol"])[named(entry["method"])]
    if entry["protocol"] == "few_shot":
        columns = [f"{number} shot{'s' if number > 1 else ''}" for number in entry["shots"]]
        assert figures == dict(zip(columns, entry["accuracy"], strict=True))
        return
    column = {"HM of the means": HM_OF_MEANS, "mean of the sets' HM": MEAN_OF_HM}[entry["hm_is"]]
    assert figures == {"base": entry["base"], "novel": entry["novel"], column: entry["hm"]}
    distance = abs(hm(entry["base"], entry["novel"]) - entry["hm"])
    assert distance < OWN_DEFINITION.get(entry["source"], 0.011) if column == HM_OF_MEANS else distance > 1


def test_averages_of_single_runs_are_the_published_ones():
    """The released checkpoints' accuracies, averaged here, against the README's."""
    source, readme = (published.sources()[name] for name in ("released-checkpoints", "biomedcoop"))
    ours = published.averages(source, "base2new")["BiomedCoOp"]
    means = [
        [np.mean([run[part] for run in runs]) for part in ("base", "novel")]
        for runs in of_runs("base2new", "dataset").values()
    ]
    base, novel = np.mean(means, axis=0)
    expected = {"base": base, "novel": novel, HM_OF_MEANS: hm(base, novel)}
    assert ours == pytest.approx(expected | {MEAN_OF_HM: np.mean([hm(*of_set) for of_set in means])})
    theirs = published.averages(readme, "base2new")["BiomedCoOp"]
    assert MEAN_OF_HM not in theirs and ours[HM_OF_MEANS] == pytest.approx(theirs[HM_OF_MEANS], abs=0.03)
    few_shot = (published.averages(one, "few_shot")["BiomedCoOp"] for one in (source, readme))
    assert next(few_shot) == pytest.approx(next(few_shot), abs=0.011)


# Beside ours


def test_differences_are_of_the_same_data_sets_and_definitions(tmp_path, parse):
    accuracy = base2new(tmp_path) and base2new(tmp_path, method="CoOp")
    done = parse(tmp_path, "--table", "base2new", "--published")
    for word in ("HealthX-Lab/BiomedCoOp at 7ceb5a8, 3 seeds", "1.96 std / sqrt(3)", "seed 1 under seeds 2 and 3"):
        assert word in done.stdout
    done = parse(tmp_path, "--table", "base2new", "--published", "--format", "csv")
    assert (done.returncode, done.stderr) == (0, "")
    row = rows_of(done.stdout, "average base2new")["CoOp"]
    means = [
        [np.mean([accuracy[dataset, seed, kind] for seed in (1, 2, 3)]) for kind in ("train_base", "test_new")]
        for dataset in SETS
    ]
    assert float(row["base published mean"]) == 73.85
    assert float(row["base difference mean"]) == pytest.approx(np.mean(means, axis=0)[0] - 73.85, abs=1e-3)
    assert float(row["mean of HM published mean"]) == 67.23
    ours = np.mean([hm(*of_set) for of_set in means])
    assert float(row["mean of HM difference mean"]) == pytest.approx(ours - 67.23, abs=1e-3)
    assert row["HM of means published mean"] == row["HM of means difference mean"] == ""
    assert rows_of(done.stdout, "average base2new")["BiomedCoOp"]["HM of means published mean"] == "75.0700"


def test_the_average_is_over_the_sets_that_the_source_has(tmp_path, parse):
    base2new(tmp_path, [*SETS, "busi"])
    done = parse(tmp_path, "--table", "base2new", "--published")
    assert "means over 10 data sets" in done.stdout
    assert "busi base2new is not in the average, as biomedcoop does not include it" in done.stderr
    done = parse(tmp_path, "--table", "base2new", "--published", "clip-svd")
    assert "means over 9 data sets" in done.stdout
    assert "dermamnist base2new is not in the average" in done.stderr


def test_no_difference_is_formed_where_the_data_sets_are_not_the_same(tmp_path, parse):
    base2new(tmp_path, SETS[:4])
    done = parse(tmp_path, "--table", "base2new", "--published")
    assert "biomedcoop averages over 10 data sets, of which ours lacks dermamnist, " in done.stderr
    assert "73.92" in done.stdout
    assert "difference" not in done.stdout
    done = parse(tmp_path, "--table", "base2new", "--published", "biomed-dpt")
    assert "biomed-dpt does not say which data sets it averages" in done.stderr
    assert "difference" not in done.stdout


def test_figures_per_data_set_are_averaged_over_the_data_sets_that_both_have(tmp_path, parse):
    base2new(tmp_path, SETS[:4])
    words = (tmp_path, "--table", "base2new", "--published", "released-checkpoints")
    row = rows_of(parse(*words, "--format", "csv").stdout, "average base2new")["BiomedCoOp"]
    of_sets = [runs for (name,), runs in of_runs("base2new", "dataset").items() if name in SETS[:4]]
    base, novel = (np.mean([np.mean([run[part] for run in runs]) for runs in of_sets]) for part in ("base", "novel"))
    assert float(row["base published mean"]) == pytest.approx(base, abs=1e-3)
    assert float(row["HM of means published mean"]) == pytest.approx(hm(base, novel), abs=1e-3)
    assert row["base difference mean"]
    assert "Published figures are of the same 4 data sets." in parse(*words).stdout


def test_the_caption_beside_published_figures_says_whose_sentences_ours_used(tmp_path, parse):
    base2new(
        tmp_path,
        options={"PROMPTS": "bank", "PROMPT_BANK": "biomedcoop"},
        changed={"TRAINER.BIOMEDCOOP.PROMPT_BANK": "biomedcoop"},
    )
    words = (tmp_path, "--table", "base2new", "--published")
    assert "Teacher sentences: biomedcoop here, those of the papers in published runs." in parse(*words).stdout
    row = rows_of(parse(*words, "--format", "csv").stdout, "average base2new")["BiomedCoOp"]
    assert (row["base published mean"], row["bank"]) == ("76.2600", "biomedcoop")


def test_the_default_source_is_the_one_whose_sets_were_run():
    assert published.fitting_source("BiomedCLIP", "base2new", SETS).name == "biomedcoop"
    without = [name for name in SETS if name != "dermamnist"]
    assert published.fitting_source("BiomedCLIP", "base2new", without).name == "clip-svd"
    assert published.fitting_source("BiomedCLIP", "few_shot", [*SETS, "busi"]).name == "biomedcoop"
    with pytest.raises(UserError, match="BiomedCLIP"):
        published.fitting_source("PhantomCLIP", "base2new", ["phantom"])


def test_a_method_or_variant_that_nobody_published_has_no_published_figure(tmp_path, parse):
    base2new(tmp_path, method="OGKD")
    words = (tmp_path, "--table", "base2new")
    assert parse(*words, "--published").stdout == parse(*words).stdout
    base2new(tmp_path, method="CoOp")
    base2new(tmp_path, method="CoOp", seeds=(4,), options={"N_CTX": 16}, changed={"TRAINER.COOP.N_CTX": 16})
    rows = rows_of(parse(*words, "--published", "--format", "csv").stdout, "average base2new")
    assert rows["CoOp"]["base published mean"] == "73.8500"
    assert rows["OGKD"]["base published mean"] == rows["CoOp, N_CTX 16"]["base published mean"] == ""


def test_figures_of_a_data_set_and_its_seeds_stand_beside_ours(tmp_path, parse):
    accuracy = base2new(tmp_path)
    done = parse(tmp_path, "--table", "base2new", "--published", "--dataset", "ctkidney", "--format", "csv")
    runs = of_runs("base2new", "dataset")["ctkidney",]
    row = rows_of(done.stdout, "ctkidney base2new")["BiomedCoOp"]
    base, novel = (np.mean([run[part] for run in runs]) for part in ("base", "novel"))
    assert float(row["base published mean"]) == pytest.approx(base, abs=1e-4)
    assert float(row["novel published mean"]) == pytest.approx(novel, abs=1e-4)
    assert float(row["HM published mean"]) == pytest.approx(hm(base, novel), abs=1e-4)
    seeds = rows_of(done.stdout, "ctkidney base2new, by seed")
    for run in runs:
        row = seeds[f"BiomedCoOp, seed {run['seed']}"]
        assert float(row["base published mean"]) == run["base"]
        assert float(row["novel published mean"]) == run["novel"]
        ours = accuracy["ctkidney", run["seed"], "train_base"]
        assert float(row["base difference mean"]) == pytest.approx(ours - run["base"], abs=1e-3)
    assert "by seed" not in parse(tmp_path, "--table", "base2new", "--published").stdout


def test_few_shot_figures_of_seeds_have_a_column_per_number_of_shots(tmp_path, parse):
    for shots in (1, 16):
        write_run(tmp_path / str(shots), "few_shot", "RETINA", "BiomedCoOp", 2, 50.0 + shots, shots)
    done = parse(tmp_path, "--table", "few_shot", "--published", "released-checkpoints", "--dataset", "retina")
    (one,), (sixteen,) = (
        [run["accuracy"] for run in of_runs("few_shot", "dataset", "shots", "seed")["retina", shots, 2]]
        for shots in (1, 16)
    )
    expected = [51.0, one, 51 - one, 66.0, sixteen, 66 - sixteen]
    assert [float(cell) for cell in line_of(done.stdout, "BiomedCoOp, seed 2")] == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize(
    ("backbone", "words", "reason"),
    [
        ("BiomedCLIP", ["--published", "biomedcop"], "mean 'biomedcoop'"),
        ("BiomedCLIP", ["--published", "--metric", "macro_f1"], "accuracies"),
        ("BiomedCLIP", ["--published", "--against", "CoOp"], "leave out --published"),
        ("PubMedCLIP", ["--published"], "BiomedCLIP"),
        ("PubMedCLIP", ["--published", "biomedcoop"], "BiomedCLIP"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(tmp_path, parse, backbone, words, reason):
    base2new(tmp_path, SETS[:1], backbone=backbone)
    done = parse(tmp_path, "--table", "base2new", *words)
    assert done.returncode == 2
    assert reason in done.stderr and done.stderr.count("\n") == 1
