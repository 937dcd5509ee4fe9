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
    if kind == "tsv":  # has no line breaks inside a field
        Path(manifest).write_text(CSV.replace("Two\nlines", "Two lines"))
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
            CSV.replace("Two\nlines", "Two lines")
            .replace("1,381", "1381")
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
    + [("−3.5", -3.5), ("１，２３４．５", 1234.5), ("－７", -7.0), ("＋１ｅ３", 1000.0), ("﹣2", -2.0)]
    + [
        (bad, None)
        for bad in (
            "1,38",
            "7,5",
            "1,,000",
            "",
            "e5",
            "inf",
            "nan",
            "1e999",
            "8/10",
            "12%",
            ".",
            "١٢",
            "1_000",
            "10²",
            "①",
        )
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


def test_half_a_character_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a \\ud800 b", "score": 1}\n{"text": "c", "score": 2}')
    rows = read_manifest(str(tmp_path / "a.jsonl"), text="text", target="score")
    assert rows.table.column("text").to_pylist() == ["a ? b", "c"]


def test_no_usable_row_is_fatal(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,score\na.jpg,\nb.jpg,NA\n")
    with pytest.raises(Fatal, match=r"none of 2 rows can be used: \{'missing target': 2\}"):
        read_manifest(str(tmp_path / "a.csv"), image="image", target="score")


def _write(path: Path, text: str) -> str:
    path.write_bytes(text.encode())
    return str(path)


def test_quotes_mean_nothing_in_tsv_unless_they_hold_a_field(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "a.tsv",
        'text\tscore\n"never closed\t1\n12" disc\t2\n"a ""b"" c"\t3\n"Yes" and "no"\t4\nend"\t5\n"\t6\n',
    )
    rows = read_manifest(path, text="text", target="score")
    assert rows.table["text"].to_pylist() == ['"never closed', '12" disc', 'a "b" c', '"Yes" and "no"', 'end"', '"']
    assert (rows.table["target"].to_pylist(), rows.dropped) == ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], {})


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ('a,1\n"b,2\nc,3\nd,4\n', 3),  # to the end of the file
        ('a,1\nb,2\n"c,3', 4),
        ('"a\na",1\n"b,2\nc,3\n"d",4\n', 4),  # closed by the quote that opens another row's field
        ('a,1\r\n"b\r\nb","2\r\nc,3\r\n', 4),  # a field with a line break before it in the same row
        ('a,1\n"b,' + "2\nc,3" * 1001 + '",4\n', 3),  # closed, but too late to be meant
    ],
)
def test_a_quote_that_is_not_closed_is_fatal(tmp_path: Path, body: str, line: int) -> None:
    with pytest.raises(Fatal, match=rf"a\.csv: the quote that opens on line {line} "):
        read_manifest(_write(tmp_path / "a.csv", "text,score\n" + body), text="text", target="score")


def test_long_texts_are_read_whole(tmp_path: Path) -> None:
    long = "\n".join(["x" * 200] * 1001)
    rows = read_manifest(_write(tmp_path / "a.csv", f'text,score\n"{long}",1\n5" b,2\n'), text="text", target="score")
    assert rows.table["text"].to_pylist() == [long, '5" b']


def test_malformed_lines_keep_their_place(tmp_path: Path) -> None:
    text = 'text,score\r\na,1\r\n\r\n"b"x,2\r\nc\r\n"d\r\nd",4,5\r\ne,6\r\n'
    rows = read_manifest(_write(tmp_path / "a.csv", text), text="text", target="score")
    assert rows.table["row"].to_pylist() == [0, 5]  # a malformed row of two lines counts twice: it may be two rows
    assert (rows.read, rows.dropped) == (6, {"malformed line": 4})
    text = '{"text": "a", "score": 1}\n[\n\n{"text": "b", "score": 2}\n'
    rows = read_manifest(_write(tmp_path / "a.jsonl", text), text="text", target="score")
    assert (rows.table["row"].to_pylist(), rows.read, rows.dropped) == ([0, 2], 3, {"malformed line": 1})


def test_limit_counts_malformed_lines_and_reads_no_further(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", 'text,score\na,1\nb\nc,3\nd\n"e,5\n')
    for limit, read, dropped in [
        (1, [0], {}),
        (2, [0], {"malformed line": 1}),
        (3, [0, 2], {"malformed line": 1}),
        (4, [0, 2], {"malformed line": 2}),
    ]:
        rows = read_manifest(path, text="text", target="score", limit=limit)
        assert (rows.read, rows.table["row"].to_pylist(), rows.dropped) == (limit, read, dropped)
    path = _write(tmp_path / "a.jsonl", '{"text": "a", "score": 1}\n[\n[\n{"score": 2, "late": 1}')
    rows = read_manifest(path, text="text", target="score", keep=["late"], limit=2)
    assert (rows.read, rows.dropped, rows.table["late"].to_pylist()) == (2, {"malformed line": 1}, [None])


def test_json_lines_end_with_a_newline_and_nothing_else(tmp_path: Path) -> None:
    words = "a\u2028b\x85c\u2029d"
    lines = [json.dumps({"text": words, "score": n}, ensure_ascii=False) for n in (1, 2)]
    rows = read_manifest(_write(tmp_path / "a.jsonl", "\r\n".join(lines) + "\r\n"), text="text", target="score")
    assert (rows.table["text"].to_pylist(), rows.read, rows.dropped) == ([words, words], 2, {})


def test_columns_that_ride_along_never_hide_ours(tmp_path: Path) -> None:
    names = ["id", "row", "source", "source_id", "text", "target"]
    path = _write(tmp_path / "a.csv", ",".join([*names, "id (manifest)"]) + "\n1,2,a.jpg,4,words,6,7\n")
    keep = ["id (manifest)", *names, "id", "target"]
    rows = read_manifest(path, image="source", text="text", target="target", keep=keep)
    assert rows.table.column_names == [
        *("row", "source", "source_id", "text", "target", "id (manifest)", "id (manifest) (manifest)"),
        *("row (manifest)", "source (manifest)", "source_id (manifest)", "text (manifest)", "target (manifest)"),
    ]
    assert list(rows.table.to_pylist()[0].values())[5:] == ["7", "1", "2", "a.jpg", "4", "words", "6"]


def test_a_column_named_twice_is_fatal(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="has 2 columns 'score'"):
        read_manifest(_write(tmp_path / "a.csv", "text,score,score\na,1,2\n"), text="text", target="score")
    with pytest.raises(Fatal, match=r"a\.csv is empty"):
        read_manifest(_write(tmp_path / "a.csv", "\n\n"), text="text", target="score")


@pytest.mark.parametrize("task", ["auto", "classification"])
def test_none_and_a_dash_are_classes(tmp_path: Path, task: str) -> None:
    classes = ["None", "none", "-", "na", "Nan", "Low"]
    missing = ["", "  ", "NA", "N/A", "n/a", "NaN", "null", "#N/A"]
    body = "".join(f"a,{value}\n" for value in classes + missing)
    rows = read_manifest(_write(tmp_path / "a.csv", "text,level\n" + body), text="text", target="level", task=task)
    assert rows.table["target"].to_pylist() == classes
    assert rows.dropped == {"missing target": 8}


def test_none_and_a_dash_are_no_numbers_missing(tmp_path: Path) -> None:
    body = "".join(f"a,{value}\n" for value in ["1", "None", "-", "nan", "NULL", "−2"])
    rows = read_manifest(_write(tmp_path / "a.csv", "text,score\n" + body), text="text", target="score")
    assert (rows.task, rows.table["target"].to_pylist(), rows.dropped) == (
        "regression",
        [1.0, -2.0],
        {"missing target": 4},
    )


@pytest.mark.parametrize(
    ("values", "task", "why"),
    [
        (["1"] * 9 + ["x"], "auto", "regression: 9 of 10 targets are numbers"),
        (["1"] * 1200 + [""], "auto", "regression: 1,200 of 1,200 targets are numbers"),
        (["None", "Low", "NA"], "auto", "classification: none of 2 targets is a number"),
        (
            ["1"] * 8 + ["x", "None"],
            "auto",
            "classification: the column is mixed, 8 of 10 targets are numbers, under nine in ten",
        ),
        (["1", "2"], "classification", "classification: as the study says"),
    ],
)
def test_why_this_task(tmp_path: Path, values: list[str], task: str, why: str) -> None:
    body = "".join(f"a,{value}\n" for value in values)
    rows = read_manifest(_write(tmp_path / "a.csv", "text,y\n" + body), text="text", target="y", task=task)
    assert rows.why == why
    assert rows.task == why.split(":")[0]
