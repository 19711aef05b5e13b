"""The configurations hold the published values, and every method accepts its own."""

import csv
from pathlib import Path

import pytest
import yaml

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
def test_every_methods_configuration_is_accepted_for_every_data_set(method, protocol):
    for dataset in known_datasets():
        cfg = build(method, protocol, dataset)
        assert method == cfg.TRAINER.NAME


def test_every_configuration_file_is_met_by_a_method_and_a_data_set():
    for path in (ROOT / "configs/trainers").glob("*/*/*.yaml"):
        assert path.parts[-3] in benchmark_methods()
        assert path.parts[-2] in PROTOCOLS.values()
        assert path.stem in [*known_datasets(), "default"]
        assert yaml.safe_load(path.read_text()) is not None
