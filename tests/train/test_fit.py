"""The loop in one process, and in two without Ray: what it computes, keeps, and goes on from."""

import math
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from seewhy import storage, urls
from seewhy.failure import Fatal
from seewhy.train.fit import Recipe, fit, learning_rate_at
from seewhy.train.folder import FoldFolder, FoldResult
from tests.train.toy import ToyFolds, ToyTask, epochs_begun

RECIPE = Recipe(epochs=4, learning_rate=0.05, warmup_fraction=0.1)


def train(out: Path | str, task: ToyTask | None = None, recipe: Recipe = RECIPE, **options: object) -> FoldResult:
    folder = FoldFolder(str(out), 0, "0123456789abcdef")
    fit(task or ToyFolds()(0), recipe=recipe, folder=folder, device="cpu", **options)  # type: ignore[arg-type]
    return folder.result()


def weights(result: FoldResult) -> dict[str, torch.Tensor]:
    return ToyFolds()(0).load(result.model).state_dict()


def assert_equal(a: FoldResult, b: FoldResult, atol: float = 0.0) -> None:
    assert a.best_epoch == b.best_epoch
    np.testing.assert_allclose(a.outputs, b.outputs, atol=atol, rtol=0)
    for name, value in weights(a).items():
        torch.testing.assert_close(value, weights(b)[name], atol=atol, rtol=0)
    for one, other in zip(a.history, b.history, strict=True):
        keys = one.keys() - {"seconds"}
        assert [one[key] for key in sorted(keys)] == pytest.approx([other[key] for key in sorted(keys)], abs=atol)


def test_the_learning_rate_is_the_one_of_transformers() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    for fraction in (0.0, 0.2):
        recipe = Recipe(learning_rate=0.3, warmup_fraction=fraction)
        schedule = transformers.get_linear_schedule_with_warmup(optimizer, math.ceil(40 * fraction), 40)
        factors = [schedule.lr_lambdas[0](step) for step in range(40)]
        found = [learning_rate_at(step, total=40, recipe=recipe) for step in range(40)]
        assert found == pytest.approx([0.3 * factor for factor in factors])


def test_the_steps_are_adamws_on_the_mean_loss(tmp_path: Path) -> None:
    """Three epochs of one batch, beside the same done by hand. One step would not show the clipping: Adam's first step
    has the same length whatever the gradient's."""
    task = ToyFolds(dropout=0.0, batch_size=64)(0)
    result = train(tmp_path, task, Recipe(epochs=3, learning_rate=0.3, weight_decay=0.1, clip_norm=2.0))
    torch.manual_seed(42)
    model = task.build_model()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    batch = task.train_batch(np.arange(64))
    norms = []
    for step in range(3):
        optimizer.param_groups[0]["lr"] = 0.3 * (3 - step) / 3
        optimizer.zero_grad()
        loss = ((model(batch["x"])[:, 0] - batch["y"]) ** 2).mean()
        assert result.history[step]["train_loss"] == pytest.approx(loss.item(), rel=1e-5)
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)))
        optimizer.step()
    assert max(norms) > 2 * min(norms) > 4  # so that clipping changes every step by another factor
    for name, value in model.state_dict().items():
        torch.testing.assert_close(weights(result)[name], value, atol=1e-5, rtol=0)


@pytest.mark.parametrize("factor", [1.0, 10.0])
def test_drawn_parameters_learn_at_a_rate_of_their_own(tmp_path: Path, factor: float) -> None:
    """Adam's first step is as long as the rate, whatever the gradient. Their gradients are clipped together."""
    task = ToyFolds(dropout=0.0, batch_size=64)(0)
    recipe = Recipe(epochs=1, learning_rate=0.001, weight_decay=0, clip_norm=1e-3, new_factor=factor)
    torch.manual_seed(recipe.seed)
    fresh = task.build_model().state_dict()
    trained = weights(train(tmp_path, task, recipe))
    for name, expected in {
        "0.weight": 0.001,
        "0.bias": 0.001,
        "3.weight": 0.001 * factor,
        "3.bias": 0.001 * factor,
    }.items():
        steps = (trained[name] - fresh[name]).abs()
        torch.testing.assert_close(steps, torch.full_like(steps, expected), rtol=0.01, atol=0)


def test_it_learns_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    recipe = Recipe(epochs=6, learning_rate=0.3, clip_norm=0)  # steps so large that later epochs are not always better
    task = ToyFolds()(0)
    result = train(tmp_path, task, recipe)
    rmse = [row["rmse"] for row in result.history]
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4, 5, 6]
    assert result.best_epoch == 1 + int(np.argmin(rmse))
    assert result.best_epoch < 6
    assert task.score(result.outputs)["rmse"] == pytest.approx(min(rmse))
    said = task.load(result.model)(torch.from_numpy(task.shared.x[task.valid])).detach().numpy()
    np.testing.assert_allclose(said, result.outputs, atol=1e-6)
    last = train(tmp_path / "last", ToyFolds()(0), Recipe(epochs=6, learning_rate=0.3, clip_norm=0, keep="last"))
    assert last.best_epoch == 6
    assert task.score(last.outputs)["rmse"] == pytest.approx(rmse[-1])
    assert min(rmse) < 0.5 * task.y[task.valid].std()


def test_the_seed_decides_and_the_callers_random_numbers_do_not(tmp_path: Path) -> None:
    first = train(tmp_path / "a")
    torch.manual_seed(999)
    before = torch.get_rng_state()
    again = train(tmp_path / "b")
    assert torch.equal(torch.get_rng_state(), before)
    assert_equal(first, again)
    other = train(tmp_path / "c", recipe=Recipe(epochs=4, learning_rate=0.05, warmup_fraction=0.1, seed=1))
    assert not np.allclose(first.outputs, other.outputs)


def killed_training(out: str, log: str) -> None:
    torch.set_num_threads(1)
    train(out, ToyFolds(log=log, kill_epoch=3, kill_folds=(0,))(0))


def test_a_killed_training_goes_on_from_its_last_epoch(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    process = multiprocessing.get_context("spawn").Process(
        target=killed_training, args=(str(tmp_path / "killed"), str(tmp_path / "log"))
    )
    process.start()
    process.join(120)
    assert process.exitcode == -9
    again = train(tmp_path / "killed", ToyFolds(log=str(tmp_path / "log"))(0))
    assert epochs_begun(tmp_path / "log", 0) == [1, 2, 3, 3, 4]
    assert_equal(train(tmp_path / "whole"), again)


@pytest.mark.parametrize("url", ["disk", "memory"])
def test_a_checkpoint_without_its_mark_does_not_count(tmp_path: Path, url: str) -> None:
    """A kill while epoch 3 is written: whatever of it is there, training goes on from epoch 2."""
    out = str(tmp_path / "run") if url == "disk" else f"memory://{tmp_path.name}"
    task = ToyFolds(log=str(tmp_path))(0)

    class Interrupted(FoldFolder):
        def commit(self, epoch, facts, write):  # type: ignore[no-untyped-def]
            super().commit(epoch, facts, write)
            if epoch == 2:
                storage.write_whole(urls.join(self.url, "epoch-0003", "weights.safetensors"), b"half")
                raise KeyboardInterrupt

    folder = Interrupted(out, 0, "0123456789abcdef")
    with pytest.raises(KeyboardInterrupt):
        fit(task, recipe=RECIPE, folder=folder, device="cpu")
    assert not folder.done()
    again = train(out, task) if url == "disk" else None
    if again is None:
        fit(task, recipe=RECIPE, folder=FoldFolder(out, 0, "0123456789abcdef"), device="cpu")
        assert not [name for name in storage.list_folders(folder.url) if name.startswith("epoch-")]
        result = folder.result()
        np.testing.assert_array_equal(result.outputs, train(tmp_path / "whole").outputs)
    else:
        assert_equal(train(tmp_path / "whole"), again)
    assert epochs_begun(tmp_path, 0)[:4] == [1, 2, 3, 4]


def test_stopped_after_every_epoch_it_still_knows_the_best(tmp_path: Path) -> None:
    recipe = Recipe(epochs=6, learning_rate=0.3, clip_norm=0)  # as above: the best epoch is not the last

    class OneEpoch(FoldFolder):
        def commit(self, epoch, facts, write):  # type: ignore[no-untyped-def]
            super().commit(epoch, facts, write)
            raise KeyboardInterrupt

    for _ in range(6):
        with pytest.raises(KeyboardInterrupt):
            fit(ToyFolds()(0), recipe=recipe, folder=OneEpoch(str(tmp_path), 0, "0123456789abcdef"), device="cpu")
    whole = train(tmp_path / "whole", recipe=recipe)
    assert whole.best_epoch < 6
    assert_equal(train(tmp_path, recipe=recipe), whole)


def test_nothing_in_the_folder_can_be_unpickled(tmp_path: Path) -> None:
    class Stopped(FoldFolder):
        def finish(self, facts, outputs, write_model):  # type: ignore[no-untyped-def]
            super().finish(facts, outputs, write_model)
            raise KeyboardInterrupt

        def _drop_epochs(self, keep):  # type: ignore[no-untyped-def]
            """Keeps all, to look at them."""

    with pytest.raises(KeyboardInterrupt):
        fit(ToyFolds()(0), recipe=RECIPE, folder=Stopped(str(tmp_path), 0, "x"), device="cpu")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    assert len(files) > 4 * 3
    for path in files:
        assert not path.read_bytes().startswith((b"\x80", b"PK"))


def worker(rank: int, world_size: int, out: str, dropout: float) -> None:
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f"{out}-store", world_size)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
    fit(
        ToyFolds(dropout=dropout, batch_size=15)(0),
        recipe=RECIPE,
        folder=FoldFolder(out, 0, "0123456789abcdef"),
        device="cpu",
        rank=rank,
        world_size=world_size,
    )
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    os._exit(0)  # gloo's threads now and then abort a process that ends in the usual way; all that counts is written


def test_two_workers_compute_what_one_computes(tmp_path: Path) -> None:
    """64 rows in 5 batches of 12 and 13: the odd ones are shared out as 7 and 6."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=worker, args=(rank, 2, str(tmp_path / "two"), 0.0)) for rank in range(2)]
    for process in processes:
        process.start()
    one = train(tmp_path / "one", ToyFolds(dropout=0.0, batch_size=15)(0))
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    two = FoldFolder(str(tmp_path / "two"), 0, "0123456789abcdef").result()
    assert_equal(one, two, atol=2e-6)


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a batch of 16 rows cannot be shared by 17 workers"):
        train(tmp_path, world_size=17)


def test_divergence_stops_the_job(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="diverged: the loss of epoch 1 is"):
        train(tmp_path, recipe=Recipe(epochs=2, learning_rate=1e30, clip_norm=0))
    assert not FoldFolder(str(tmp_path), 0, "0123456789abcdef").done()


def test_frozen_parameters_stay(tmp_path: Path) -> None:
    class Frozen(ToyTask):
        def build_model(self) -> torch.nn.Module:
            model = super().build_model()
            model[0].requires_grad_(False)
            return model

    task = Frozen(ToyFolds(), 0)
    torch.manual_seed(RECIPE.seed)
    fresh = task.build_model().state_dict()
    trained = weights(train(tmp_path, task))
    assert torch.equal(trained["0.weight"], fresh["0.weight"])
    assert not torch.equal(trained["3.weight"], fresh["3.weight"])


def test_a_recipe_says_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="epochs is 0"):
        Recipe(epochs=0)
    with pytest.raises(ValueError, match="keep is 'first'"):
        Recipe(keep="first")
    with pytest.raises(ValueError, match=r"warmup_fraction is 1\.5"):
        Recipe(warmup_fraction=1.5)
