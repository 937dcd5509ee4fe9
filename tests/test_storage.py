"""A folder put in the place of another: a user's files are safe, and what was cut short never counts as done."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from seewhy import folder_swap, storage, urls
from seewhy.failure import Fatal

MARKER, DONE = "made-by-us.json", "_done.json"


@pytest.fixture(params=["disk", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "out" / "report") if request.param == "disk" else f"memory://{tmp_path.name}/out/report"


def made(folder: Path, *names: str, text: str = "one") -> str:
    for name in (MARKER, DONE, *names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return str(folder)


def held(url: str) -> dict[str, str]:
    fs, path = storage.open_fs(url)
    return {one.lstrip("/").removeprefix(path.lstrip("/") + "/"): fs.cat(one).decode() for one in fs.find(path)}


def put(local: str, url: str) -> None:
    folder_swap.put_folder(local, url, marker=MARKER, done=DONE)


def test_a_folder_takes_the_place_of_the_one_before_whole(url: str, tmp_path: Path) -> None:
    put(made(tmp_path / "a", "index.html", "items/1.html"), url)
    assert held(url) == dict.fromkeys([MARKER, DONE, "index.html", "items/1.html"], "one")
    put(made(tmp_path / "b", "index.html", "items/2.html", text="two"), url)
    assert held(url) == dict.fromkeys([MARKER, DONE, "index.html", "items/2.html"], "two")
    assert storage.list_folders(url.removesuffix("/report")) == ["report"]


def test_a_users_own_files_are_never_replaced(url: str, tmp_path: Path) -> None:
    for name in ("thesis.docx", "plots/figure.png"):
        storage.write_whole(urls.join(url, name), b"years of work")
    # a file of the same name deeper down makes no folder ours
    storage.write_whole(urls.join(url, "plots", MARKER), b"years of work")
    before = held(url)
    with pytest.raises(Fatal, match=r"report holds files .*'plots.* for one.*another workspace"):
        put(made(tmp_path / "a"), url)
    assert held(url) == before
    assert len(before) == 3


def test_a_file_in_the_folders_place_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("years of work")
    with pytest.raises(Fatal, match="'report' for one"):
        put(made(tmp_path / "a"), str(tmp_path / "report"))
    assert (tmp_path / "report").read_text() == "years of work"


def test_an_empty_folder_may_be_taken(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    put(made(tmp_path / "a"), str(tmp_path / "report"))
    assert held(str(tmp_path / "report")) == {MARKER: "one", DONE: "one"}


@pytest.mark.parametrize("first", [True, False])
def test_a_killed_upload_is_not_done_and_can_be_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    url = f"memory://{tmp_path.name}/report"
    if not first:
        put(made(tmp_path / "a", "index.html", "old.html"), url)
    local = made(tmp_path / "b", "index.html", "zoo.html", text="two")
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "put_file", cut_short(MemoryFileSystem.put_file, at="zoo.html"))
        with pytest.raises(KeyboardInterrupt):
            put(local, url)
    assert MARKER in held(url)
    assert DONE not in held(url)
    put(local, url)
    assert held(url) == dict.fromkeys([MARKER, DONE, "index.html", "zoo.html"], "two")


def cut_short(upload: Callable[..., Any], *, at: str) -> Callable[..., Any]:
    def put_file(fs: MemoryFileSystem, local: str, remote: str, *rest: Any, **options: Any) -> Any:
        if remote.endswith(at):
            raise KeyboardInterrupt
        return upload(fs, local, remote, *rest, **options)

    return put_file
