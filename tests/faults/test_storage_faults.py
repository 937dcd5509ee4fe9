"""Storage that refuses, hangs, loses answers, is full or may not be written: tried again, or a clear end with nothing
half-written."""

import errno
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
import yaml

from seewhy import attempts, folder_swap, lease, storage
from seewhy.failure import Fatal
from seewhy.lease import FOLDER
from seewhy.progress import Reporter
from seewhy.steps import caption, explain_words, fetch, train_text, training
from seewhy.steps.items import gather
from seewhy.steps.once import forget
from seewhy.steps.order import run_study
from seewhy.study import Study, load_study
from seewhy.table import Table, read_part
from seewhy.train.checkpoint import STATE
from seewhy.train.fit import Recipe
from seewhy.train.loop import fit_folds
from seewhy.train.text import train_text as train_text_on
from tests.drawn_images import draw_images
from tests.gcs_emulator import CLOSED, FORBIDDEN, HANGS, LOST, UNAVAILABLE, disturbed, emulated
from tests.train.encoders import save_tiny_bert
from tests.train.toy import ToyFolds

QUIET = Reporter(quiet=True)


@pytest.fixture
def url(bucket: str, tmp_path: Path) -> str:
    return f"{bucket}/{tmp_path.name}"


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """So long gcsfs waits for an answer, and raises then what it does not try again."""
    before = dict(fsspec.config.conf["gs"])
    fsspec.config.conf["gs"] = {**before, "requests_timeout": seconds}
    try:
        yield
    finally:
        fsspec.config.conf["gs"] = before


def held(url: str) -> dict[str, bytes]:
    fs, path = storage.open_fs(url)
    return {one.removeprefix(f"{path}/"): fs.cat_file(one) for one in sorted(fs.find(path))}


def write_lines(url: str) -> None:
    with storage.writing(url) as file:
        file.write(b"one\n")
        file.write(b"two")


ACTS: dict[str, tuple[Callable[[str], Any], Any]] = {
    "write_whole": (lambda url: storage.write_whole(f"{url}/written", b"written"), None),
    "create": (lambda url: storage.create(f"{url}/created", b"mine"), True),
    "create what is there": (lambda url: storage.create(f"{url}/there", b"mine"), False),
    "remove": (lambda url: storage.remove(f"{url}/old"), None),
    "read_whole": (lambda url: storage.read_whole(f"{url}/there"), b"there"),
    "read_with": (lambda url: storage.read_with(f"{url}/there", lambda file: file.read()), b"there"),
    "read what is not there": (lambda url: storage.read_json(f"{url}/lost"), None),
    "exists": (lambda url: storage.exists(f"{url}/there"), True),
    "read_lines": (lambda url: list(storage.read_lines(f"{url}/there")), [b"there"]),
    "writing": (lambda url: write_lines(f"{url}/long"), None),
    "list_files": (lambda url: storage.list_files(f"{url}/folder"), {"a": 1}),
}
"""What is done, and what it gives."""
WRITES = ["write_whole", "writing", "create", "create what is there", "remove"]


@pytest.mark.parametrize(
    ("kind", "names"), [(UNAVAILABLE, list(ACTS)), (CLOSED, ["write_whole", "writing", "read_whole"]), (LOST, WRITES)]
)
def test_what_befalls_one_request_is_not_noticed(url: str, kind: str, names: list[str]) -> None:
    for name in ("there", "old", "folder/a"):
        storage.write_whole(f"{url}/{name}", name[-5:].encode() if name != "folder/a" else b"a")
    for name in names:
        act, expected = ACTS[name]
        with disturbed(1.0, kinds=[kind], at_most=1) as faults:
            assert act(url) == expected, name
        assert faults.hit == 1
    there = {"there": b"there", "folder/a": b"a"} | ({} if "remove" in names else {"old": b"old"})
    made = {"written": b"written"} | ({"created": b"mine"} if "create" in names else {})
    made |= {"long": b"one\ntwo"} if "writing" in names else {}
    assert held(url) == there | made


def test_a_folder_is_replaced_whole_though_every_third_request_fails(url: str, tmp_path: Path) -> None:
    for text in ("one", "two"):
        for name in ("marker", "done", "a/1", "a/2", text):
            (tmp_path / text / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / text / name).write_text(text)
    folder_swap.put_folder(str(tmp_path / "one"), url, marker="marker", done="done")
    with disturbed(0.3, seed=3) as faults:
        folder_swap.put_folder(str(tmp_path / "two"), url, marker="marker", done="done")
    assert faults.hit >= 3
    assert held(url) == dict.fromkeys(["a/1", "a/2", "done", "marker", "two"], b"two")


def test_a_deletion_that_hangs_is_made_again(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Both where a folder is replaced, of which "done" goes first, and where it goes for good."""
    for text in ("one", "two"):
        for name in ("marker", "done", text):
            (tmp_path / text / name).parent.mkdir(exist_ok=True)
            (tmp_path / text / name).write_text(text)
    deletes: Any = {"at_most": 1, "kinds": [HANGS], "hang_sec": 2.0, "methods": ["DELETE"]}
    folder_swap.put_folder(str(tmp_path / "one"), url, marker="marker", done="done")
    with patience(0.4), disturbed(1.0, **deletes) as faults:
        folder_swap.put_folder(str(tmp_path / "two"), url, marker="marker", done="done")
    assert faults.hit == 1
    assert held(url) == dict.fromkeys(["done", "marker", "two"], b"two")
    with patience(0.4), disturbed(1.0, **deletes) as faults:
        storage.remove_tree(url)
    assert faults.hit == 1
    assert held(url) == {}
    assert len([one for one in caplog.records if "is tried again" in one.message]) == 2


def test_what_a_killed_swap_left_is_cleared_away_and_a_failed_one_leaves_the_old_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").mkdir()
    for name in ("marker", "done", "page"):
        (tmp_path / "one" / name).write_text("one")
    report = tmp_path / "out" / "report"
    for left in (f"report.{'0a' * 16}.new", f"report.{'0b' * 16}.old", "report.mine.old", "report.txt"):
        (tmp_path / "out" / left).mkdir(parents=True)
    folder_swap.put_folder(str(tmp_path / "one"), str(report), marker="marker", done="done")
    kept = ["report", "report.mine.old", "report.txt"]
    assert sorted(os.listdir(tmp_path / "out")) == kept

    def rename(before: str, after: str) -> None:
        if before.endswith(".new"):
            raise OSError(errno.EIO, "I/O error")
        os.replace(before, after)

    monkeypatch.setattr(os, "rename", rename)
    (tmp_path / "one" / "page").write_text("two")
    with pytest.raises(OSError, match="I/O error"):
        folder_swap.put_folder(str(tmp_path / "one"), str(report), marker="marker", done="done")
    assert (report / "page").read_text() == "one"
    assert sorted(os.listdir(tmp_path / "out")) == kept


def test_a_request_that_hangs_is_given_up_and_made_again(
    url: str, bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    storage.write_whole(f"{url}/a", b"a")
    fs, _ = storage.open_fs(url)
    assert (fs.requests_timeout.sock_read, fs.requests_timeout.total) == (60, 900)
    monkeypatch.setattr(storage, "_SILENCE_SEC", 0.4)
    with disturbed(1.0, kinds=[HANGS], hang_sec=2.0, at_most=1) as faults:
        assert storage.read_whole(f"{url}/a") == b"a"  # gcsfs itself asks again after silence
    assert faults.hit == 1
    assert not [one for one in caplog.records if one.name == "seewhy.attempts"]
    with patience(0.4), disturbed(1.0, kinds=[HANGS], hang_sec=2.0, at_most=2) as faults:
        storage.write_whole(f"{url}/b", b"b")  # and after the whole time is over it does not
    assert faults.hit == 2
    assert len([one for one in caplog.records if one.name == "seewhy.attempts"]) == 2
    assert held(url) == {"a": b"a", "b": b"b"}


def test_what_never_works_ends_with_a_message_and_nothing_is_left(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "GIVE_UP_SEC", 2.0)
    storage.write_whole(f"{url}/a", b"a")
    with patience(0.3), disturbed(1.0, kinds=[HANGS], hang_sec=1.0) as faults:
        began = time.monotonic()
        with pytest.raises(Fatal, match=rf"writing {url}/b failed again and again .*run again to go on"):
            storage.write_whole(f"{url}/b", b"b" * 100_000)
        assert time.monotonic() - began < 15
        with pytest.raises(Fatal, match=rf"reading {url}/a failed"):
            storage.read_whole(f"{url}/a")
        with pytest.raises(Fatal, match=rf"listing {url} failed"):
            storage.list_files(url)
        with pytest.raises(Fatal, match=rf"looking for {url}/a failed"):
            storage.exists(f"{url}/a")
    assert faults.hit >= 8
    assert held(url) == {"a": b"a"}


def test_what_is_no_fault_of_the_networks_is_not_tried_again(url: str) -> None:
    with disturbed(1.0, kinds=[FORBIDDEN]) as faults, pytest.raises(Fatal, match=rf"not allowed while writing {url}/a"):
        storage.write_whole(f"{url}/a", b"a")
    assert faults.hit == 1
    with disturbed(1.0, kinds=[FORBIDDEN]) as faults, pytest.raises(Fatal, match=rf"not allowed while reading {url}/a"):
        storage.read_whole(f"{url}/a")
    assert faults.hit == 1
    with pytest.raises(Fatal, match=r"nothing can be written to gs://no-such-bucket/a: is there such a bucket\?"):
        storage.write_whole("gs://no-such-bucket/a", b"a")
    with pytest.raises(FileNotFoundError):
        storage.read_whole(f"{url}/a")
    assert held(url) == {}


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (503, True),
        (429, True),
        (400, False),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (FileNotFoundError("a"), False),
        (ValueError("a"), False),
    ],
)
def test_what_may_pass_is_told_by_type_and_status(error: Exception | int, passes: bool) -> None:
    from gcsfs.retry import HttpError  # which must not be imported before seewhy.storage has set it up

    found = HttpError({"code": error, "message": "no"}) if isinstance(error, int) else error
    assert attempts.may_pass(found) is passes


def test_of_a_writing_that_an_error_ends_nothing_is_left(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / ".half.jsonl.writing").write_bytes(b"what a kill left")
    for place in (url, str(tmp_path / "there")):
        write_lines(f"{place}/whole.jsonl")
        with pytest.raises(KeyError):
            write_half(f"{place}/half.jsonl")
    assert held(url) == {"whole.jsonl": b"one\ntwo"}
    assert [one.name for one in (tmp_path / "there").iterdir()] == ["whole.jsonl"]
    assert list((tmp_path / "temporary").iterdir()) == []
    assert os.stat(tmp_path / "there" / "whole.jsonl").st_mode & 0o777 == 0o666 & ~umask()
    with pytest.raises(Fatal, match=r"nothing can be written to gs://no-such-bucket/a: is there such a bucket\?"):
        write_lines("gs://no-such-bucket/a")


def umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def test_a_large_file_is_uploaded_whole_though_every_fifth_request_fails(url: str, tmp_path: Path) -> None:
    """gcsfs uploads a file of over 5 MB in a session, piece by piece."""
    data = os.urandom(12_000_000)
    (tmp_path / "file").write_bytes(data)
    with disturbed(0.2, seed=1, kinds=[UNAVAILABLE, CLOSED]) as faults:
        for n in range(4):
            storage.put_file(str(tmp_path / "file"), f"{url}/{n}")
    assert faults.hit >= 2
    assert held(url) == {str(n): data for n in range(4)}


def test_temporary_files_that_find_no_room_are_named(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with disk(tmp_path / "small", "1m") as small:
        monkeypatch.setattr(tempfile, "tempdir", str(small))
        with pytest.raises(Fatal, match=rf"no space left while writing {small}/seewhy-"), storage.writing(url) as file:
            file.write(bytes(2_000_000))
        assert list(small.iterdir()) == []
    assert held(url) == {}


def test_lines_are_whole_wherever_a_piece_ends(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"one\n\ntwo\r\nthree of them"
    for place in (f"{url}/lines", str(tmp_path / "lines")):
        for written in (text, text + b"\n", b"", b"\n"):
            storage.write_whole(place, written)
            for size in range(1, 8):
                monkeypatch.setattr(storage, "_READ_AT_ONCE", size)
                assert list(storage.read_lines(place)) == written.splitlines(keepends=True)


def test_a_line_that_cannot_be_read_is_asked_for_again(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    storage.write_whole(f"{url}/lines", b"one\ntwo\nthree")
    monkeypatch.setattr(storage, "_READ_AT_ONCE", 4)
    with patience(0.4):
        lines = storage.read_lines(f"{url}/lines")
        assert next(lines) == b"one\n"
        with disturbed(1.0, kinds=[HANGS], hang_sec=2.0, at_most=1) as faults:
            assert list(lines) == [b"two\n", b"three"]
    assert faults.hit == 1
    assert len([one for one in caplog.records if "is tried again" in one.message]) == 1


def write_half(url: str) -> None:
    with storage.writing(url) as file:
        file.write(b"half\n")
        raise KeyError("over")


COUNT = 40


@pytest.fixture
def home(tmp_path: Path) -> Path:
    draw_images(tmp_path, COUNT, table="films.csv", columns=("image", "score"), height=8, width=8, numbers=7)
    save_tiny_bert(tmp_path / "encoder", positions=256)
    return tmp_path


def study_of(home: Path, workspace: str, name: str = "study.yaml", **sections: Any) -> Study:
    small = {"workers": 1, "cpus_per_worker": 0.5, "rows_per_block": 4}
    value = {
        "title": "Films",
        "workspace": workspace,
        "manifest": {"path": "films.csv", "image": "image", "target": "score"},
        "fetch": {"resources": small},
        "caption": {"backend": "fake", "resources": small},
        "train_text": {"encoder": "./encoder", "epochs": 2, "folds": 2, "launcher": "here"},
        "explain_words": {"max_evals": 8, "sample": 12, "resources": small},
        "probe": {"min_texts": 2},
        **sections,
    }
    (home / name).write_text(yaml.safe_dump(value))
    forget()
    return load_study(str(home / name))


def rows(table: Table) -> list[dict[str, Any]]:
    """All rows that lie in the parts, whether they count or not: one that is doubled is here twice."""
    found = (row for part in table.parts() for row in read_part(part, None).to_pylist())
    return sorted(found, key=lambda row: row["id"])


def all_rows(study: Study) -> dict[str, Any]:
    items = gather(study, step="test")
    where = train_text.folder(study, items)
    return {
        "fetch": rows(fetch.table(study)),
        "caption": rows(caption.table(study)),
        "train_text": training.read_table(where, "predictions").to_pylist(),
        "explain_words": rows(explain_words.table(study, items)),
    }


@pytest.mark.ray
@pytest.mark.long
def test_a_study_does_not_notice_that_one_request_in_twenty_fails(ray_cluster: None, home: Path) -> None:
    """On a bucket of its own, whose faults only the study's processes meet."""
    alone = study_of(home, str(home / "alone"), "alone.yaml")
    run_study(alone, QUIET)
    expected = all_rows(alone)
    assert [len(one) for one in expected.values()] == [COUNT, COUNT, COUNT, 12]

    with emulated("faulty") as bucket:
        study = study_of(home, f"{bucket}/films")
        env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        env["FSSPEC_GS"] = json.dumps({"requests_timeout": 5})
        command = [sys.executable, "-m", "seewhy.cli", "run", str(home / "study.yaml"), "--quiet"]
        kinds = [UNAVAILABLE, HANGS, CLOSED, LOST]
        with disturbed(0.05, kinds=kinds, seed=1, hang_sec=7.0) as faults:
            subprocess.run(command, env=env, check=True, timeout=900)
        assert faults.seen["requests"] > 150
        assert min(faults.seen[kind] for kind in kinds) >= 1
        assert faults.hit >= 8
        assert all_rows(study) == expected
        names = [storage.find_files(one) for one in (f"{bucket}/films", str(home / "alone"))]
        bare = [{one.split("/", 4)[4] if "gs:" in one else one.split("/alone/")[1] for one in found} for found in names]
        assert {one for one in bare[0] if not one.startswith(("report/", "_lease/"))} == {
            one for one in bare[1] if not one.startswith(("report/", "_lease/"))
        }


@contextmanager
def disk(path: Path, size: str) -> Iterator[Path]:
    """A disk of its own, so small that it can be filled."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small disk")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(path: Path, *, but_bytes: int) -> Path:
    """A file that takes all the room that there is but some."""
    facts = os.statvfs(path)
    ballast = path / "ballast"
    ballast.write_bytes(b"x" * (facts.f_bavail * facts.f_frsize - but_bytes))
    return ballast


@pytest.mark.ray
def test_a_full_disk_ends_the_run_with_nothing_half_written_and_more_room_lets_it_go_on(
    ray_cluster: None, home: Path
) -> None:
    with disk(home / "disk", "2m") as small:
        study = study_of(home, str(small / "out"), path="words")
        run_study(study, QUIET, until="fetch")
        ballast = fill(small, but_bytes=40_000)
        with pytest.raises(Fatal, match=r"no space left while writing .*: free some or choose another workspace"):
            run_study(study, QUIET)
        table = caption.table(study)
        written = rows(table)  # each part that is there is whole
        assert 0 < len(written) < COUNT
        assert table.done_mark() is None
        assert not list(small.rglob("*.tmp"))
        ballast.unlink()
        run_study(study, QUIET)
        alone = study_of(home, str(home / "alone"), "alone.yaml", path="words")
        run_study(alone, QUIET)
        assert rows(table) == rows(caption.table(alone))
        assert len(rows(table)) == COUNT
        assert rows(fetch.table(study)) == rows(fetch.table(alone))
        assert (small / "out/report/index.html").exists()


@pytest.mark.parametrize("room", [0, 8192, 16384, 24576])
@pytest.mark.parametrize("remote", [False, True])
def test_a_training_that_finds_no_room_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, remote: bool
) -> None:
    """In its workspace on a disk, or on the disk of a node whose workspace is elsewhere."""
    with disk(tmp_path / "disk", "1m") as small:
        if remote:
            monkeypatch.setattr(tempfile, "tempdir", str(small))
        (small / "out").mkdir()
        fill(small, but_bytes=0 if remote else room)
        out = f"memory://{tmp_path.name}" if remote else str(small / "out")
        with pytest.raises(Fatal, match=rf"no space left while writing {small}.*: free some or choose another"):
            fit_folds(ToyFolds(), [0], out=out, recipe=Recipe(epochs=2), launcher="here")
        assert all((one / STATE).exists() for one in small.glob("out/*/epoch-*"))  # what is left is whole


@pytest.mark.ray
@pytest.mark.parametrize("launcher", ["here", "task"])
def test_a_training_of_texts_that_finds_no_room_says_so(ray_cluster: None, tmp_path: Path, launcher: str) -> None:
    encoder = save_tiny_bert(tmp_path / "bert")
    columns = {"row": range(40), "id": [f"{i:032x}" for i in range(40)], "text": [f"scene {i % 7}" for i in range(40)]}
    table = pa.table({**columns, "target": [float(i % 7) for i in range(40)]})
    options: dict[str, Any] = {"epochs": 1, "folds": 2, "cpus_per_worker": 1, "gpus_per_worker": 0, "resamples": 10}
    with disk(tmp_path / "disk", "1m") as small:
        (small / "out").mkdir()
        fill(small, but_bytes=50_000)
        with pytest.raises(Fatal, match=rf"no space left while writing {small}/out/.*: free some or choose another"):
            train_text_on(
                table, out=str(small / "out"), encoder=encoder, kind="regression", launcher=launcher, **options
            )
        assert not list(small.rglob("*.safetensors"))


def test_what_fails_for_another_reason_is_told_as_it_is(tmp_path: Path) -> None:
    for error in (KeyError("shape"), FileNotFoundError("weights"), Fatal("diverged")):
        with pytest.raises(type(error)) as found, storage.filling(str(tmp_path)):
            raise error
        assert found.value is error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.ray
def test_a_disk_that_is_full_when_the_run_begins_is_told_before_anything_is_done(ray_cluster: None, home: Path) -> None:
    with disk(home / "disk", "64k") as small:
        study = study_of(home, str(small / "out"), path="words")
        (small / "out" / FOLDER).mkdir(parents=True)
        fill(small, but_bytes=0)
        with pytest.raises(Fatal, match=rf"no space left while writing .*{FOLDER}/000001.json"):
            run_study(study, QUIET)
        assert sorted(one.name for one in small.rglob("*")) == sorted(["ballast", "out", FOLDER])


def test_a_report_that_finds_no_room_leaves_the_old_one(home: Path) -> None:
    for text, size in (("one", 10_000), ("two", 120_000)):
        for name in ("marker", "done", "index.html", "items/1.html"):
            (home / text / name).parent.mkdir(parents=True, exist_ok=True)
            (home / text / name).write_text(text * (size // 12))
    with disk(home / "disk", "80k") as small:
        folder_swap.put_folder(str(home / "one"), str(small / "report"), marker="marker", done="done")
        before = held(str(small))
        assert len(before) == 4
        with pytest.raises(Fatal, match="no space left while writing"):
            folder_swap.put_folder(str(home / "two"), str(small / "report"), marker="marker", done="done")
        assert held(str(small)) == before


def test_a_lease_is_let_go_on_a_full_disk(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "64k") as small:
        with lease.hold(str(small / "out"), study="Films"):
            fill(small, but_bytes=0)
        assert storage.list_files(str(small / "out" / FOLDER)) == {}


@pytest.mark.ray
def test_a_workspace_that_may_not_be_written_is_told_before_anything_is_done(ray_cluster: None, home: Path) -> None:
    with disk(home / "disk", "1m") as small:
        (small / "out").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
        study = study_of(home, str(small / "out"), path="words")
        with pytest.raises(Fatal, match=rf"not allowed while writing .*/out/{FOLDER}.*: Read-only file system"):
            run_study(study, QUIET)
        assert list((small / "out").iterdir()) == []
        for name in os.listdir(home):  # nothing was written anywhere else
            assert name in ("disk", "encoder", "films.csv", "study.yaml") or name.endswith(".png")
