from pathlib import Path

import pytest

from seewhy.report.folder import MARKER, replaced_folder


def write(folder: Path, text: str) -> None:
    (folder / "index.html").write_text(text)
    (folder / MARKER).write_text("{}")


def test_a_report_takes_the_place_of_the_earlier_one_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "report"
    with replaced_folder(out) as fresh:
        write(fresh, "one")
        (fresh / "old.html").write_text("gone in the next")
    with replaced_folder(out) as fresh:
        assert (out / "index.html").read_text() == "one"
        write(fresh, "two")
    assert sorted(p.name for p in out.iterdir()) == sorted(["index.html", MARKER])
    assert (out / "index.html").read_text() == "two"
    assert list(out.parent.iterdir()) == [out]


def test_a_failure_leaves_the_earlier_report_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "report"
    with replaced_folder(out) as fresh:
        write(fresh, "one")

    def fail() -> None:
        with replaced_folder(out) as fresh:
            write(fresh, "two")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert (out / "index.html").read_text() == "one"
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_that_is_no_report_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="no report"), replaced_folder(tmp_path):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    for path in (tmp_path / "thesis.txt", link):
        with pytest.raises(ValueError, match="is not a folder"), replaced_folder(path):
            pass


def test_an_empty_folder_may_be_taken(tmp_path: Path) -> None:
    out = tmp_path / "report"
    out.mkdir()
    with replaced_folder(out) as fresh:
        write(fresh, "one")
    assert (out / "index.html").read_text() == "one"
