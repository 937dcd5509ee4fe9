"""Local files stay beneath their folders; storage reads what it may and names what it may not."""

import io
import json
import os
from collections.abc import Iterator

import fsspec
import pyarrow as pa
import pytest
from PIL import Image

from seewhy import storage
from seewhy.failure import Failure, Fatal
from seewhy.fetch import Fetch
from seewhy.fetch.files import by_error, read_local, read_stored
from seewhy.fetch.objects import describe_object
from seewhy.steps import fetch
from seewhy.study import Study, load_study


def jpeg() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (32, 16), "red").save(out, "JPEG")
    return out.getvalue()


JPEG = jpeg()


@pytest.fixture
def folder(tmp_path) -> str:
    inside = tmp_path / "images"
    (inside / "deep").mkdir(parents=True)
    (tmp_path / "images-of-others").mkdir()
    for path in ("images/a.jpg", "images/deep/b.jpg", "secret.jpg", "images-of-others/c.jpg"):
        (tmp_path / path).write_bytes(JPEG)
    (inside / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (inside / "in.jpg").symlink_to(inside / "a.jpg")
    (inside / "up").symlink_to(tmp_path)
    os.mkfifo(inside / "pipe.jpg")
    return str(inside)


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    fs = fsspec.filesystem("memory")
    yield fs
    fs.store.clear()


def outcome(source: str, roots: list[str], max_bytes: int = 10_000) -> str:
    found = read_local(source, roots=roots, max_bytes=max_bytes)
    return found.reason if isinstance(found, Failure) else "ok" if found == JPEG else "other bytes"


def test_local_files_stay_beneath_their_roots(folder):
    assert outcome(f"{folder}/a.jpg", [folder]) == "ok"
    assert outcome(f"file://{folder}/deep/b.jpg", [folder]) == "ok"
    assert outcome(f"file://localhost{folder}/deep/b.jpg", ["/nowhere", folder]) == "ok"
    assert outcome(f"{folder}/deep/../in.jpg", [folder + "/"]) == "ok"
    assert outcome(f"{folder}/a.jpg", []) == "forbidden_path"
    assert outcome(f"{folder}/../secret.jpg", [folder]) == "forbidden_path"
    assert outcome(f"{folder}/out.jpg", [folder]) == "forbidden_path"
    assert outcome(f"{folder}/up/secret.jpg", [folder]) == "forbidden_path"
    assert outcome(f"{folder}-of-others/c.jpg", [folder]) == "forbidden_path"
    assert outcome("/etc/passwd", [folder]) == "forbidden_path"
    assert outcome(f"{folder}/a.jpg", [f"{folder}/up/images"]) == "ok"  # a root that is itself reached by a link


def test_what_is_no_readable_file_says_so(folder):
    assert outcome(f"{folder}/none.jpg", [folder]) == "not_found"
    assert outcome(f"{folder}/a.jpg/b.jpg", [folder]) == "not_found"
    assert outcome(f"{folder}/deep", [folder]) == "not_a_file"
    assert outcome(f"{folder}/pipe.jpg", [folder]) == "not_a_file"  # and does not wait for its other end
    assert outcome("a.jpg", [folder]) == "bad_path"
    assert outcome("file://elsewhere/a.jpg", [folder]) == "bad_path"
    assert outcome(f"{folder}/a\0.jpg", [folder]) == "bad_path"
    assert outcome(f"{folder}/a.jpg", [folder], max_bytes=len(JPEG)) == "ok"
    assert outcome(f"{folder}/a.jpg", [folder], max_bytes=len(JPEG) - 1) == "too_large"
    assert outcome(f"{folder}/{'x' * 300}.jpg", [folder]) == "read_failed"


def test_storage_is_read_as_far_as_allowed(memory):
    memory.pipe({"/bucket/a.jpg": JPEG, "/bucket/empty": b"", "/bucket/large": b"x" * 101, "/other/b.jpg": JPEG})
    names = ["bucket/a.jpg", "bucket/none", "bucket/empty", "bucket/large", "other/b.jpg"]
    urls = [f"memory://{name}" for name in names]
    found = read_stored(urls, roots=[], max_bytes=len(JPEG))
    assert found[0] == found[4] == JPEG
    assert isinstance(found[1], Failure)
    assert found[1].reason == "not_found"
    assert found[2] == b""
    small = read_stored(urls[3:4], roots=[], max_bytes=100)
    assert isinstance(small[0], Failure)
    assert small[0].reason == "too_large"
    assert read_stored(urls[3:4], roots=[], max_bytes=101) == [b"x" * 101]
    outside = ["memory://bucket/../other/b.jpg", "memory://bucket-of-others/a.jpg"]
    bound = read_stored([*urls, *outside], roots=["/tmp", "memory://bucket"], max_bytes=10_000)
    assert bound[0] == JPEG
    assert [each.reason for each in bound[4:] if isinstance(each, Failure)] == ["forbidden_path"] * 3


class WithCode(Exception):
    def __init__(self, code: int) -> None:
        super().__init__("token=SECRET")
        self.code = code


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (FileNotFoundError("SECRET"), "bad_input", "not_found"),
        (PermissionError("SECRET"), "bad_input", "forbidden"),
        (IsADirectoryError("SECRET"), "bad_input", "not_a_file"),
        (WithCode(404), "bad_input", "http_404"),
        (WithCode(416), "bad_input", "empty"),
        (WithCode(429), "transient", "http_429"),
        (WithCode(503), "transient", "http_503"),
        (TimeoutError("SECRET"), "transient", "read_failed"),
        (OSError("SECRET"), "transient", "read_failed"),
        (RuntimeError("404 not found SECRET"), "transient", "read_failed"),  # never by the text
    ],
)
def test_errors_of_storage_by_type_and_status(error, kind, reason):
    failure = by_error(error)
    assert (failure.kind, failure.reason) == (kind, reason)
    assert "SECRET" not in failure.detail


class Flaky(fsspec.AbstractFileSystem):
    """Fails with a reset connection as often as its path says, then gives the image."""

    protocol = "flaky"
    asked: dict[str, int] = {}  # noqa: RUF012

    def cat_file(self, path, start=None, end=None, **_):
        self.asked[path] = self.asked.get(path, 0) + 1
        if self.asked[path] <= int(path.strip("/").partition("/")[0]):
            raise ConnectionResetError(104, "reset")
        return JPEG[start:end]


def test_the_stage_reads_every_kind_of_source_in_order(folder, memory):
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    memory.pipe("/bucket/a.jpg", JPEG)
    memory.pipe("/bucket/page.jpg", b"<html>")
    expected = [
        ("memory://bucket/page.jpg", "html", 1),
        (f"{folder}/a.jpg", None, 1),
        ("flaky://2/x", None, 3),
        ("memory://bucket/a.jpg", None, 1),
        ("flaky://0/x", None, 1),
        ("flaky://7/x", "read_failed", 3),
        ("/etc/passwd", "forbidden_path", 1),
        ("memory://bucket/none.jpg", "not_found", 1),
        ("simplecache::memory://bucket/a.jpg", "forbidden_scheme", 1),
        ("zip://a.jpg::memory://bucket/a.jpg", "forbidden_scheme", 1),
        ("gs://bucket/a.jpg", "forbidden_scheme", 1),
        ("relative.jpg", "bad_path", 1),
        (None, "no_source", 1),
        ("", "no_source", 1),
    ]
    ids = pa.array([f"{i:032x}" for i in range(len(expected))])
    sources = pa.array([source for source, _, _ in expected], pa.string())
    stage = Fetch(schemes=["file", "memory", "flaky"], roots=[folder], tries=3, backoff_sec=0.001)
    out = stage(pa.table({"id": ids, "source": sources})).to_pylist()
    stage.close()
    assert [row["id"] for row in out] == ids.to_pylist()
    assert [(row["source"], row["reason"], row["tries"]) for row in out] == expected
    assert [row["image"] == JPEG for row in out] == [reason is None for _, reason, _ in expected]
    assert Flaky.asked == {"2/x": 3, "0/x": 1, "7/x": 3}


class Picky(fsspec.AbstractFileSystem):
    """Opens at some hosts, and raises what the others' names say."""

    protocol = "picky"

    @classmethod
    def _get_kwargs_from_urls(cls, path):
        errors = {"value": ValueError, "type": TypeError, "os": ConnectionResetError, "other": RuntimeError}
        if error := errors.get(path.removeprefix("picky://").partition("/")[0]):
            raise error("SECRET")
        return {}

    def cat_file(self, path, start=None, end=None, **_):
        return JPEG[start:end]


def test_a_url_that_no_file_system_opens_is_a_matter_of_its_row(memory):
    fsspec.register_implementation("picky", Picky, clobber=True)
    memory.pipe("/bucket/a.jpg", JPEG)
    expected = [
        ("memory://bucket/a.jpg", None),
        ("memory://bucket/a.jpg::nosuch://y", "bad_url"),
        ("memory://bucket/a.jpg::memory://bucket/a.jpg", "bad_url"),
        ("memory://::", "bad_url"),
        ("picky://value/x", "bad_url"),
        ("picky://type/x", "bad_url"),
        ("picky://os/x", "read_failed"),
        ("picky://other/x", "read_failed"),
        ("picky://good/x", None),
    ]
    stage = Fetch(schemes=["memory", "picky"], tries=1)
    out = stage(pa.table({"id": [f"{i:032x}" for i in range(len(expected))], "source": [one for one, _ in expected]}))
    stage.close()
    assert list(zip(out["source"].to_pylist(), out["reason"].to_pylist(), strict=True)) == expected
    assert not any("SECRET" in detail for detail in out["detail"].to_pylist() if detail)


def test_chained_urls_leave_no_file_system_behind(memory):
    memory.pipe("/bucket/a.jpg", JPEG)
    read_stored(["memory://bucket/a.jpg"], roots=[], max_bytes=10_000)
    kept = len(type(memory)._cache)
    found = read_stored([f"memory://bucket/a.jpg::file:///{i}" for i in range(5)], roots=[], max_bytes=10_000)
    assert {each.reason for each in found if isinstance(each, Failure)} == {"bad_url"}
    assert len(type(memory)._cache) == kept
    described = describe_object("gs://bucket/a.jpg::nosuch://y", roots=(), video=False)
    assert isinstance(described, Failure)
    assert described.reason == "bad_url"


def study_of(folder: str, manifest: str, workspace: str) -> Study:
    value = {
        "title": "Towns",
        "workspace": workspace,
        "path": "image",
        "manifest": {"path": manifest, "image": "photo", "target": "town"},
        "describe": {"backend": "fake"},
    }
    with open(f"{folder}/study.yaml", "w") as file:
        json.dump(value, file)
    return load_study(f"{folder}/study.yaml")


def test_schemes_of_a_studys_storage_are_taken_over_but_not_chained_ones(folder):
    def schemes(manifest: str, workspace: str) -> list[str]:
        return fetch.schemes(study_of(folder, manifest, workspace))

    assert schemes("gs://b/f.csv", "out") == ["file", "gs", "http", "https"]
    assert schemes("zip://f.csv::gs://b/x.zip", "gs://b/out") == ["gs", "http", "https"]
    assert schemes("simplecache::https://a.test/f.csv", "simplecache::gs://b/out") == ["http", "https"]
    assert schemes("/data/a::b/f.csv", "gs://b/out") == ["file", "gs", "http", "https"]  # a folder's name


def test_local_is_another_name_of_file_and_is_bound_by_the_roots(folder):
    study = study_of(folder, f"local://{folder}/f.csv", f"local://{folder}/out")
    assert fetch.schemes(study) == ["file", "http", "https"]
    assert fetch.roots(study) == [folder]
    expected = [
        (f"local://{folder}/a.jpg", None),
        (f"LOCAL://{folder}/a.jpg", None),
        (f"local://{folder}/../secret.jpg", "forbidden_path"),
        ("local:///etc/passwd", "forbidden_path"),
        (f"local://{folder}/a.jpg::file:///etc/passwd", "not_found"),  # the name of one file
    ]
    stage = Fetch(schemes=fetch.schemes(study), roots=fetch.roots(study))
    out = stage(pa.table({"id": [f"{i:032x}" for i in range(len(expected))], "source": [one for one, _ in expected]}))
    stage.close()
    assert list(zip(out["source"].to_pylist(), out["reason"].to_pylist(), strict=True)) == expected
    assert storage.open_fs(f"local://{folder}/a.jpg")[1] == f"{folder}/a.jpg"


def test_local_files_need_the_scheme_too(folder):
    stage = Fetch(roots=[folder])
    out = stage(pa.table({"id": ["a", "b"], "source": [f"{folder}/a.jpg", f"file://{folder}/a.jpg"]}))
    stage.close()
    assert out["reason"].to_pylist() == ["forbidden_scheme"] * 2


def test_a_scheme_without_a_file_system_stops_the_job():
    stage = Fetch(schemes=["nosuch"])
    with pytest.raises(Fatal, match="nosuch"):
        stage(pa.table({"id": ["a"], "source": ["nosuch://bucket/a.jpg"]}))
    stage.close()
