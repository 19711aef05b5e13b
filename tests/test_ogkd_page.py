"""The table of OGKD's options in docs/ogkd.md is that of the code and of its configuration files."""

import re

import pytest
import yaml

from ogkd.core.config_files import configs_in, read_config
from ogkd.runs.registry import method_class
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "ogkd.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\|([^|]*)\| `([A-Z_]+)` \|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)\|$", PAGE, re.MULTILINE)
OPTIONS = method_class("OGKD").options.defaults()
PROTOCOLS = {"base2new": 5, "few_shot": 6}


def values_of(protocol: str, option: str) -> list[float]:
    """What the configuration files of the published data sets have."""
    folder = ROOT / "configs/trainers/OGKD" / protocol
    published = [read_config(folder / f"{name}.yaml") for name in configs_in(folder) - {"default"}]
    return [values["TRAINER"]["OGKD"][option] for values in published if option in values["TRAINER"]["OGKD"]]


def shown(cell: str) -> object:
    """A cell's value before its bracket, as YAML reads it."""
    return yaml.safe_load(cell.partition("(")[0].strip() or '""')


def test_the_table_has_every_option_once():
    assert sorted(row[1] for row in ROWS) == sorted(OPTIONS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1])
def test_a_row_has_the_default_of_the_code(row):
    assert shown(row[4]) == OPTIONS[row[1]]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1])
def test_a_row_has_the_default_and_the_span_of_a_protocol(row, protocol):
    option, cell = row[1], row[PROTOCOLS[protocol]]
    if "no effect" in cell:
        return
    default = read_config(ROOT / f"configs/trainers/OGKD/{protocol}/default.yaml")
    assert shown(cell) == default["TRAINER"]["OGKD"].get(option, OPTIONS[option])
    published = values_of(protocol, option)
    bracket = re.search(r"\((.*)\)", cell)
    assert bool(published) == bool(bracket)
    if published:
        low, _, high = bracket.group(1).partition(" to ")
        assert (float(low), float(high or low)) == (min(published), max(published))
