"""The manifest: every row used or counted, numbers as people write them."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seewhy.failure import Fatal
from seewhy.manifest import parse_number, read_manifest, resolve
from seewhy.table import digest_text

CSV = '''Poster,Title,Votes,Rating
images/1.jpg,"Ran, or: ""Chaos""","1,381",8.2
images/2.jpg,Ikiru,,
https://example.org/3.jpg,"Two
lines","12,345.5",7.1
,No picture,3,5.0
images/5.jpg,Odd,x,n/a
'''


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "films.csv"
    path.write_text(CSV)
    return str(path)


def test_rows_are_used_or_counted(manifest: str) -> None:
    rows = read_manifest(manifest, image="Poster", target="Rating", keep=["Title", "Votes"])
    assert rows.task == "regression"
    assert rows.read == 5
    assert rows.dropped == {"missing target": 2, "missing image": 1}
    folder = str(Path(manifest).parent)
    assert rows.table.to_pydict() == {
        "row": [0, 2],
        "source": [f"{folder}/images/1.jpg", "https://example.org/3.jpg"],
        "source_id": [digest_text(f"{folder}/images/1.jpg"), digest_text("https://example.org/3.jpg")],
        "text": [None, None],
        "target": [8.2, 7.1],
        "Title": ['Ran, or: "Chaos"', "Two\nlines"],
        "Votes": ["1,381", "12,345.5"],
    }


def test_thousands_commas_in_the_target(manifest: str) -> None:
    rows = read_manifest(manifest, image="Poster", target="Votes", task="regression")
    assert rows.table.column("target").to_pylist() == [1381.0, 12345.5]
    assert rows.dropped == {"missing target": 1, "missing image": 1, "target is no number": 1}


def test_a_column_of_words_is_classes(manifest: str) -> None:
    rows = read_manifest(manifest, image="Poster", target="Title")
    assert rows.task == "classification"
    assert rows.classes == ("Ikiru", "Odd", 'Ran, or: "Chaos"', "Two\nlines")


def test_text_makes_the_image_optional(manifest: str) -> None:
    rows = read_manifest(manifest, image="Poster", text="Title", target="Rating")
    assert rows.table.column("row").to_pylist() == [0, 2, 3]
    assert rows.table.column("source").to_pylist()[2] is None


def test_limit_takes_the_first_rows(manifest: str) -> None:
    rows = read_manifest(manifest, image="Poster", target="Rating", limit=2)
    assert (rows.read, len(rows.table), rows.dropped) == (2, 1, {"missing target": 1})


@pytest.mark.parametrize("kind", ["tsv", "jsonl", "parquet", "csv.gz"])
def test_formats_agree(manifest: str, tmp_path: Path, kind: str) -> None:
    want = read_manifest(manifest, image="Poster", target="Rating", keep=["Title", "Votes"])
    records = {
        "Poster": ["images/1.jpg", "images/2.jpg", "https://example.org/3.jpg", "", "images/5.jpg"],
        "Title": ['Ran, or: "Chaos"', "Ikiru", "Two\nlines", "No picture", "Odd"],
        "Votes": ["1,381", None, "12,345.5", "3", "x"],
        "Rating": [8.2, None, 7.1, 5.0, float("nan")],
    }
    path = tmp_path / f"films.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table(records), path)
    elif kind == "jsonl":
        lines = [dict(zip(records, values, strict=True)) for values in zip(*records.values(), strict=True)]
        path.write_text("\n".join(json.dumps(line) for line in lines))
    elif kind == "csv.gz":
        path.write_bytes(gzip.compress(CSV.encode("utf-8-sig")))
    else:
        path.write_text(
            CSV.replace("1,381", "1381")
            .replace("12,345.5", "12345.5")
            .replace(",", "\t")
            .replace("1381", "1,381")
            .replace("12345.5", "12,345.5")
            .replace("Ran\t", "Ran,")
        )
    got = read_manifest(str(path), image="Poster", target="Rating", keep=["Title", "Votes"])
    assert got.table.equals(want.table)
    assert got.dropped == want.dropped


def test_broken_lines_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,score\na.jpg,1\nb.jpg,2,3,4\nc.jpg,3\n")
    rows = read_manifest(str(tmp_path / "a.csv"), image="image", target="score")
    assert (rows.read, rows.dropped, rows.table.column("target").to_pylist()) == (3, {"malformed line": 1}, [1.0, 3.0])
    (tmp_path / "a.jsonl").write_text(
        '{"image": "a.jpg", "score": 1}\n{"image": \n[1]\n{"image": "c.jpg", "score": "3"}'
    )
    rows = read_manifest(str(tmp_path / "a.jsonl"), image="image", target="score")
    assert (rows.read, rows.dropped, rows.table.column("target").to_pylist()) == (4, {"malformed line": 2}, [1.0, 3.0])


@pytest.mark.parametrize(
    ("text", "number"),
    [("7", 7.0), ("1,381", 1381.0), ("-1,234,567.5", -1234567.5), ("1e3", 1000.0), (".5", 0.5), ("5.", 5.0)]
    + [
        (bad, None)
        for bad in ("1,38", "7,5", "1,,000", "", "e5", "inf", "nan", "1e999", "8/10", "12%", ".", "١٢", "1_000")
    ],
)
def test_numbers(text: str, number: float | None) -> None:
    assert parse_number(text) == number


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_every_way_python_writes_a_number_is_read_back(number: float) -> None:
    assert parse_number(repr(number)) == number
    assert parse_number(f"{number:,.2f}") == float(f"{number:.2f}")


def test_sources_are_beside_the_manifest() -> None:
    assert resolve("gs://bucket/data/films.csv", "images/1.jpg") == "gs://bucket/data/images/1.jpg"
    assert resolve("/data/films.csv", "images/1.jpg") == "/data/images/1.jpg"
    assert resolve("/data/films.csv", " https://example.org/1.jpg ") == "https://example.org/1.jpg"
    assert resolve("gs://bucket/films.csv", "s3://other/1.jpg") == "s3://other/1.jpg"
    assert resolve("/data/films.csv", "N/A") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "Score"}, "no column 'Score'; it has 'Poster', 'Title', 'Votes', 'Rating'"),
        ({"path": "nowhere.csv"}, "no manifest at nowhere.csv"),
        ({"encoding": "klingon"}, "set manifest.encoding"),
        ({"limit": 0 + 2, "target": "Votes", "image": None, "text": "Rating"}, None),
    ],
)
def test_what_cannot_be_read_says_so(manifest: str, change: dict, message: str | None) -> None:
    arguments = {"path": manifest, "image": "Poster", "target": "Rating", **change}
    if message is None:
        assert read_manifest(**arguments).read == 2
        return
    with pytest.raises(Fatal, match=message):
        read_manifest(**arguments)


def test_no_usable_row_is_fatal(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,score\na.jpg,\nb.jpg,NA\n")
    with pytest.raises(Fatal, match=r"none of 2 rows can be used: \{'missing target': 2\}"):
        read_manifest(str(tmp_path / "a.csv"), image="image", target="score")
