"""Geometry files, distances, costs and class graphs."""

import csv
import json
import math
import subprocess
import sys
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ogkd.classes import (
    FOLDER,
    GRAPHS,
    Geometry,
    class_graph_matrix,
    costs,
    distances,
    find_graph,
    read_geometry,
    read_graph,
    register_graph,
    row_softmax,
    similarity,
)
from ogkd.core import UserError
from ogkd.phantom.dataset import DATASETS

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(FOLDER.glob("*.yaml"))
CATALOGUE = json.loads((ROOT / "ogkd/data/catalogue.json").read_text(encoding="utf-8"))["datasets"]
examples = settings(max_examples=50, deadline=None)
TRANSFER = {
    "BTMRI": ["BTMRI-P", "BTMRI-S", "BRISC"], "BUSI": ["BUID", "BUSBRA", "UDIAT"], "Phantom": ["PhantomShift"],
}  # fmt: skip


# Trees of any shape, as nested lists whose leaves are None; with names, as in a file.


def _named(shape: list, counter: list[int]) -> dict:
    tree = {}
    for child in shape:
        counter[0] += 1
        tree[f"n{counter[0]}"] = None if child is None else _named(child, counter)
    return tree


shapes = st.recursive(st.none(), lambda child: st.lists(child, min_size=1, max_size=4), max_leaves=14)
trees = st.lists(shapes, min_size=2, max_size=4).map(lambda shape: _named(shape, [0]))


def _paths(tree: dict, above: tuple = ()) -> list[tuple]:
    """The names from the top down to each class."""
    return [
        path
        for name, below in tree.items()
        for path in ([(*above, name)] if below is None else _paths(below, (*above, name)))
    ]


def _slow_distance(paths: list[tuple], i: int, j: int) -> float:
    """Walk up from class i until an ancestor has j below it; measure heights by the longest way down."""
    for length in range(len(paths[i]), -1, -1):
        ancestor = paths[i][:length]
        below = [path for path in paths if path[:length] == ancestor]
        if paths[j] in below:
            return max(len(path) - length for path in below) / max(len(path) for path in paths)
    raise AssertionError("the top is above every class")


@examples
@given(trees)
def test_tree_distances_equal_a_pairwise_search_for_the_lowest_common_ancestor(tree):
    paths = _paths(tree)
    names = [path[-1] for path in paths]
    expected = [[_slow_distance(paths, i, j) for j in range(len(paths))] for i in range(len(paths))]
    assert np.array_equal(distances(Geometry(tuple(names), tree=tree)), expected)


@examples
@given(st.integers(2, 30))
def test_order_distances_are_equal_steps_between_the_ends(count):
    names = tuple(f"grade {i}" for i in range(count))
    d = distances(Geometry(names, order=names))
    assert d[0, -1] == 1
    for i, j in product(range(count), repeat=2):
        assert d[i, j] == pytest.approx(sum(1 / (count - 1) for _ in range(min(i, j), max(i, j))), abs=1e-12)


@examples
@given(trees, st.data())
def test_a_file_gives_back_its_tree_and_some_of_its_classes_keep_their_distances(tmp_path_factory, tree, data):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump({"tree": tree, "source": "made up"}, sort_keys=False))
    whole = read_geometry(path)
    assert whole.tree == tree and whole.classnames == tuple(path[-1] for path in _paths(tree))
    some = data.draw(st.lists(st.sampled_from(whole.classnames), unique=True, min_size=1))
    d, full = distances(read_geometry(path, some)), distances(whole)
    for (i, one), (j, two) in product(enumerate(some), repeat=2):
        assert d[i, j] == full[whole.classnames.index(one), whole.classnames.index(two)]


def test_costs_are_distances_but_where_overridden_and_need_not_be_symmetric():
    geometry = Geometry(("a", "b", "c"), order=("a", "b", "c"), overrides={"b": {"a": 1.0}, "c": {"a": 0.25}})
    assert np.array_equal(costs(geometry), [[0, 0.5, 1], [1, 0, 0.5], [0.25, 0.5, 0]])
    assert np.array_equal(costs(geometry.restrict(["b", "a"])), [[0, 1], [0.5, 0]])
    assert np.array_equal(distances(geometry), [[0, 0.5, 1], [0.5, 0, 0.5], [1, 0.5, 0]])


# The files of the repository.


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_is_valid_names_its_source_and_argues_its_full_costs(path):
    geometry = read_geometry(path)
    assert geometry.source
    assert geometry.reviewed or "# No clinician has reviewed this file." in path.read_text(encoding="utf-8")
    argued = {true for true, row in geometry.overrides.items() if any(row.values())}
    assert argued == set(geometry.notes)
    c = costs(geometry)
    assert ((c >= 0) & (c <= 1)).all() and np.array_equal(c == 0, np.eye(len(c), dtype=bool))


@pytest.mark.parametrize("dataset", CATALOGUE)
def test_classes_are_those_of_the_catalogue(dataset):
    assert set(read_geometry(dataset).classnames) == set(CATALOGUE[dataset]["classes"])


@pytest.mark.parametrize("name", DATASETS)
def test_classes_of_the_embedded_sets_are_those_that_are_drawn(name):
    made = DATASETS[name]
    assert sorted(read_geometry(made.folder).classnames) == sorted(made.classes)


@pytest.mark.parametrize(("source", "target"), [(source, target) for source in TRANSFER for target in TRANSFER[source]])
def test_a_mistake_costs_on_a_transfer_set_what_it_costs_on_its_source(source, target):
    geometry = read_geometry(target)
    assert np.array_equal(costs(geometry), costs(read_geometry(source, geometry.classnames)))


@pytest.mark.parametrize("dataset", ["BTMRI", "BUSI", "COVID_19", "CTKidney", "OCTMNIST", "RETINA"])
def test_every_disease_taken_for_normal_counts_fully_where_one_class_is_normal(dataset):
    geometry = read_geometry(dataset)
    (normal,) = [i for i, name in enumerate(geometry.classnames) if name.startswith("normal")]
    assert (np.delete(costs(geometry)[:, normal], normal) == 1).all()
    assert set(geometry.overrides) == set(geometry.classnames) - {geometry.classnames[normal]}


def test_only_grades_are_an_order_and_the_knees_ends_are_healthy_and_severe():
    assert {path.stem for path in FILES if read_geometry(path).is_ordered} == {"KneeXray", "PhantomGrades"}
    assert read_geometry("KneeXray").order == tuple(CATALOGUE["KneeXray"]["classes"])


# What is wrong with a file.

TREE = "tree: {a: , g: {b: , c: }}\nsource: s\n"
MISTAKES = {  # the file, and words of the sentence
    "": "is not a geometry",
    "tree: {a: \n": "is not valid YAML (line 2",
    "source: s\n": "neither of 'tree' and 'order'",
    TREE + "order: [a, b, c]\n": "both of 'tree' and 'order'",
    TREE + "cost: {}\n": "unknown entry 'cost' (did you mean 'costs'?)",
    TREE + "source: t\n": "(line 3: 'source' is there twice)",
    "tree: {a: , g: {b: , a: }}\nsource: s\n": "'a' twice",
    "tree: [a, b]\nsource: s\n": "its tree is not two or more",
    "tree: {all: {a: , b: }}\nsource: s\n": "its tree is not two or more",
    "tree: {a: , g: {}}\nsource: s\n": "below 'g' in its tree",
    "tree: {a: , no: }\nsource: s\n": "put it in quotes",
    "tree: &t {a: *t, b: *t}\nsource: s\n": "too deeply or contains itself",
    "order: {a: , b: }\nsource: s\n": "its order is not a list",
    "order: [a]\nsource: s\n": "two or more classes",
    "tree: {a: , b: }\n": "it has no source",
    "tree: {a: , b: }\nsource: []\n": "its source is not text",
    TREE + "costs: {a: 1}\n": "its costs.a is not an object",
    TREE + "costs: {g: {a: 1}}\n": "unknown class 'g'",
    TREE + "costs: {a: {a: 0}}\n": "its costs.a.a is not a mistake",
    TREE + "costs: {a: {b: 1.5}}\n": "its costs.a.b is not a number from 0 to 1",
    TREE + "costs: {a: {b: true}}\n": "a number from 0 to 1",
    TREE + "notes: {d: because}\n": "unknown class 'd'",
    TREE + "notes: {a: 3}\n": "its notes is not",
    TREE + "reviewed: soon\n": "its reviewed is not true or false",
}


def _one_sentence(caught: pytest.ExceptionInfo, path: Path) -> str:
    sentence = str(caught.value)
    assert str(path) in sentence and sentence.endswith(".") and "\n" not in sentence
    return sentence


@pytest.mark.parametrize("text", MISTAKES, ids=MISTAKES.values())
def test_what_is_wrong_with_a_file_is_said_in_one_sentence(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_geometry(path)
    assert MISTAKES[text] in _one_sentence(caught, path)


def test_a_file_that_is_not_there_or_not_named_right_is_said(tmp_path):
    with pytest.raises(UserError, match="There is no geometry file"):
        read_geometry(tmp_path / "none.yaml")
    with pytest.raises(UserError, match=r"how the classes of MySet relate, .*MySet\.yaml does not exist: write it"):
        read_geometry("MySet")
    with pytest.raises(UserError, match="neither a data set's name nor a file"):
        read_geometry("../BUSI")


def test_a_class_that_a_file_lacks_is_named_with_the_nearest_it_has():
    with pytest.raises(UserError, match=r"BUSI\.yaml has no class 'benign tumour' .*'benign tumor'"):
        read_geometry("BUSI", ["normal scan", "benign tumour"])


# Class graphs.

NAMES = ["cyst, simple", 'a "solid" mass', "épanchement", "normal"]
numbers = st.floats(-50, 50, allow_nan=False)
squares = st.integers(2, 9).flatmap(
    lambda n: st.lists(st.lists(numbers, min_size=n, max_size=n), min_size=n, max_size=n)
)


def _write_csv(
    path: Path, names: list[str], matrix: np.ndarray, rows: list[int] | None = None, encoding="utf-8"
) -> str:
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file)
        writer.writerow(["true, predicted", *names])
        for i in rows or range(len(names)):
            writer.writerow([names[i], *(repr(float(value)) for value in matrix[i])])
    return str(path)


@examples
@given(squares)
def test_row_softmax_equals_the_definition(matrix):
    result = row_softmax(np.array(matrix) + 1e4)  # whose exponentials alone would overflow
    for row, weights in zip(matrix, result, strict=True):
        total = math.fsum(math.exp(value) for value in row)
        assert weights == pytest.approx([math.exp(value) / total for value in row], rel=1e-9)
    assert result.sum(1) == pytest.approx(1, abs=1e-14)


@examples
@given(squares, st.randoms(use_true_random=False), st.sampled_from(["utf-8", "utf-8-sig"]))
def test_a_csv_file_gives_back_its_numbers_by_name_whatever_the_order_of_its_rows(
    tmp_path_factory, matrix, random, encoding
):
    matrix = np.array(matrix)
    names = (NAMES + [f"class {i}" for i in range(9)])[: len(matrix)]
    rows = random.sample(range(len(names)), len(names))
    path = _write_csv(tmp_path_factory.getbasetemp() / "graph.csv", names, matrix, rows, encoding)
    wanted = random.sample(names, random.randint(1, len(names)))
    found = read_graph(path, wanted)
    for (i, one), (j, two) in product(enumerate(wanted), repeat=2):
        assert found[i, j] == matrix[names.index(one), names.index(two)]


@examples
@given(squares, st.floats(0, 20))
def test_a_finished_graph_from_a_file_is_that_of_its_similarities_to_the_last_bit(tmp_path_factory, matrix, alpha):
    folder = tmp_path_factory.getbasetemp()
    names = [f"class {i}" for i in range(len(matrix))]
    similarities = _write_csv(folder / "similarities.csv", names, np.array(matrix))
    made = class_graph_matrix(f"file:{similarities}", names, "Any", alpha)
    assert np.array_equal(made, row_softmax(alpha * np.array(matrix)))
    finished = _write_csv(folder / "finished.csv", names, made)
    assert np.array_equal(class_graph_matrix(f"file+:{finished}", names, "Any", alpha + 1), made)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_geometry_graph_prefers_a_class_itself_and_then_its_nearest(path):
    geometry = read_geometry(path)
    names, d = geometry.classnames, distances(geometry)
    graph = class_graph_matrix("geometry", names, path.stem, 2.0)
    assert np.array_equal(class_graph_matrix(f"geometry:{path}", names, "Other", 2.0), graph)
    for i, row in enumerate(graph):
        assert sum(row) == pytest.approx(1, abs=1e-14)
        assert all(row[i] > weight for j, weight in enumerate(row) if j != i)
        by_distance = sorted(range(len(names)), key=lambda j, i=i: d[i, j])
        for near, far in pairwise(by_distance):
            assert math.log(row[near] / row[far]) == pytest.approx(2 * (d[i, far] - d[i, near]), abs=1e-12)
    assert np.array_equal(similarity(geometry), 1 - d)


def test_the_geometry_graph_of_the_base_classes_uses_the_distances_of_the_whole_tree():
    base = CATALOGUE["DermaMNIST"]["classes"]
    base = list(base)[: math.ceil(len(base) / 2)]
    geometry = read_geometry("DermaMNIST")
    index = [geometry.classnames.index(name) for name in base]
    expected = np.exp(1 - distances(geometry))[np.ix_(index, index)]
    graph = class_graph_matrix("geometry", base, "DermaMNIST", 1.0)
    assert graph == pytest.approx(expected / expected.sum(1, keepdims=True), rel=1e-12)


def test_identity_diffuses_nothing_and_uniform_treats_all_classes_alike():
    p = np.array([[0.7, 0.2, 0.1]])
    assert np.array_equal(p @ class_graph_matrix("identity", ["a", "b", "c"], "Any", 3.0), p)
    assert p @ class_graph_matrix("uniform", ["a", "b", "c"], "Any", 3.0) == pytest.approx(np.full((1, 3), 1 / 3))


def test_a_new_graph_is_one_function_and_takes_no_name_that_is_taken(monkeypatch):
    for name in ("shift", "shift:"):
        monkeypatch.delitem(GRAPHS, name, raising=False)

    @register_graph("shift:")
    def shift(classnames, dataset, alpha, argument):
        return np.roll(np.eye(len(classnames)), int(argument), axis=1)

    try:
        assert np.array_equal(class_graph_matrix("shift:1", ["a", "b"], "Any", 1.0), [[0, 1], [1, 0]])
        assert find_graph("shift:a:b") == (shift, "a:b")
        for taken in ("shift:", "identity", "text"):
            with pytest.raises(KeyError, match=taken):
                register_graph(taken)(shift)
    finally:
        del GRAPHS["shift:"]


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("geometri", "There is no class graph 'geometri' (did you mean 'geometry'?)"),
        ("file", "There is no class graph 'file' (did you mean 'file:PATH'?)"),
        ("identity:3", "There is no class graph 'identity:3' (did you mean 'identity'?)"),
        ("file+:", "The class graph 'file+:' lacks a file: write file+:PATH."),
        ("", "there are text, geometry, geometry:PATH, file:PATH, file+:PATH, identity, uniform."),
    ],
)
def test_a_kind_of_graph_that_does_not_exist_is_said_with_the_nearest(kind, sentence):
    with pytest.raises(UserError) as caught:
        class_graph_matrix(kind, ["a", "b"], "BUSI", 1.0)
    assert sentence in str(caught.value)


CSV_MISTAKES = {
    "": "has no class names in its first row",
    ";a;b\na;1;0\nb;0;1\n": "has no class names in its first row: it must be separated by commas",
    ",a,b\na,1,0\n": "has a column for 'b' but no row: every class needs both",
    ",a,b\na,1,0\nb,0,1\nc,0,0\n": "has a row for 'c' but no column",
    ",a,b,a\na,1,0,0\nb,0,1,0\n": "names the class 'a' twice among its columns",
    ",a,\na,1,0\nb,0,1\n": "has an empty name among its columns",
    ",a,b\na,1,0\na,0,1\n": "names the class 'a' twice among its rows",
    ",a,b\na,1,0\n\nb,0,1,2\n": "line 4: 3 numbers, but there are 2 columns",
    ",a,b\na,1,x\nb,0,1\n": "line 2, column 'b': 'x' is not a finite number",
    ",a,b\na,1,inf\nb,0,1\n": "'inf' is not a finite number",
    ",a,bb\na,1,0\nbb,0,1\n": "has no class 'b' (did you mean 'bb'?): add its row",
}
FINISHED_MISTAKES = {
    ",a,b,c\na,1,0,0\nb,0,1,0\nc,0,0,1\n": "has the class 'c', which the run does not use",
    ",a,b\na,1,0\nb,-0.5,1.5\n": "has a number below 0 in the row of 'b'",
    ",a,b\na,1,0\nb,0.5,0.500002\n": "the row of 'b' sums to 1.000002",
}


@pytest.mark.parametrize("text", CSV_MISTAKES, ids=CSV_MISTAKES.values())
def test_what_is_wrong_with_a_csv_file_is_said_in_one_sentence(tmp_path, text):
    path = tmp_path / "graph.csv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_graph(path, ["a", "b"])
    assert CSV_MISTAKES[text] in _one_sentence(caught, path)


@pytest.mark.parametrize("text", FINISHED_MISTAKES, ids=FINISHED_MISTAKES.values())
def test_what_a_finished_graph_must_not_have_similarities_may(tmp_path, text):
    path = tmp_path / "graph.csv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_graph(path, ["a", "b"], stochastic=True)
    assert FINISHED_MISTAKES[text] in _one_sentence(caught, path)
    assert read_graph(path, ["a", "b"]).shape == (2, 2)


def test_row_sums_within_a_millionth_are_taken_as_they_stand(tmp_path):
    path = tmp_path / "graph.csv"
    path.write_text(",a,b\na,1,0\nb,0.5,0.5000005\n")
    assert read_graph(path, ["a", "b"], stochastic=True)[1].tolist() == [0.5, 0.5000005]


def test_a_csv_file_that_is_not_there_or_not_text_is_said(tmp_path):
    with pytest.raises(UserError, match=r"none\.csv cannot be read"):
        read_graph(tmp_path / "none.csv", ["a"])
    (tmp_path / "image.csv").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(UserError, match=r"image\.csv is not a CSV file in UTF-8"):
        read_graph(tmp_path / "image.csv", ["a"])


def test_importing_the_room_loads_nothing_heavy():
    heavy = "'torch', 'transformers', 'scipy', 'sklearn', 'pandas', 'matplotlib'"
    code = f"import sys, geometry; print([name for name in ({heavy}) if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
