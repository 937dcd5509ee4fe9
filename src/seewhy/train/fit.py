"""The one training loop: epochs over a task's batches, in one process or as one of several that share the gradient.

Knows nothing of texts, images or Ray. What a batch is, which model reads it and what its loss is stand in a Task, see
task.py.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from seewhy.failure import Fatal
from seewhy.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from seewhy.train.folder import Checkpoints, FoldFolder
from seewhy.train.task import Batch, MakeBatch, Task
from seewhy.train.tracking import Tracker

_AHEAD = 8  # batches made before they are needed, at most


@dataclass(frozen=True)
class Recipe:
    """How to train, whatever the task.

    Attributes:
        epochs: passes over the training rows.
        learning_rate: of AdamW, reached after the warm-up; it falls linearly to 0 at the last step.
        weight_decay: of AdamW, on all parameters.
        warmup_fraction: share of all steps in which the rate rises linearly from 0.
        new_factor: parameters that were drawn learn at so many times the rate of those that were pretrained.
        clip_norm: gradients longer than this are shortened to it; 0 turns clipping off.
        seed: of initial weights, dropout and order.
        keep: ``best``, the epoch with the lowest validation score, or ``last``. To choose the epoch on the very rows
            that are scored afterwards flatters the model a little; ``last`` does not.
        bf16: bfloat16 autocast where the GPU has it; never on a CPU.
    """

    epochs: int = 5
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup_fraction: float = 0.0
    clip_norm: float = 1.0
    seed: int = 42
    keep: str = "best"
    bf16: bool = True
    new_factor: float = 1.0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs is {self.epochs}; at least 1 is needed")
        if self.keep not in ("best", "last"):
            raise ValueError(f"keep is {self.keep!r}; allowed are 'best' and 'last'")
        if not 0 <= self.warmup_fraction < 1:
            raise ValueError(f"warmup_fraction is {self.warmup_fraction}; it must be 0 or more and less than 1")


def learning_rate_at(step: int, *, total: int, recipe: Recipe) -> float:
    """Rate of step 0 <= `step` < `total`: a linear rise over the warm-up, then a linear fall to 0 at `total`."""
    warmup = math.ceil(recipe.warmup_fraction * total)
    if step < warmup:
        return recipe.learning_rate * step / warmup
    return recipe.learning_rate * (total - step) / max(1, total - warmup)


def fit(
    task: Task,
    *,
    recipe: Recipe,
    folder: FoldFolder,
    checkpoints: Checkpoints | None = None,
    rank: int = 0,
    world_size: int = 1,
    device: str | torch.device | None = None,
    tracker: Tracker | None = None,
    loaders: int = 1,
) -> None:
    """Trains to the last epoch, going on from the last checkpoint if there is one, and leaves the result in `folder`.

    With `world_size` > 1 every process calls it with its own `rank`, after ``init_process_group``. A batch of the plan
    is dealt out among the processes and the gradient is that of the whole batch, so the number of processes changes
    the result by no more than rounding and the draws of dropout.

    On a CPU the result is the same to the bit for the same seed, world size and number of threads, also after a resume:
    every epoch seeds the generators anew from (seed, epoch, rank), so no state of theirs has to be kept.

    Args:
        checkpoints: where an epoch's state goes; by default `folder` too.
        device: by default the first GPU, or the CPU where there is none.
        loaders: threads that make batches ahead of the model.

    Raises:
        Fatal: the loss is no longer finite.
        ValueError: a batch has fewer rows than there are processes.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    checkpoints = checkpoints or folder
    run = Run(task, recipe, rank, world_size, device, tracker, loaders)
    with _own_random_state(device):
        torch.manual_seed(recipe.seed)
        model = task.build_model().to(device)
        optimizer = make_optimizer(task, model, recipe)
        progress = Progress()
        trained = _shared(run, model)
        with checkpoints.latest() as found:
            if found is not None:
                progress = load_checkpoint(found, model, optimizer)
        for epoch in range(progress.epoch + 1, recipe.epochs + 1):
            progress = _one_epoch(run, model, trained, optimizer, progress, epoch)
            checkpoints.commit(progress.epoch, progress.facts(), _writer(run, progress, model, optimizer))
            if rank == 0:
                folder.show_progress(progress.history)
        if rank == 0:
            model.load_state_dict(progress.best_weights)
            assert progress.best_outputs is not None
            folder.finish(progress.facts(), progress.best_outputs, lambda path: task.save(model, path))


def make_optimizer(task: Task, model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """As `train_epoch` wants it: what is learnt in groups, each with the factor of its rate."""
    new = task.new_parameters(model) if recipe.new_factor != 1 else ()
    learnt = [(name in new, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for is_new, parameter in learnt if is_new == one], "factor": factor}
        for one, factor in ((False, 1.0), (True, recipe.new_factor))
    ]
    learning = [group for group in groups if group["params"]]
    return torch.optim.AdamW(learning, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)


@dataclass(frozen=True)
class Run:
    """What stays the same through one process' part in a training."""

    task: Task
    recipe: Recipe
    rank: int
    world_size: int
    device: torch.device
    tracker: Tracker | None
    loaders: int

    def autocast(self) -> torch.autocast:
        use = self.recipe.bf16 and self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=use)

    def to_device(self, batch: Batch) -> Batch:
        return {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}


@contextmanager
def _own_random_state(device: torch.device) -> Iterator[None]:
    """Leaves the caller's random numbers and cuDNN settings as they were."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


def _writer(
    run: Run, progress: Progress, model: nn.Module, optimizer: torch.optim.Optimizer
) -> Callable[[Path], None] | None:
    if run.rank != 0:
        return None
    return lambda path: save_checkpoint(path, progress, model, optimizer)


def _one_epoch(
    run: Run,
    model: nn.Module,
    trained: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    epoch: int,
) -> Progress:
    started = time.monotonic()
    torch.manual_seed(int(np.random.SeedSequence([run.recipe.seed, epoch, run.rank]).generate_state(1)[0]))
    train_loss, rate = train_epoch(run, trained, optimizer, epoch)
    if not math.isfinite(train_loss):
        raise Fatal(f"training diverged: the loss of epoch {epoch} is {train_loss}; choose a lower learning rate")
    outputs = _validate(run, model)
    scores = run.task.score(outputs)
    row = {"epoch": epoch, "train_loss": train_loss, "learning_rate": rate, **scores}
    row["seconds"] = time.monotonic() - started
    if run.tracker is not None:
        run.tracker.log(row)
    score = scores[run.task.select_by]
    progress = progress.next(epoch, row)
    if run.recipe.keep == "last" or progress.best_epoch == 0 or score < progress.best_score:
        progress = progress.with_best(epoch, score, model, outputs)
    return progress


def train_epoch(run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int) -> tuple[float, float]:
    """One pass over the training rows: mean loss a row, and the learning rate of the last step."""
    plan = run.task.train_plan(epoch - 1)
    model.train()
    shares = [rows[run.rank :: run.world_size] for rows in plan]
    total = torch.zeros((), device=run.device)
    rate = 0.0
    make = run.task.train_batches(epoch - 1, shares)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, batch in enumerate(_made_ahead(make, shares, run.loaders)):
        step = (epoch - 1) * len(plan) + index
        rate = learning_rate_at(step, total=run.recipe.epochs * len(plan), recipe=run.recipe)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        with run.autocast():
            losses = run.task.losses(model, run.to_device(batch))
        optimizer.zero_grad(set_to_none=True)
        # The processes' gradients are averaged: scaled so, the average is the gradient of the whole batch's mean loss
        # also when the batch could not be dealt out evenly.
        (losses.float().sum() * (run.world_size / len(plan[index]))).backward()
        if run.recipe.clip_norm:
            nn.utils.clip_grad_norm_(parameters, run.recipe.clip_norm)
        optimizer.step()
        total += losses.detach().float().sum()
        if run.tracker is not None:
            run.tracker.log({"step": step, "step_loss": float(losses.detach().float().mean()), "step_rate": rate})
    if run.world_size > 1:
        torch.distributed.all_reduce(total)
    return float(total) / sum(len(rows) for rows in plan), rate


def _shared(run: Run, model: nn.Module) -> nn.Module:
    """Within a group of processes, the model that averages its gradients over them."""
    if run.world_size == 1:
        return model
    smallest = min(len(rows) for rows in run.task.train_plan(0))
    if smallest < run.world_size:
        raise ValueError(f"a batch of {smallest} rows cannot be shared by {run.world_size} workers; use fewer workers")
    # static_graph: encoders carry parameters that no loss reaches (BERT's pooler), and DDP must not wait for those.
    return DistributedDataParallel(
        model, device_ids=[run.device] if run.device.type == "cuda" else None, static_graph=True
    )


@torch.inference_mode()
def _validate(run: Run, model: nn.Module) -> np.ndarray:
    """(N, K) float32 outputs of the validation rows, the same on every process."""
    plan = run.task.valid_plan()[run.rank :: run.world_size]
    outputs = torch.zeros((run.task.valid_rows, run.task.width), device=run.device)
    model.eval()
    if run.world_size > 1:
        for buffer in model.buffers():  # batch norm's averages, which each process has taken over its own rows
            torch.distributed.broadcast(buffer, src=0)
    for rows, batch in zip(plan, _made_ahead(run.task.valid_batches(plan), plan, run.loaders), strict=True):
        where = torch.from_numpy(rows.copy()).to(run.device)
        with run.autocast():
            outputs[where] = run.task.outputs(model, run.to_device(batch)).float()
    if run.world_size > 1:
        torch.distributed.all_reduce(outputs)  # each row is filled by one process and 0 on the others
    return outputs.cpu().numpy()


def _made_ahead(make: MakeBatch, plan: list[np.ndarray], loaders: int) -> Iterator[Batch]:
    """The batches of the plan in order, made by threads ahead of their use."""
    with ThreadPoolExecutor(max_workers=loaders) as pool:
        waiting: deque[Future[Batch]] = deque()
        try:
            for rows in plan:
                waiting.append(pool.submit(make, rows))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
