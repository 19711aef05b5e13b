"""Tables in print: marks, captions, and names that others wrote."""

import csv
import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import load_workbook

from ogkd.reports.cells import Cell
from ogkd.reports.render import LATEX, Row, Table, document, neutral, render, write_xlsx
from tests.support.tables import METHODS

HOSTILE = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1+1",
    "a|b",
    "<script>",
    "50% & $x_1$ {#} ~ ^ \\",
    "two\nlines",
    "\ud800",
]


def table_of(values, **words):
    return Table("t", ["method", "x"], [Row(f"m{i}", {"x": Cell(v)}) for i, v in enumerate(values)], "x", **words)


@given(st.lists(st.floats(0, 100), min_size=2, max_size=8))
def test_the_best_is_bold_and_the_second_underlined(values):
    shown = [line.split("|")[2].strip() for line in render(table_of(values)).splitlines()[2:]]
    rounded = [round(v, 2) for v in values]
    order = sorted(set(rounded), reverse=True)
    for value, text in zip(rounded, shown, strict=True):
        assert text.startswith("**") == (value == order[0])
        assert text.startswith("<u>") == (len(order) > 1 and value == order[1])


def test_a_spreadsheet_has_numbers_as_numbers_and_marks_best_and_second_by_font(output, parse, tmp_path):
    folder, accuracy = output
    path = tmp_path / "table.xlsx"
    assert "-o FILE.xlsx" in parse(folder, "--table", "base2new", "--format", "xlsx").stderr
    done = parse(folder, "--table", "base2new", "--format", "xlsx", "-o", path)
    assert done.returncode == 0, done.stderr
    book = load_workbook(path)
    assert book.sheetnames == ["btmri base2new", "kvasir base2new", "average base2new"]
    header, *rows = book["btmri base2new"].iter_rows(max_row=4)
    columns = ["method", "base", "base population std", "novel", "novel population std", "HM"]
    assert [cell.value for cell in header] == [*columns, "n", "seeds", "data sets", "shots", "backbone"]
    assert [cell.value for cell in rows[0][6:]] == [3, "1-3", "btmri", 16, "BiomedCLIP"]
    for method, row in zip(METHODS, rows, strict=True):
        values = accuracy["BTMRI", method, "train_base", 16]
        assert [cell.value for cell in row[1:3]] == pytest.approx([np.mean(values), np.std(values)])
        assert row[1].number_format == "0.00"
    for column in (1, 3, 5):
        best, second = sorted((row[column] for row in rows), key=lambda cell: -cell.value)[:2]
        assert [row[column].font.bold for row in rows].count(True) == 1
        assert best.font.bold and second.font.underline == "single"
    assert book["average base2new"].cell(6, 1).value.startswith("Accuracy in %")


def test_sheets_of_long_and_equal_titles_have_names_of_their_own(tmp_path):
    tables = [Table(title, ["method"]) for title in ("a" * 40, "A" * 40, "[x]/y", "")]
    write_xlsx(tables, tmp_path / "t.xlsx")
    names = load_workbook(tmp_path / "t.xlsx").sheetnames
    assert len({name.lower() for name in names}) == 4
    assert max(map(len, names)) <= 31


def test_latex_has_its_own_marks_the_caption_and_the_footnotes_below(output, parse):
    done = parse(output[0], "--table", "base2new", "--format", "latex", "--dataset", "btmri")
    assert done.stdout.count(r"\textbf{") == 3
    assert done.stdout.count(r"\underline{") == 3
    assert r"$\pm$" in done.stdout
    caption = r"\caption{btmri base2new. Accuracy in \%, mean $\pm$ population standard deviation over seeds.}"
    assert caption in done.stdout.splitlines()
    notes = done.stdout.split(r"\end{tabular}")[1].split(r"\end{table}")[0]
    assert r"\footnotesize" in notes and "Seeds" in notes


def test_a_file_holds_what_would_be_printed(output, parse, tmp_path):
    words = (output[0], "--table", "few_shot", "--format", "csv")
    path = tmp_path / "table.csv"
    assert parse(*words, "-o", path).stdout.strip() == str(path)
    assert path.read_text() == parse(*words).stdout


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_a_name(name, tmp_path):
    table = Table(
        name, ["method", "x"], [Row(name, {"x": Cell(50.0)}), Row("other", {"x": Cell(-1.0)})], "x", caption=name
    )
    markdown = render(table).splitlines()
    assert {len(re.split(r"(?<!\\)\|", line)) for line in markdown[:4]} == {4}
    assert "<script" not in "\n".join(markdown)
    (title, method, *_), _ = list(csv.reader(io.StringIO(document([table], "csv"))))[1:]
    assert not title.startswith(("=", "+", "-", "@", "\t"))
    assert not method.startswith(("=", "+", "-", "@", "\t"))
    write_xlsx([table], tmp_path / "t.xlsx")
    for row in load_workbook(tmp_path / "t.xlsx").active:
        assert all(cell.data_type != "f" for cell in row)
    document([table], "latex").encode()


@given(st.text())
def test_latex_escapes_every_character_that_it_knows(name):
    body = render(Table("t", ["method"], [Row(name)]), "latex").split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert "--" not in body or name == "–"
    for escaped in [*sorted(LATEX.values(), key=len, reverse=True), "-{}"]:
        body = body.replace(escaped, "")
    assert not re.search(r"[{}$&#%_~^<>|]", body.replace(r"\\", ""))


@given(st.text())
def test_a_neutral_name_is_one_line_that_is_no_formula(name):
    assert not neutral(name).startswith(("=", "+", "-", "@")) and neutral(name).isprintable()


def test_columns_of_several_tables_are_joined_in_one_csv():
    tables = [
        Table("a", ["method", "1 shot"], [Row("m", {"1 shot": Cell(1.0)})]),
        Table("b", ["method", "2 shots"], [Row("m", {"2 shots": Cell(2.0, 0.5, 2)})]),
    ]
    rows = list(csv.DictReader(io.StringIO(document(tables, "csv"))))
    assert [(row["1 shot mean"], row["2 shots mean"], row["2 shots population std"]) for row in rows] == [
        ("1.0000", "", ""),
        ("", "2.0000", "0.5000"),
    ]
