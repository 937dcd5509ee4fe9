"""Tracking with W&B, offline: what it wrote is read back from its own files."""

import csv
import importlib.util
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from seewhy.failure import Fatal
from seewhy.progress import Reporter
from seewhy.steps.order import run_study
from seewhy.study import load_study
from seewhy.train.fit import Recipe
from seewhy.train.loop import fit_folds
from seewhy.train.tracking import Tracking, require
from tests.train.encoders import save_tiny_bert
from tests.train.toy import ToyFolds

CANARY = "canary-0123456789abcdef0123456789abcdef01234567"


def test_a_missing_extra_is_named_before_any_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "wandb" else found(name, *rest)
    )
    with pytest.raises(Fatal, match=r"pip install 'seewhy\[wandb\]'"):
        fit_folds(
            ToyFolds(log=str(tmp_path)), [0], out=str(tmp_path), recipe=Recipe(), launcher="here",
            tracking=Tracking("wandb"),
        )  # fmt: skip
    assert not list(tmp_path.iterdir())
    require(None)
    with pytest.raises(ValueError, match="tracking is 'tensorboard'; allowed: wandb"):
        Tracking("tensorboard")


def test_every_step_and_epoch_of_every_fold_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_API_KEY", CANARY)
    monkeypatch.setenv("SOME_SECRET", CANARY)
    tracking = Tracking("wandb", "posters", "study", "offline", str(tmp_path / "track"), {"learning_rate": 0.05})
    (tmp_path / "track").mkdir()
    results = fit_folds(
        ToyFolds(), [0, 1], out=str(tmp_path / "out"), recipe=Recipe(epochs=2, learning_rate=0.05), launcher="here",
        tracking=tracking,
    )  # fmt: skip
    runs = until_written(tmp_path / "track", 2 * (8 + 2))
    assert set(runs) == {"posters/study/fold-0", "posters/study/fold-1"}
    for result in results:
        rows = runs[f"posters/study/fold-{result.fold}"]
        steps = [row for row in rows if "step_loss" in row]
        assert [row["step"] for row in steps] == list(range(8))  # 64 rows in batches of 16, twice
        assert [row["step_rate"] for row in steps] == pytest.approx([0.05 * (8 - step) / 8 for step in range(8)])
        epochs = [row for row in rows if "rmse" in row]
        assert [row["rmse"] for row in epochs] == pytest.approx([row["rmse"] for row in result.history])
        first = sum(row["step_loss"] for row in steps[:4]) / 4
        assert epochs[0]["train_loss"] == pytest.approx(first) == pytest.approx(result.history[0]["train_loss"])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 4
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The folder for W&B's files, as a user's environment sets it; W&B reads that once and is made to forget it."""
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "track"))
    wandb.teardown()
    yield tmp_path / "track"
    wandb.teardown()


@pytest.mark.ray
def test_a_whole_study_is_tracked(ray_cluster: None, offline: Path, tmp_path: Path) -> None:
    offline.mkdir()
    save_tiny_bert(tmp_path / "encoder")
    rows = [["text", "score"], *([f"a {'dark' if i % 2 else 'bright'} scene {i}.", i % 2 + i / 100] for i in range(24))]
    with open(tmp_path / "films.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    train = {"encoder": "./encoder", "epochs": 2, "folds": 2, "batch_size": 6, "learning_rate": 0.01}
    study = {
        "title": "Films",
        "workspace": "out",
        "manifest": {"path": "films.csv", "text": "text", "target": "score"},
        "train_text": {**train, "launcher": "here", "tracking": "wandb", "project": "films"},
        "explain_words": {"max_evals": 4, "resources": {"cpus_per_worker": 0.5, "rows_per_block": 24}},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    run_study(load_study(str(tmp_path / "study.yaml")), Reporter(quiet=True))
    assert (tmp_path / "out/report/index.html").is_file()

    (folder,) = (tmp_path / "out/train_text").iterdir()
    history = pq.read_table(folder / "history.parquet").to_pylist()
    runs = until_written(offline, 2 * (4 + 2))
    assert set(runs) == {f"films/{folder.name}/fold-0", f"films/{folder.name}/fold-1"}
    for fold in (0, 1):
        rows = runs[f"films/{folder.name}/fold-{fold}"]
        steps = [row for row in rows if "step_loss" in row]
        assert [row["step_rate"] for row in steps] == pytest.approx([0.01, 0.0075, 0.005, 0.0025])
        epochs = {row["epoch"]: row for row in rows if "rmse" in row}
        assert {epoch: row["learning_rate"] for epoch, row in epochs.items()} == {1: 0.0075, 2: 0.0025}
        scores = [row for row in history if row["fold"] == fold]
        assert {row["metric"] for row in scores} >= {"rmse", "train_loss"}
        for row in scores:
            assert epochs[row["epoch"]][row["metric"]] == pytest.approx(row["value"])


def until_written(folder: Path, rows: int) -> dict[str, list[dict[str, float]]]:
    """The runs in a folder, once they hold so many rows: W&B's own process writes a moment after a run is closed."""
    until = time.monotonic() + 20
    runs: dict[str, list[dict[str, float]]] = {}
    while sum(map(len, runs.values())) < rows and time.monotonic() < until:
        runs = dict(read_run(path) for path in folder.rglob("*.wandb"))
        time.sleep(0.1)
    return runs


def read_run(path: Path) -> tuple[str, list[dict[str, float]]]:
    """project/group/name of an offline run, and its logged rows."""
    from wandb.proto import wandb_internal_pb2

    name, rows = "", []
    for data in records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "run":
            name = f"{record.run.project}/{record.run.run_group}/{record.run.display_name}"
        if record.WhichOneof("record_type") == "history":
            items = {(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item}
            rows.append({key: value for key, value in items.items() if not key.startswith("_")})
    return name, rows


def records(data: bytes) -> Iterator[bytes]:
    """The records of a LevelDB log: blocks of 32 KiB holding pieces of (checksum 4, length 2, type 1, bytes)."""
    at, piece = 7, b""  # after W&B's own header
    while at + 7 <= len(data):
        left_in_block = 32768 - at % 32768
        if left_in_block < 7:
            at += left_in_block
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        piece += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last of several pieces
            yield piece
            piece = b""
