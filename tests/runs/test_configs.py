"""The configurations hold the published values, and every method accepts its own."""

import csv
from pathlib import Path

import pytest
import yaml

from ogkd.core import UserError
from ogkd.core.config_files import configs_in
from ogkd.runs.config import build_config, method_config
from ogkd.runs.protocols import known_datasets
from ogkd.runs.registry import benchmark_methods
from ogkd.runs.spec import RunSpec
from tests.conftest import ROOT

PROTOCOLS = {"base_to_novel": "base2new", "few_shot": "few_shot"}
TABLES = {"OGKD": "ogkd_hyperparameters.csv", "BiomedCoOp": "biomedcoop_hyperparameters.csv"}


def build(method, protocol, dataset, *pairs):
    file = method_config(method, protocol, dataset)
    return build_config(RunSpec(method, "x", dataset, seed=1, backbone="PhantomCLIP", method_file=file, pairs=pairs))


@pytest.mark.parametrize("method", TABLES)
def test_the_published_values_of_each_data_set_are_configured(split_folder, method):
    rows = list(csv.DictReader((split_folder.parent / TABLES[method]).open()))
    assert len(rows) == 21
    for row in rows:
        protocol, dataset = PROTOCOLS[row.pop("protocol")], row.pop("dataset")
        assert Path(method_config(method, protocol, dataset)).stem == dataset
        cfg = build(method, protocol, dataset)
        assert int(row.pop("max_epoch")) == cfg.OPTIM.MAX_EPOCH
        for key, value in row.items():
            assert float(value) == cfg.TRAINER[method.upper()][key.upper()], (protocol, dataset, key)


@pytest.mark.parametrize("method", benchmark_methods())
@pytest.mark.parametrize("protocol", PROTOCOLS.values())
def test_every_methods_configurations_are_accepted_and_every_data_sets_is_by_one(method, protocol):
    own = configs_in(ROOT / "configs/trainers" / method / protocol) & {*known_datasets()}
    for dataset in known_datasets() if method == "CoOp" else {*own, "phantom"}:
        cfg = build(method, protocol, dataset)
        assert method == cfg.TRAINER.NAME


def test_every_row_of_a_methods_file_is_met_by_a_protocol_and_a_data_set():
    for path in (ROOT / "configs/trainers").iterdir():
        assert path.stem in benchmark_methods()
        published = yaml.safe_load(path.read_text()).get("published", {})
        assert published.keys() <= set(PROTOCOLS.values())
        for protocol, table in published.items():
            assert configs_in(ROOT / "configs/trainers" / path.stem / protocol) == {*table, "default"} - {"options"}
            assert table.keys() - {"options"} <= {*known_datasets()}


def test_images_of_ones_own_get_no_value_that_was_tuned_for_a_published_set():
    for protocol in PROTOCOLS.values():
        assert Path(method_config("OGKD", protocol, "moles")).stem == "default"
        assert build("OGKD", protocol, "moles").TRAINER == build("OGKD", protocol, "phantom").TRAINER


METHOD = """
common: {OPTIM: {LR: 0.5}}
few_shot: {OPTIM: {MAX_EPOCH: 7}}
published:
  few_shot:
    options: [GAMMA, OPTIM.LR]
    btmri:   [0.25, 0.125]
"""


def test_a_methods_file_stands_for_coops_folders(tmp_path):
    (tmp_path / "OGKD.yaml").write_text(METHOD)
    (tmp_path / "own.yaml").write_text("_BASE_: OGKD/few_shot/btmri.yaml\nOPTIM: {MAX_EPOCH: 9}\n")
    (tmp_path / "OGKD/base2new").mkdir(parents=True)
    (tmp_path / "OGKD/base2new/busi.yaml").write_text("OPTIM: {LR: 1.0}\n")

    def values(file):
        cfg = build_config(RunSpec("OGKD", "x", "phantom", backbone="PhantomCLIP", method_file=str(tmp_path / file)))
        return cfg.OPTIM.LR, cfg.OPTIM.MAX_EPOCH, cfg.TRAINER.OGKD.GAMMA

    assert values("OGKD/base2new/default.yaml") == (0.5, 50, 0.5)
    assert values("OGKD/few_shot/default.yaml") == (0.5, 7, 0.5)
    assert values("OGKD/few_shot/btmri.yaml") == (0.125, 7, 0.25)
    assert values("own.yaml") == (0.125, 9, 0.25)
    assert values("OGKD/base2new/busi.yaml") == (1.0, 50, 0.5)  # a file that is there comes first
    assert configs_in(tmp_path / "OGKD/base2new") == {"busi", "default"}


@pytest.mark.parametrize(
    ("content", "file", "words"),
    [
        (METHOD, "OGKD.yaml", ("OGKD/base2new/default.yaml",)),
        (METHOD, "OGKD/few_shot/busi.yaml", ("no configuration file", "busi.yaml")),
        (METHOD, "OGKD/transfer/default.yaml", ("no configuration file",)),
        ("OPTIM: {LR: 0.5}", "OGKD/few_shot/btmri.yaml", ("OGKD.yaml", "OPTIM", "published")),
        (METHOD.replace(", 0.125", ""), "OGKD/few_shot/btmri.yaml", ("OGKD.yaml", "options", "row")),
        ("common: 3", "OGKD/few_shot/default.yaml", ("OGKD.yaml", "sections")),
        ("published: {few_shot: [1]}", "OGKD/few_shot/default.yaml", ("OGKD.yaml", "table")),
        (METHOD.replace("GAMMA", "GAMA"), "OGKD/few_shot/btmri.yaml", ("TRAINER.OGKD.GAMA", "did you mean")),
    ],
)
def test_a_methods_file_with_a_mistake_is_one_sentence(tmp_path, content, file, words):
    (tmp_path / "OGKD.yaml").write_text(content)
    with pytest.raises(UserError) as error:
        build_config(RunSpec("OGKD", "x", "phantom", backbone="PhantomCLIP", method_file=str(tmp_path / file)))
    assert all(word in str(error.value) for word in words)
