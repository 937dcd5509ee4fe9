"""Weights in the bucket are a cache that the hub's own library reads, and that seewhy takes a model's commit from."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import huggingface_hub
import pytest

from seewhy import hub, storage
from seewhy.failure import Fatal
from tests.cluster.manifests import CLUSTER

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"weights", "sub/merges.txt": b"a b"}


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("copy_weights", CLUSTER / "copy_weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fill_cache(cache: Path, name: str, files: dict[str, bytes]) -> None:
    """What the hub's library leaves behind when it has fetched a model: blobs, and links to them."""
    home = cache / ("models--" + name.replace("/", "--"))
    (home / "blobs").mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
    for number, (path, data) in enumerate(files.items()):
        (home / "blobs" / str(number)).write_bytes(data)
        link = home / "snapshots" / COMMIT / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(home / "blobs" / str(number))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's library knows this cache alone, and no network."""
    use_cache(tmp_path / "cache", monkeypatch)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def use_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))


def test_what_was_copied_is_the_model(
    script: ModuleType, cache: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied to a bucket and read back as a mount shows it: the same commit by name, the same bytes, plain files."""
    fill_cache(cache, "org/small", FILES)
    assert script.copy("org/small", f"{bucket}/weights") == COMMIT
    mount = tmp_path / "mount"
    for url in storage.find_files(f"{bucket}/weights"):
        path = mount / url.split("/weights/", 1)[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(storage.read_whole(url))
    shutil.rmtree(cache)
    use_cache(mount / "hub", monkeypatch)
    assert hub.pin("org/small", None) == COMMIT
    assert hub.pin("org/small", COMMIT) == COMMIT
    assert hub.has_weights("org/small", COMMIT)
    snapshot = Path(huggingface_hub.snapshot_download("org/small"))
    assert {str(p.relative_to(snapshot)): p.read_bytes() for p in snapshot.rglob("*") if p.is_file()} == FILES


def test_the_reference_comes_last(
    script: ModuleType, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle, the model does not count; run again, it is whole; once more, nothing is written."""
    fill_cache(cache, "org/small", FILES)
    there = tmp_path / "there"
    real, written = storage.put_file, []

    def killed(local: str, url: str) -> None:
        written.append(url)
        if len(written) == 2:
            raise KeyboardInterrupt
        real(local, url)

    monkeypatch.setattr(storage, "put_file", killed)
    with pytest.raises(KeyboardInterrupt):
        script.copy("org/small", str(there))
    assert not (there / "hub" / "models--org--small" / "refs").exists()
    assert script.copy("org/small", str(there)) == COMMIT
    assert (there / "hub" / "models--org--small" / "refs" / "main").read_text() == COMMIT
    assert len(written) == 2 + len(FILES)
    assert script.copy("org/small", str(there)) == COMMIT
    assert len(written) == 2 + len(FILES)


def test_pickled_weights_are_no_weights(script: ModuleType, cache: Path, tmp_path: Path) -> None:
    fill_cache(cache, "org/pickled", {"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    with pytest.raises(Fatal, match="org/pickled has no weights as safetensors"):
        script.copy("org/pickled", str(tmp_path / "there"))
    assert not (tmp_path / "there").exists()


def test_a_model_that_is_not_there_is_named(script: ModuleType, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="cannot fetch org/none@v2"):
        script.copy("org/none@v2", str(tmp_path))
