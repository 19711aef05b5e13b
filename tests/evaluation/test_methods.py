"""Titles and order of the methods, read from their source files."""

import pytest

from ogkd.core import UserError
from ogkd.evaluation.methods import GROUPS, expanded, known_methods, named_among, order

HEAD = "from dassl.engine import TRAINER_REGISTRY\nimport there_is_no_such_module\n"


def methods_of(tmp_path, **files):
    """The methods of a checkout with these files, by path with / written as __."""
    for name, text in files.items():
        path = tmp_path / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEAD + text)
    return known_methods(tmp_path, tmp_path)


def method(name, body, bases="Base"):
    return f"@TRAINER_REGISTRY.register()\nclass {name}({bases}):\n    {body}\n"


def test_what_is_read_is_what_the_classes_say():
    from ogkd.runs.registry import benchmark_methods, method_class

    known = known_methods()
    for name in benchmark_methods():
        cls = method_class(name)
        if cls.__module__.startswith("ogkd.trainers."):
            assert (known[name].title, known[name].row, known[name].groups) == (cls.title, cls.row, cls.groups)
            assert cls.groups
            assert GROUPS.keys() >= set(cls.groups)
    rows = [found.row for found in known.values() if found.row]
    assert len(rows) == len(set(rows)) > 20


def test_titles_are_read_in_every_way_to_write_them(tmp_path):
    bodies = {
        "A": 'title, paper, row = "a", "2401.1", 7',
        "B": 'title = "b"; paper = "2401.1"; row = 7',
        "C": 'title: str = "c"; paper: str = "2401.1"; row: int = 7',
    }
    known = methods_of(tmp_path, trainers__a="".join(method(name, body) for name, body in bodies.items()))
    assert {(one.name, one.title, one.paper, one.row) for one in known.values()} == {
        (name, name.lower(), "2401.1", 7) for name in bodies
    }


def test_a_subclass_has_its_bases_row_and_a_title_of_its_own(tmp_path):
    text = method("First", 'title, row = "The first", 7') + method("Second", "pass", "other.First")
    second = methods_of(tmp_path, trainers__a=text)["Second"]
    assert (second.title, second.row) == ("Second", 7)


def test_a_plugin_takes_the_name_of_ours_and_may_lie_in_a_folder(tmp_path):
    found = methods_of(
        tmp_path,
        trainers__a=method("Mine", 'title, row = "Ours", 1'),
        plugins__b=method("Mine", 'title, row = "Theirs", 2'),
        plugins__folder__c=method("Other", "row = 3"),
    )
    assert (found["Mine"].title, found["Mine"].row, found["Other"].row) == ("Theirs", 2, 3)


def test_what_is_no_literal_no_method_or_no_python_is_passed_over(tmp_path):
    found = methods_of(
        tmp_path,
        trainers__a=method("Mine", 'title = "a".upper(); row = 1 + 1'),
        trainers__b="class Part:\n    title = 'x'\n",
        trainers__c="def (",
        trainers__d=method("Round", "pass", "Round"),
        trainers__e=method("Wrong", "title, row = 3, 'x'"),
    )
    assert {name: (one.title, one.row) for name, one in found.items()} == {
        "Mine": ("Mine", None),
        "Round": ("Round", None),
        "Wrong": ("Wrong", None),
    }


def test_unknown_methods_are_last_by_name():
    assert sorted(["Zebra", "OGKD", "Ape", "ZeroShot"], key=order) == ["ZeroShot", "OGKD", "Ape", "Zebra"]


def test_plugins_of_an_installed_package_are_those_of_the_current_folder(tmp_path):
    home, work = tmp_path / "home", tmp_path / "work"
    methods_of(home, trainers__ours=method("Ours", 'title = "Ours"'), plugins__other=method("Other", "pass"))
    methods_of(work, plugins__mine=method("Mine", 'title = "My own"'), trainers__checkout=method("Theirs", "pass"))
    assert {known.title for known in known_methods(home, work).values()} == {"Ours", "My own"}


def test_a_group_stands_for_its_methods_in_table_order_beside_methods_by_name():
    assert expanded(["OGKD", "Weights", "training-free", "coop"]) == [
        "OGKD", "ResNet18", "ProLIP", "CLIPLoRA", "CLIPSVD", "EviSteer", "ZeroShot", "ZeroShotEnsemble", "TipAdapter",
        "GDA", "SSText", "SSTextPlus", "CoOp",
    ]  # fmt: skip


def test_of_a_group_only_methods_with_finished_runs_are_taken():
    assert named_among(["new", "CoOp"], ["CoOp", "CLAP", "GDA"]) == ["GDA", "CLAP", "CoOp"]
    with pytest.raises(UserError, match="no finished run of the method ResNet18"):
        named_among(["weights"], ["CoOp"])
