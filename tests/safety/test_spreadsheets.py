"""Texts that a spreadsheet would take for formulas are quoted in every table that is made for one."""

import csv
import io

import pytest

from seewhy.app.scoring import Trial, as_csv
from seewhy.report.safe import cell


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠", " =", "  @"])
def test_a_cell_that_begins_as_a_formula_is_quoted(start: str) -> None:
    assert cell(f"{start}1+1") == f"'{start}1+1"


def test_other_cells_stay_and_hidden_characters_are_written_out() -> None:
    for text in ("neon", "a=b", "1-2", "", "'x", "日本", "5"):
        assert cell(text) == text
    assert cell("\u202e=1") == "[U+202E]=1"
    assert cell("\r=1") == "[U+000D]=1"


def test_the_apps_own_table_quotes_formulas_and_leaves_numbers() -> None:
    trial = Trial("=1+1", -2.5, "@x.png", "0", "-m", ("+{}",), False)
    (row,) = list(csv.DictReader(io.StringIO(as_csv([trial]).decode("utf-8-sig"))))
    assert (row["text"], row["image"], row["model"], row["templates"]) == ("'=1+1", "'@x.png", "'-m", "'+{}")
    assert (float(row["logit"]), row["no"]) == (-2.5, "1")
