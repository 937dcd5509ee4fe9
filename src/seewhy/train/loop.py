"""All folds of a training, side by side: as Ray tasks, as Ray Train worker groups, or one after the other right here.

The loop itself is fit.py's, whatever the launcher. Ray Train takes 11 to 28 seconds to start a group of workers, so it
is used where a fold has several; a fold of one worker is a plain Ray task.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from seewhy import storage, urls
from seewhy.failure import Fatal
from seewhy.memory import keep_freed_memory
from seewhy.ray_cluster import connect
from seewhy.train.checkpoint import STATE
from seewhy.train.fit import Recipe, fit
from seewhy.train.folder import FoldFolder, FoldResult
from seewhy.train.task import Task
from seewhy.train.tracking import Tracking, open_tracker, require

LAUNCHERS = ("auto", "here", "task", "ray_train")

MakeTask = Callable[[int], Task]
OnEpoch = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True)
class _Work:
    """What each fold's process is told; the data travel apart, once for all folds."""

    recipe: Recipe
    out: str
    tracking: Tracking | None
    cpus: int
    gpus: float
    workers: int = 1
    max_failures: int = 0

    def folder(self, fold: int, task: Task) -> FoldFolder:
        told = json.dumps([task.identity, asdict(self.recipe)], sort_keys=True)
        return FoldFolder(self.out, fold, hashlib.sha256(told.encode()).hexdigest())


def fit_folds(
    make_task: MakeTask,
    folds: Sequence[int],
    *,
    out: str,
    recipe: Recipe,
    launcher: str = "auto",
    workers: int = 1,
    cpus_per_worker: int | None = None,
    gpus_per_worker: float | None = None,
    max_failures: int = 3,
    tracking: Tracking | None = None,
    on_epoch: OnEpoch | None = None,
) -> list[FoldResult]:
    """Trains every fold and returns the results in the order of `folds`. Connects to Ray where that is not done yet.

    A fold that is finished in `out` costs nothing, one that was cut short goes on from its last epoch, whether a worker
    died (up to `max_failures` times a fold) or this very process did and calls again with the same arguments. Folds run
    at once as far as the cluster has room; the others wait.

    Args:
        make_task: the Task of a fold. Sent to every worker, its arrays once a node.
        out: folder for checkpoints and models: any fsspec URL that all workers can reach.
        launcher: ``task``, a Ray task a fold; ``ray_train``, a TorchTrainer a fold, with `workers` processes that share
            the gradient; ``here``, one fold after the other in this process without Ray; ``auto``, ``task`` for one
            worker and ``ray_train`` for more. With ``ray_train`` the caller need not be in a main thread.
        cpus_per_worker: also its number of threads; by default an equal share of the cluster.
        gpus_per_worker: may be a fraction with one worker; by default 1 where the cluster has any GPU.
        on_epoch: called here with (fold, epoch, scores) soon after each epoch, those of an earlier run too.

    Raises:
        ValueError: an unknown launcher, or several workers without Ray Train.
        Fatal: training diverged, workers died too often, or the tracker is missing.
    """
    if launcher not in LAUNCHERS:
        raise ValueError(f"launcher is {launcher!r}; allowed: {', '.join(LAUNCHERS)}")
    if launcher == "auto":
        launcher = "ray_train" if workers > 1 else "task"
    if workers > 1 and launcher != "ray_train":
        raise ValueError(f"{workers} workers a fold need launcher 'ray_train', not {launcher!r}")
    require(tracking)
    out = os.path.abspath(urls.local_path(out)) if urls.scheme(out) == "file" else out
    work = _Work(recipe, out, tracking, 1, 0.0, workers, max_failures)
    folders = {fold: work.folder(fold, make_task(fold)) for fold in folds}
    open_folds = [fold for fold in folds if not folders[fold].done()]
    watch = _Watch(folders, on_epoch)
    if open_folds and launcher == "here":
        _here(make_task, open_folds, work, watch)
    elif open_folds:
        cpus, gpus = _shares(len(open_folds) * workers, cpus_per_worker, gpus_per_worker)
        work = _Work(recipe, out, tracking, cpus, gpus, workers, max_failures)
        _on_ray(make_task, open_folds, work, launcher, watch)
    watch.look()
    return [folders[fold].result() for fold in folds]


class _Watch:
    """Tells of each epoch of each fold once, from the histories that the folds write."""

    def __init__(self, folders: dict[int, FoldFolder], on_epoch: OnEpoch | None) -> None:
        self._folders, self._on_epoch = folders, on_epoch
        self._told = dict.fromkeys(folders, 0)
        remote = any(urls.scheme(folder.url) != "file" for folder in folders.values())
        self.pause_sec = 3.0 if remote else 0.3

    def look(self) -> None:
        if self._on_epoch is None:
            return
        for fold, folder in self._folders.items():
            history = folder.progress()
            for row in history[self._told[fold] :]:
                self._on_epoch(fold, int(row["epoch"]), row)
            self._told[fold] = max(self._told[fold], len(history))


def _here(make_task: MakeTask, folds: list[int], work: _Work, watch: _Watch) -> None:
    for fold in folds:
        task = make_task(fold)
        folder = work.folder(fold, task)
        with open_tracker(work.tracking, name=f"fold-{fold}", identity=folder.identity) as tracker:
            fit(task, recipe=work.recipe, folder=folder, tracker=tracker)
        watch.look()


def _shares(jobs: int, cpus: int | None, gpus: float | None) -> tuple[int, float]:
    """CPUs and GPUs for each of so many workers, no more than the largest node has."""
    import ray

    connect()
    if gpus is None:
        gpus = 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0
    if cpus is None:
        largest = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
        cpus = max(1, min(largest, int(ray.cluster_resources().get("CPU", 0)) // jobs))
    return cpus, gpus


def _on_ray(make_task: MakeTask, folds: list[int], work: _Work, launcher: str, watch: _Watch) -> None:
    import ray

    if launcher == "task":
        start = ray.remote(num_cpus=work.cpus, num_gpus=work.gpus, max_retries=work.max_failures)(_fold_alone)
    else:
        # It only waits, so it asks for no CPU: it would starve the workers that it waits for. max_calls: TorchTrainer
        # takes over the process' signal handling, and nothing else should run there afterwards.
        start = ray.remote(num_cpus=0, max_retries=work.max_failures, max_calls=1)(_fold_by_ray_train)
    data = ray.put(make_task)
    waiting = {start.remote([data], fold, work): fold for fold in folds}
    try:
        while waiting:
            ready, _ = ray.wait(list(waiting), timeout=watch.pause_sec)
            for one in ready:
                _succeeded(one, waiting.pop(one), work)
            watch.look()
    finally:
        for one in waiting:
            ray.cancel(one, force=True, recursive=True)


def _succeeded(task: Any, fold: int, work: _Work) -> None:
    import ray.exceptions

    try:
        ray.get(task)
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise Fatal(
            f"fold {fold}: its worker died and {work.max_failures} more after it; if memory ran out, choose a smaller "
            "batch or fewer folds at once (more CPUs for each)"
        ) from error
    except (ray.exceptions.NodeDiedError, ray.exceptions.LocalRayletDiedError) as error:
        raise Fatal(
            f"fold {fold}: its node died in the last of {work.max_failures + 1} attempts; run again to go on from the "
            "last epoch, or allow more of them (max_failures)"
        ) from error


def _fold_alone(data: list[Any], fold: int, work: _Work) -> None:
    import ray

    keep_freed_memory()
    torch.set_num_threads(work.cpus)
    task = ray.get(data[0])(fold)
    folder = work.folder(fold, task)
    with open_tracker(work.tracking, name=f"fold-{fold}", identity=folder.identity) as tracker:
        fit(task, recipe=work.recipe, folder=folder, device="cuda" if work.gpus else "cpu", tracker=tracker)


def _fold_by_ray_train(data: list[Any], fold: int, work: _Work) -> None:
    import ray
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer

    folder = work.folder(fold, ray.get(data[0])(fold))
    fs, path = storage.open_fs(work.out)
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config={"data": data, "fold": fold, "work": work},
        scaling_config=ScalingConfig(
            num_workers=work.workers,
            use_gpu=work.gpus > 0,
            resources_per_worker={"CPU": work.cpus, **({"GPU": work.gpus} if work.gpus else {})},
        ),
        run_config=RunConfig(
            name=folder.name,  # the training's own: a run cut short is found again, and another one never is
            storage_path=path,
            storage_filesystem=None if urls.scheme(work.out) == "file" else _for_arrow(fs),
            failure_config=FailureConfig(max_failures=work.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise Fatal(f"fold {fold}: its workers failed more than {work.max_failures} times: {error}") from error
    folder.drop("checkpoint_")


def _for_arrow(fs: Any) -> Any:
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    return PyFileSystem(FSSpecHandler(fs))


def _train_worker(config: dict[str, Any]) -> None:
    import ray
    import ray.train.torch

    work: _Work = config["work"]
    keep_freed_memory()
    torch.set_num_threads(work.cpus)
    context = ray.train.get_context()
    rank = context.get_world_rank()
    task = ray.get(config["data"][0])(config["fold"])
    folder = work.folder(config["fold"], task)
    tracking = work.tracking if rank == 0 else None
    with open_tracker(tracking, name=f"fold-{config['fold']}", identity=folder.identity) as tracker:
        fit(
            task,
            recipe=work.recipe,
            folder=folder,
            checkpoints=_TrainCheckpoints(),
            rank=rank,
            world_size=context.get_world_size(),
            device=ray.train.torch.get_device(),
            tracker=tracker,
        )


class _TrainCheckpoints:
    """Checkpoints kept by Ray Train, which hands the last one to the workers that it starts after a failure."""

    @contextmanager
    def latest(self) -> Iterator[Path | None]:
        import ray.train

        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            yield None
            return
        with checkpoint.as_directory() as path:
            yield Path(path)

    def commit(self, epoch: int, facts: dict[str, Any], write: Callable[[Path], None] | None) -> None:
        import ray.train

        metrics = {name: value for name, value in facts.items() if name != "history"}
        if write is None:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as temporary:
            write(Path(temporary))
            (Path(temporary) / STATE).write_text(json.dumps(facts))
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(temporary))
