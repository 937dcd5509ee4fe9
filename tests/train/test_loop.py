"""Folds on a real cluster: what is left after workers and drivers are killed is what an undisturbed run leaves."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ray
import ray.exceptions

from seewhy.failure import Fatal
from seewhy.train import loop
from seewhy.train.fit import Recipe
from seewhy.train.folder import FoldResult
from seewhy.train.loop import fit_folds
from tests.train.toy import ToyFolds, epochs_begun

RECIPE = Recipe(epochs=4, learning_rate=0.05)
FOLDS = [0, 1, 2]


def run(out: Path, shared: ToyFolds, launcher: str = "task", **options: object) -> list[FoldResult]:
    options = {"folds": FOLDS, "cpus_per_worker": 1, "gpus_per_worker": 0} | options
    return fit_folds(shared, out=str(out), recipe=RECIPE, launcher=launcher, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[FoldResult]:
    """Without Ray, and without dropout, so that any number of workers must come to the same."""
    return run(tmp_path_factory.mktemp("undisturbed"), ToyFolds(dropout=0.0), "here")


def assert_same(found: list[FoldResult], expected: list[FoldResult], atol: float = 1e-6) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.fold == other.fold
        assert one.best_epoch == other.best_epoch
        assert [row["epoch"] for row in one.history] == [1, 2, 3, 4]
        np.testing.assert_allclose(one.outputs, other.outputs, atol=atol)
        model, again = (ToyFolds()(0).load(result.model).state_dict() for result in (one, other))
        for name, value in model.items():
            np.testing.assert_allclose(value, again[name], atol=atol)


def test_here_every_epoch_is_told_once_and_a_second_call_does_nothing(tmp_path: Path) -> None:
    shared = ToyFolds(log=str(tmp_path))
    told: list[tuple[int, int, float]] = []
    first = run(
        tmp_path / "out", shared, "here", on_epoch=lambda fold, epoch, row: told.append((fold, epoch, row["rmse"]))
    )
    assert [(fold, epoch) for fold, epoch, _ in told] == [(f, e) for f in FOLDS for e in (1, 2, 3, 4)]
    assert [rmse for fold, _, rmse in told if fold == 1] == [row["rmse"] for row in first[1].history]
    begun = [epochs_begun(tmp_path, fold) for fold in FOLDS]
    assert begun == [[1, 2, 3, 4]] * 3
    assert_same(run(tmp_path / "out", shared, "here"), first, atol=0)
    assert [epochs_begun(tmp_path, fold) for fold in FOLDS] == begun


def test_another_recipe_or_other_data_are_another_training(tmp_path: Path) -> None:
    run(tmp_path / "out", ToyFolds(log=str(tmp_path)), "here", folds=[0])
    run(tmp_path / "out", ToyFolds(log=str(tmp_path), batch_size=8), "here", folds=[0])
    fit_folds(ToyFolds(log=str(tmp_path)), [0], out=str(tmp_path / "out"), recipe=Recipe(epochs=1), launcher="here")
    assert epochs_begun(tmp_path, 0) == [1, 2, 3, 4, 1, 2, 3, 4, 1]


def test_a_remote_folder_without_ray(tmp_path: Path, undisturbed: list[FoldResult]) -> None:
    found = fit_folds(ToyFolds(dropout=0.0), [1], out=f"memory://{tmp_path.name}", recipe=RECIPE, launcher="here")
    np.testing.assert_array_equal(found[0].outputs, undisturbed[1].outputs)
    assert found[0].model.startswith("memory://")


def test_options_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="launcher is 'slurm'"):
        run(tmp_path, ToyFolds(), "slurm")
    with pytest.raises(ValueError, match="2 workers a fold need launcher 'ray_train'"):
        run(tmp_path, ToyFolds(), "task", workers=2)


@pytest.mark.ray
def test_killed_workers_go_on_from_their_last_epoch(
    ray_cluster: None, tmp_path: Path, undisturbed: list[FoldResult]
) -> None:
    shared = ToyFolds(dropout=0.0, log=str(tmp_path), kill_epoch=3, kill_folds=(0, 2))
    told: list[tuple[int, int]] = []
    found = run(tmp_path / "out", shared, on_epoch=lambda fold, epoch, _: told.append((fold, epoch)))
    assert (tmp_path / "killed-0").exists()
    assert (tmp_path / "killed-2").exists()
    assert epochs_begun(tmp_path, 0) == [1, 2, 3, 3, 4]
    assert epochs_begun(tmp_path, 1) == [1, 2, 3, 4]
    assert sorted(told) == [(f, e) for f in FOLDS for e in (1, 2, 3, 4)]
    assert_same(found, undisturbed)


@pytest.mark.ray
def test_what_no_retry_helps_stops_the_job(ray_cluster: None, tmp_path: Path) -> None:
    shared = ToyFolds(log=str(tmp_path), kill_epoch=2, kill_folds=(0,))
    with pytest.raises(Fatal, match="fold 0: its worker died and 0 more"):
        run(tmp_path / "killed", shared, folds=[0], max_failures=0)
    with pytest.raises(Fatal, match="training diverged"):
        fit_folds(
            ToyFolds(), FOLDS, out=str(tmp_path / "diverged"), recipe=Recipe(learning_rate=1e30, clip_norm=0),
            cpus_per_worker=1, gpus_per_worker=0,
        )  # fmt: skip


@pytest.mark.parametrize("error", [ray.exceptions.NodeDiedError("gone"), ray.exceptions.LocalRayletDiedError()])
def test_a_node_that_died_stops_the_job(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def get(_: object) -> None:
        raise error

    monkeypatch.setattr(ray, "get", get)
    work = loop._Work(RECIPE, "out", None, cpus=1, gpus=0.0, max_failures=2)
    with pytest.raises(Fatal, match="fold 1: its node died in the last of 3 attempts; run again to go on"):
        loop._succeeded(None, 1, work)


@pytest.mark.ray
def test_a_killed_worker_of_ray_train(ray_cluster: None, tmp_path: Path, undisturbed: list[FoldResult]) -> None:
    shared = ToyFolds(dropout=0.0, log=str(tmp_path), kill_epoch=3, kill_folds=(1,))
    found = run(tmp_path / "out", shared, "auto", folds=[1], workers=2)
    assert (tmp_path / "killed-1").exists()
    begun = epochs_begun(tmp_path, 1)
    assert begun.count(1) == 2  # two workers, and epoch 1 was not done again
    assert 6 <= begun.count(2) + begun.count(3) <= 8  # Ray Train may lose a report that it was about to take in
    assert begun.count(4) == 2
    assert_same(found, undisturbed[1:2])
    left = {path.name for path in next((tmp_path / "out").glob("fold-1-*")).iterdir()}
    assert left >= {"done.json", "history.json", "model", "outputs.safetensors"}
    assert not [name for name in left if name.startswith(("checkpoint_", "epoch-"))]


DRIVER = """
import os, signal, sys
import ray
from seewhy.train.fit import Recipe
from seewhy.train.loop import fit_folds
from tests.train.toy import ToyFolds

def on_epoch(fold, epoch, row):
    if fold == 1 and epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    ray.init(address=sys.argv[1], log_to_driver=False)
    shared = ToyFolds(dropout=0.0, log=sys.argv[2], sleep_sec=0.2)
    fit_folds(shared, [0, 1, 2], out=sys.argv[3], recipe=Recipe(epochs=4, learning_rate=0.05), launcher="task",
              cpus_per_worker=2, gpus_per_worker=0, on_epoch=on_epoch)
"""


@pytest.mark.ray
def test_a_killed_driver_goes_on_where_it_was(ray_cluster: None, tmp_path: Path, undisturbed: list[FoldResult]) -> None:
    import ray

    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    address = ray.get_runtime_context().gcs_address
    root = str(Path(__file__).parents[2])
    env = os.environ | {"PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}
    out = tmp_path / "out"
    died = subprocess.run(
        [sys.executable, str(script), address, str(tmp_path), str(out)], env=env, timeout=120, check=False
    )
    assert died.returncode == -signal.SIGKILL
    finished = {path.parent.name.split("-")[1] for path in out.glob("fold-*/done.json")}
    assert "1" not in finished
    before = {fold: epochs_begun(tmp_path, fold) for fold in FOLDS}
    assert before[1][:2] == [1, 2]
    found = run(out, ToyFolds(dropout=0.0, log=str(tmp_path)))
    assert_same(found, undisturbed)
    after = {fold: epochs_begun(tmp_path, fold)[len(before[fold]) :] for fold in FOLDS}
    for fold in FOLDS:  # goes on after the last epoch whose checkpoint was whole: at most the one under way is repeated
        last = before[fold][-1] if before[fold] else 0
        if str(fold) in finished:
            assert after[fold] == []
        else:
            assert after[fold] in (list(range(last, 5)), list(range(last + 1, 5)))
    assert after[1]
    assert json.loads(next(out.glob("fold-1-*/done.json")).read_text())["epoch"] == 4
