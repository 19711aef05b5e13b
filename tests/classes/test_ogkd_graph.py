"""TRAINER.OGKD.GRAPH: which graph a run diffuses along, and that a run knows the file that it was read from."""

import csv
import hashlib
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dassl.engine import build_trainer
from ogkd.cli import train
from ogkd.core import UserError
from ogkd.evaluation.collect import read_run
from ogkd.reports.tables import few_shot_tables
from ogkd.runs.config import build_config
from ogkd.runs.spec import RunSpec
from ogkd.tuning import distillation

GROUPS = (
    ("smooth mass", "lobulated mass", "spiculated mass"),
    ("simple cyst", "septated cyst", "ring enhancing cyst"),
    ("scattered calcifications", "clustered calcifications", "linear calcifications"),
    ("ground glass opacity", "reticular opacity", "nodular opacity"),
)
CLASSES = [name for group in GROUPS for name in group]
GRAPH = "TRAINER.OGKD.GRAPH"


def similarity(one, other):
    """1 - distance in the tree of Phantom's classes: four groups of three."""
    if one == other:
        return 1.0
    return 0.5 if any(one in group and other in group for group in GROUPS) else 0.0


def row_softmax(names, similar, alpha):
    weights = np.array([[math.exp(alpha * similar(i, j)) for j in names] for i in names])
    return weights / weights.sum(1, keepdims=True)


def write_graph(path, names, matrix):
    """A CSV file of a matrix, every number with all its digits."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["", *names])
        for name, row in zip(names, matrix, strict=True):
            writer.writerow([name, *(repr(float(value)) for value in row)])
    return str(path)


def nearness(one, other):
    """A similarity that no rule of the project gives, so that only the file can have brought it."""
    return 1 / (1 + abs(CLASSES.index(one) - CLASSES.index(other)))


@pytest.fixture
def own_geometry(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("order:\n" + "".join(f"- {name}\n" for name in CLASSES) + "source: made up\n", encoding="utf-8")
    return path


@pytest.fixture
def kinds(tmp_path, own_geometry):
    """Every kind of graph but text, and W over given classes as an independent computation has it."""
    n = len(CLASSES)
    similarities = [[nearness(i, j) for j in CLASSES] for i in CLASSES]
    finished = np.random.default_rng(0).dirichlet(np.ones(n), n)
    at = CLASSES.index
    return {
        "identity": lambda names, alpha: np.eye(len(names)),
        "uniform": lambda names, alpha: np.ones((len(names), len(names))) / len(names),
        "geometry": lambda names, alpha: row_softmax(names, similarity, alpha),
        f"geometry:{own_geometry}": lambda names, alpha: row_softmax(
            names, lambda i, j: 1 - abs(at(i) - at(j)) / (n - 1), alpha
        ),
        "file:" + write_graph(tmp_path / "similarities.csv", CLASSES, similarities): lambda names, alpha: row_softmax(
            names, nearness, alpha
        ),
        "file+:" + write_graph(tmp_path / "finished.csv", CLASSES, finished): lambda names, alpha: finished[
            np.ix_([at(i) for i in names], [at(i) for i in names])
        ],
    }


@pytest.fixture
def graph_of(arguments):
    """The method of a run, ready for its first step: graph_of(*pairs)."""

    def make(*pairs):
        trainer = build_trainer(build_config(RunSpec.parse(arguments("OGKD", "OPTIM.MAX_EPOCH", "1", *pairs))))
        trainer.method.prepare(trainer.task)
        return trainer.method

    return make


def prompt(folder):
    (path,) = (folder / "prompt_learner").glob("model.pth.tar-*")
    return torch.load(path, weights_only=True)["state_dict"]["ctx"]


# What W is


def test_without_the_option_the_graph_is_that_of_the_text_prototypes(graph_of):
    method = graph_of("TRAINER.OGKD.ALPHA", "3.0")
    assert torch.equal(method.distillation.graph, distillation.class_graph(method.prototypes, 3.0))


@pytest.mark.parametrize("subsample", ["all", "base"])
def test_every_kind_gives_the_matrix_that_its_definition_says_over_the_classes_in_play(graph_of, kinds, subsample):
    if subsample == "base":  # a finished graph must have the classes of the run
        kinds = {kind: expected for kind, expected in kinds.items() if not kind.startswith("file+:")}
    for kind, expected in kinds.items():
        method = graph_of(GRAPH, kind, "TRAINER.OGKD.ALPHA", "2.5", "DATASET.SUBSAMPLE_CLASSES", subsample)
        assert method.distillation.graph.dtype == torch.float32
        np.testing.assert_allclose(method.distillation.graph, expected(method.classnames, 2.5), rtol=1e-6, err_msg=kind)


def folded(whole, base):
    """W_bb + 0.1 W_bn W_nb."""
    result = np.array(whole[:base, :base], dtype=float)
    for i in range(base):
        for j in range(base):
            result[i, j] += 0.1 * sum(whole[i, n] * whole[n, j] for n in range(base, len(whole)))
    return result


def test_held_out_classes_are_folded_into_the_graph_over_all_classes_of_every_kind(graph_of, kinds):
    base = ["DATASET.SUBSAMPLE_CLASSES", "base", "TRAINER.OGKD.FOLD_HELD_OUT", "True", "TRAINER.OGKD.ALPHA", "1.5"]
    all_prototypes = graph_of().prototypes.double().numpy()
    cosines = all_prototypes @ all_prototypes.T
    places = {name: i for i, name in enumerate(graph_of().classnames)}
    kinds["text"] = lambda names, alpha: row_softmax(names, lambda i, j: cosines[places[i], places[j]], alpha)
    for kind, expected in kinds.items():
        method = graph_of(GRAPH, kind, *base)
        mine = method.classnames
        held_out = [name for name in places if name not in mine]
        assert (len(mine), len(held_out)) == (6, 6)
        whole = expected([*mine, *held_out], 1.5)
        np.testing.assert_allclose(method.distillation.graph, folded(whole, 6), rtol=1e-5, err_msg=kind)


# What it does


logits = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 4),
        "classes": st.integers(1, 6),
        "seed": st.integers(0, 2**31 - 1),
    }
)


def test_a_file_of_the_text_graph_gives_the_prompt_of_the_text_graph_bit_for_bit(arguments, graph_of, tmp_path):
    method = graph_of("TRAINER.OGKD.ALPHA", "2.0")
    path = write_graph(tmp_path / "text.csv", method.classnames, method.distillation.graph.tolist())
    train.main(arguments("OGKD", "TRAINER.OGKD.ALPHA", "2.0", output=tmp_path / "text"))
    train.main(arguments("OGKD", "TRAINER.OGKD.ALPHA", "2.0", GRAPH, f"file+:{path}", output=tmp_path / "file"))
    assert torch.equal(prompt(tmp_path / "file"), prompt(tmp_path / "text"))


# What is wrong is said


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("geometri", "no class graph 'geometri'.*did you mean 'geometry'"),
        ("geometry:none.yaml", "'geometry:none.yaml' needs the file none.yaml, which does not exist"),
    ],
)
def test_a_graph_that_cannot_be_is_an_error_before_anything_is_loaded(arguments, tmp_path, kind, sentence):
    words = arguments("OGKD", GRAPH, kind)
    words[words.index("--root") + 1] = str(tmp_path / "no data here")
    with pytest.raises(UserError, match=sentence):
        train.main(words)
    assert not (tmp_path / "run").exists()


def test_a_data_set_of_which_no_geometry_is_known_is_an_error_that_says_what_to_write(data, tmp_path):
    (tmp_path / "moles").symlink_to(data / "Phantom" / "Phantom")
    spec = RunSpec(
        "OGKD", str(tmp_path / "run"), "moles", data=str(tmp_path), backbone="PhantomCLIP", pairs=(GRAPH, "geometry")
    )
    with pytest.raises(UserError, match=r"how the classes of moles relate.*moles\.yaml.* does not exist: write it"):
        train.main(spec.arguments())


def test_a_finished_graph_with_classes_that_are_not_in_play_is_an_error(arguments, tmp_path):
    path = write_graph(tmp_path / "all.csv", CLASSES, np.eye(12))
    with pytest.raises(UserError, match="which the run does not use"):
        train.main(arguments("OGKD", GRAPH, f"file+:{path}", "DATASET.SUBSAMPLE_CLASSES", "base"))


# A run knows the file that it was learned from


@pytest.fixture
def csv_run(arguments, tmp_path):
    """A finished run of a graph from a file, the file, and the run's arguments."""
    path = tmp_path / "graph.csv"
    write_graph(path, CLASSES, np.eye(12))
    words = arguments("OGKD", GRAPH, f"file:{path}")
    train.main(words)
    return path, words


def recorded(folder):
    return json.loads((folder / "results.json").read_text())["fingerprints"]


def test_results_hold_the_hash_of_the_graphs_file_and_none_without_one(arguments, csv_run, tmp_path):
    path, _ = csv_run
    assert recorded(tmp_path / "run")["graph"] == hashlib.sha256(path.read_bytes()).hexdigest()
    train.main(arguments("OGKD", output=tmp_path / "text"))
    assert "graph" not in recorded(tmp_path / "text")


def test_a_run_is_not_taken_for_one_of_a_file_that_has_changed(csv_run, tmp_path, capsys):
    path, words = csv_run
    train.main(words)
    assert "is complete" in capsys.readouterr().out
    write_graph(path, CLASSES, 2 * np.eye(12))
    with pytest.raises(UserError, match="another graph, whose file has changed since"):
        train.main(words)
    (tmp_path / "run" / "results.json").unlink()  # not finished
    with pytest.raises(UserError, match="another graph, whose file has changed since"):
        train.main(words)


def test_a_test_of_a_prompt_records_the_file_that_it_was_learned_from_though_it_is_gone(arguments, csv_run, tmp_path):
    path, _ = csv_run
    before = recorded(tmp_path / "run")["graph"]
    path.unlink()
    model = ("--eval-only", "--model-dir", str(tmp_path / "run"))
    train.main([*model, *arguments("OGKD", GRAPH, f"file:{path}", output=tmp_path / "tested")])
    assert recorded(tmp_path / "tested")["graph"] == before


def test_runs_of_different_files_of_one_name_are_rows_of_their_own(arguments, csv_run, tmp_path):
    path, words = csv_run
    again = list(words)
    again[again.index("--output-dir") + 1] = str(tmp_path / "again")
    write_graph(path, CLASSES, 3 * np.eye(12))
    train.main(again)
    (table,) = few_shot_tables([read_run(tmp_path / "run"), read_run(tmp_path / "again")])
    names = [row.name for row in table.rows]
    assert len(names) == 2
    for folder in ("run", "again"):
        assert any(f"graph {recorded(tmp_path / folder)['graph'][:6]}" in name for name in names)


# What a negative loss means


def smoothed(made, gamma, smoothing):
    random = torch.Generator().manual_seed(made["seed"])
    shape = made["batch"], made["classes"]
    student, teacher = (torch.randn(shape, generator=random, dtype=torch.float64) * 3 for _ in range(2))
    graph = torch.randn(made["classes"], made["classes"], generator=random, dtype=torch.float64).softmax(-1)
    return (
        student.requires_grad_(),
        teacher,
        graph,
        distillation.smooth(teacher.log_softmax(-1), graph, gamma, smoothing),
    )


@given(logits, st.floats(0, 1), st.sampled_from(distillation.SMOOTHINGS))
def test_gad_draws_the_student_to_the_normalised_target_and_is_bounded_below(made, gamma, smoothing):
    student, teacher, graph, r = smoothed(made, gamma, smoothing)
    loss = distillation.gad_loss(student, teacher, graph, gamma, smoothing)
    loss.backward()
    strength, target = r.exp().sum(-1, keepdim=True), r.softmax(-1)
    torch.testing.assert_close(student.grad, strength * (student.softmax(-1) - target) / student.numel())
    assert loss >= (-1 / math.e if smoothing == "log" else -1e-12) / made["classes"]


@given(logits, st.floats(0, 1))
def test_lgd_has_the_gradient_of_a_cross_entropy_weighted_by_the_target_and_is_bounded_below(made, gamma):
    student, teacher, graph, r = smoothed(made, gamma, "log")
    label = torch.arange(made["batch"]) % made["classes"]
    loss = distillation.lgd_loss(student[:, None], teacher[:, None], label, graph, gamma)
    (gradient,) = torch.autograd.grad(loss, student)
    weights = r.exp().gather(1, label[:, None]).squeeze(1)
    entropy = torch.nn.functional.cross_entropy(student, label, reduction="none")
    (expected,) = torch.autograd.grad((weights * entropy).mean(), student)
    torch.testing.assert_close(gradient, expected)
    assert loss >= -1 / math.e
