"""What a model's name stands for: a commit by the local cache, a folder by what its files hold."""

from pathlib import Path

import pytest

from seewhy.hub import folder_digest, has_weights, pin
from tests.refusing_hub import refusing_hub

NOW, LATER = "a" * 40, "b" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub's cache as downloads leave it: `main` stands for one commit, the tag `v2` for another, without weights."""
    home = tmp_path / "models--org--bert"
    for commit, name in ((NOW, "main"), (LATER, "v2")):
        (home / "snapshots" / commit).mkdir(parents=True)
        (home / "snapshots" / commit / "config.json").write_text("{}")
        (home / "refs").mkdir(exist_ok=True)
        (home / "refs" / name).write_text(commit)
    (home / "snapshots" / NOW / "model.safetensors").write_bytes(b"")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_a_name_stands_for_what_the_cache_holds_and_the_hub_is_not_asked(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refusing_hub(cache, monkeypatch) as asked:
        assert [pin("org/bert", revision) for revision in (None, "main", NOW)] == [NOW] * 3
        assert [pin("org/bert", revision) for revision in ("v2", LATER)] == [LATER] * 2
        assert asked == []
        with pytest.raises(OSError, match="Repository Not Found"):
            pin("org/bert", "v3")
        assert "/org/bert/resolve/v3/config.json" in asked
    assert (has_weights("org/bert", NOW), has_weights("org/bert", LATER)) == (True, False)


def test_a_folder_has_no_commit_whatever_revision_is_asked_for(cache: Path) -> None:
    assert (pin(str(cache), None), pin(str(cache), "v2")) == (None, None)


def test_a_digest_follows_names_and_bytes_wherever_the_folder_lies(tmp_path: Path) -> None:
    def folder(name: str, files: dict[str, str]) -> str:
        for path, text in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(text)
        return folder_digest(str(tmp_path / name))

    first = folder("a", {"config.json": "{}", "sub/weights": "01"})
    assert folder("b", {"config.json": "{}", "sub/weights": "01", ".cache/x": "hidden files do not count"}) == first
    others = [{"config.json": "{}", "sub/weights": "11"}, {"config.json": "{}", "sub/weight": "01"}]
    assert len({first, *(folder(f"c{i}", files) for i, files in enumerate(others))}) == 3
    assert folder("a", {"sub/weights": "012"}) != first


def test_a_digest_does_not_confuse_a_name_with_what_follows_it(tmp_path: Path) -> None:
    for folder, files in {"a": {"x": "yz", "w": ""}, "b": {"x": "y", "w": "z"}, "c": {"xy": "z", "w": ""}}.items():
        (tmp_path / folder).mkdir()
        for name, text in files.items():
            (tmp_path / folder / name).write_text(text)
    assert len({folder_digest(str(tmp_path / folder)) for folder in "abc"}) == 3
