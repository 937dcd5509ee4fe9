"""Training on pictures: what it learns, what it cannot have seen, and what is left when it is cut short."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from seewhy import schema
from seewhy.failure import Fatal
from seewhy.train.augment import Augmentation
from seewhy.train.classes import CALIBRATION, CONFUSION
from seewhy.train.crossfit import split_rows
from seewhy.train.fit import Recipe, fit
from seewhy.train.folder import FoldFolder, FoldResult
from seewhy.train.folds import grouped_folds
from seewhy.train.image import ImageTraining, train_image
from seewhy.train.image_model import find_image_model, load_image_model
from seewhy.train.image_task import ImageFolds, ImageTask
from seewhy.train.pictures import Pictures
from tests.train.image_models import Photos, noisy, save_model, save_photos

ROWS = 60
NAMES = ["夜" if i % 2 else "昼" for i in range(ROWS)]
NUMBERS = [1000.0 + (300.0 if i % 2 else -300.0) + i % 7 for i in range(ROWS)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    """Dark blue at night, light yellow by day, each with noise of its own."""
    images = [noisy((40, 40, 110) if i % 2 else (220, 210, 130), i) for i in range(ROWS)]
    return save_photos(tmp_path_factory.mktemp("photos"), images)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("resnet"), "resnet")


def train(
    model: str, photos: Photos, out: Path, table: pa.Table, kind: str = "regression", **options: Any
) -> ImageTraining:
    options = {
        "epochs": 6, "learning_rate": 1e-2, "batch_size": 8, "launcher": "here", "folds": 3, "resamples": 100,
        "scratch": True,
    } | options  # fmt: skip
    return train_image(table, parts=photos.parts, kind=kind, out=str(out), model=model, **options)


def outputs_of(result: ImageTraining) -> np.ndarray:
    return np.array(result.predictions["outputs"].to_pylist())


def test_planted_colours_are_learnt_as_classes(resnet: str, photos: Photos, tmp_path: Path) -> None:
    table = photos.with_targets(NAMES)
    result = train(resnet, photos, tmp_path, table, "classification", classes=["夜", "昼", "夕"])
    assert result.classes == ("夜", "昼", "夕")
    assert result.predictions.schema == schema.PREDICTIONS
    assert result.predictions["row"].to_pylist() == list(range(100, 160))
    assert result.predictions["id"].to_pylist() == photos.table["id"].to_pylist()
    truth = np.array([0 if name == "夜" else 1 for name in NAMES])
    assert result.predictions["target"].to_pylist() == truth.tolist()
    folds = grouped_folds(range(ROWS), folds=3, classes=truth.tolist())
    assert result.predictions["fold"].to_pylist() == folds.tolist()
    probabilities = outputs_of(result)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities.argmax(axis=1) == truth).mean() > 0.9
    values = {(row["model"], row["metric"]): row["value"] for row in result.scores.to_pylist()}
    assert {model for model, _ in values} == {"majority", "logistic_colours", resnet}
    assert {metric for _, metric in values} == {"accuracy", "macro_f1", "calibration_error"}
    assert values[resnet, "accuracy"] == pytest.approx((probabilities.argmax(axis=1) == truth).mean())
    assert values["majority", "accuracy"] == pytest.approx(0.5)
    assert values["logistic_colours", "accuracy"] > 0.95
    assert result.verdict.metric == "macro_f1"
    assert result.verdict.baseline == "logistic_colours"
    assert result.confusion.schema == CONFUSION
    ours = [row for row in result.confusion.to_pylist() if row["model"] == resnet]
    assert [row["rows"] for row in ours if row["truth"] == row["said"] != "夕"] == [
        int((probabilities.argmax(axis=1) == truth)[truth == one].sum()) for one in (0, 1)
    ]
    assert sum(row["rows"] for row in ours) == ROWS
    assert result.calibration.schema == CALIBRATION
    assert result.calibration.group_by("model").aggregate([("rows", "sum")])["rows_sum"].to_pylist() == [ROWS, ROWS]


def test_regression_in_the_targets_own_unit(resnet: str, photos: Photos, tmp_path: Path) -> None:
    result = train(resnet, photos, tmp_path, photos.with_targets(NUMBERS))
    said = outputs_of(result)[:, 0]
    assert np.abs(said - np.array(NUMBERS)).mean() < 100
    values = {(row["model"], row["metric"]): row["value"] for row in result.scores.to_pylist()}
    assert {model for model, _ in values} == {"mean", "ridge_colours", resnet}
    assert values[resnet, "rmse"] == pytest.approx(np.sqrt(((said - np.array(NUMBERS)) ** 2).mean()), rel=1e-4)
    assert result.classes == ()
    assert result.confusion == CONFUSION.empty_table()


def test_a_saved_model_says_what_the_training_said(resnet: str, photos: Photos, tmp_path: Path) -> None:
    result = train(resnet, photos, tmp_path, photos.with_targets(NUMBERS), epochs=2, chosen_folds=[0, 2], scratch=False)
    assert set(result.models) == {0, 2}
    rows = {row["row"] - 100: row for row in result.predictions.to_pylist()}
    assert {row["fold"] for row in rows.values()} == {0, 2}
    for fold, folder in result.models.items():
        model = load_image_model(folder)
        inside = [number for number, row in rows.items() if row["fold"] == fold]
        with torch.inference_mode():
            said = model(model.normalise(model.pixels([photos.images[number] for number in inside])))
        torch.testing.assert_close(
            said, torch.tensor([rows[number]["outputs"] for number in inside]), atol=1e-2, rtol=0
        )
        trained = np.array(NUMBERS)[grouped_folds(range(ROWS), folds=3) != fold]
        assert model.facts.mean == pytest.approx(trained.mean())
        assert model.facts.sd == pytest.approx(trained.std())
        assert {path.suffix for path in Path(folder).iterdir()} == {".json", ".safetensors"}


def test_names_and_neighbours_do_not_leak(resnet: str, tmp_path: Path) -> None:
    """Pictures of noise; the class is in the order of the rows, in the parts' names, in the ids and in the position."""
    images = [noisy((128, 128, 128), seed) for seed in range(120)]
    photos = save_photos(tmp_path / "sunny-0-rainy-1", images, part_rows=60)
    names = ["sunny"] * 60 + ["rainy"] * 60
    table = photos.with_targets(names)
    ids = [f"{name}/{name}_{row}" for row, name in enumerate(names)]
    table = table.set_column(table.schema.get_field_index("id"), "id", pa.array(ids))
    result = train(resnet, photos, tmp_path / "out", table, "classification", epochs=4, batch_size=10, keep="last")
    accuracy = (outputs_of(result).argmax(axis=1) == np.array(result.predictions["target"])).mean()
    assert 0.32 < accuracy < 0.68  # four standard deviations of a coin thrown 120 times
    assert not result.verdict.beats


def test_rows_of_one_picture_or_group_stay_together(resnet: str, photos: Photos, tmp_path: Path) -> None:
    groups = [str(i % 6) for i in range(ROWS)]
    table = photos.with_targets(NUMBERS, groups)
    result = train(resnet, photos, tmp_path, table, epochs=1)
    together = {(int(row["row"] - 100) % 6, row["fold"]) for row in result.predictions.to_pylist()}
    assert len(together) == 6
    names = table.drop_columns("group")
    ids = [f"{i // 5:032x}" for i in range(ROWS)]
    split = split_rows(
        names.set_column(1, "id", pa.array(ids)), kind="regression", columns=("row", "id"), classes=(), folds=3,
        chosen_folds=None, seed=1,
    )  # fmt: skip
    assert len({(i // 5, fold) for i, fold in enumerate(split.folds.tolist())}) == 12
    assert split.groups.tolist() == [i // 5 for i in range(ROWS)]


def task(
    model: str, photos: Photos, *, max_bytes: int = 10**9, window: int = 1000, scratch: bool = True, **changes: Any
) -> ImageTask:
    table = changes.pop("table", photos.with_targets(NAMES))
    backbone = find_image_model(model, scratch=scratch, **changes.pop("size", {}))
    kind = changes.pop("kind", "classification")
    split = split_rows(
        table, kind=kind, columns=(), classes=(), folds=3, chosen_folds=None, seed=changes.pop("deal", 42)
    )
    part, position = (table[name].to_numpy() for name in ("part", "position"))
    size = {"height": backbone.height, "width": backbone.width}
    pictures = Pictures(photos.parts, part, position, table["id"], max_bytes=max_bytes, window=window, **size)  # type: ignore[arg-type]
    options = {"ids": "ids", "batch_size": 8, "augmentation": Augmentation(), "seed": 42} | changes
    return ImageFolds(backbone=backbone, split=split, pictures=pictures, **options)(0)  # type: ignore[arg-type]


RECIPE = Recipe(epochs=4, learning_rate=1e-2, warmup_fraction=0.1)


def run(out: Path, one: ImageTask, folder: Callable[..., FoldFolder] = FoldFolder) -> FoldResult:
    where = folder(str(out), 0, "0123456789abcdef")
    fit(one, recipe=RECIPE, folder=where, device="cpu")
    return where.result()


def assert_equal(a: FoldResult, b: FoldResult) -> None:
    assert a.best_epoch == b.best_epoch
    np.testing.assert_array_equal(a.outputs, b.outputs)
    one, other = (load_image_model(result.model).state_dict() for result in (a, b))
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
    for row, again in zip(a.history, b.history, strict=True):
        assert {k: v for k, v in row.items() if k != "seconds"} == {k: v for k, v in again.items() if k != "seconds"}


def test_stopped_after_every_epoch_it_comes_to_the_same(resnet: str, photos: Photos, tmp_path: Path) -> None:
    """To the bit: averages of batch norm, moments of channels-last convolutions and draws of pictures included."""

    class OneEpoch(FoldFolder):
        def commit(self, epoch, facts, write):  # type: ignore[no-untyped-def]
            super().commit(epoch, facts, write)
            raise KeyboardInterrupt

    whole = run(tmp_path / "whole", task(resnet, photos))
    for _ in range(RECIPE.epochs):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped", task(resnet, photos), OneEpoch)
    assert_equal(run(tmp_path / "stopped", task(resnet, photos)), whole)


def test_how_much_is_kept_in_memory_changes_nothing(resnet: str, photos: Photos, tmp_path: Path) -> None:
    """Also where the rows are read part by part, each epoch anew."""
    plain = run(tmp_path / "plain", task(resnet, photos, window=16))
    assert_equal(run(tmp_path / "tight", task(resnet, photos, window=16, max_bytes=0)), plain)


def test_pictures_are_drawn_anew_in_each_epoch_and_only_for_training(resnet: str, photos: Photos) -> None:
    one = task(resnet, photos)
    plan = one.train_plan(0)
    first, again = (one.train_batches(0, plan)(plan[0]) for _ in range(2))
    assert set(first) == {"pixels", "target", "drawn"}
    assert all(torch.equal(first[name], again[name]) for name in first)
    second = one.train_batches(1, plan)(plan[0])
    assert torch.equal(first["pixels"], second["pixels"])
    assert not torch.equal(first["drawn"], second["drawn"])
    other_batch = one.train_batches(0, plan)(plan[0][::-1])
    assert torch.equal(other_batch["drawn"], first["drawn"].flip(0))
    assert set(one.valid_batches(one.valid_plan())(np.arange(3))) == {"pixels"}
    still = task(resnet, photos, augmentation=None)
    assert set(still.train_batches(0, plan)(plan[0])) == {"pixels", "target"}
    model = one.build_model().eval()
    with torch.no_grad():
        losses = [one.losses(model, batch) for batch in (first, again, second)]
    assert torch.equal(losses[0], losses[1])
    assert not torch.allclose(losses[0], losses[2])


def test_the_loss_does_not_depend_on_the_targets_unit(resnet: str, photos: Photos) -> None:
    losses = []
    for unit in (1, 1000):
        table = photos.with_targets([number / unit for number in NUMBERS])
        one = task(resnet, photos, table=table, kind="regression")
        torch.manual_seed(0)
        losses.append(one.losses(one.build_model().eval(), one.train_batches(0, [])(np.arange(16))).detach())
    torch.testing.assert_close(losses[0], losses[1], atol=1e-4, rtol=1e-4)
    assert 0.5 < float(losses[0].mean()) < 2  # an untrained model is about as wrong as the mean


def test_whatever_changes_the_result_changes_the_identity(resnet: str, photos: Photos, tmp_path: Path) -> None:
    first = task(resnet, photos).identity
    assert task(resnet, photos).identity == first
    assert task(resnet, photos, max_bytes=0).identity == first
    moved = photos.with_targets(NAMES)
    moved = moved.set_column(moved.schema.get_field_index("part"), "part", pa.array([0] * ROWS))
    assert task(resnet, photos, table=moved).identity == first  # so few rows are shuffled wherever they are stored
    changed = [
        task(resnet, photos, batch_size=9),
        task(resnet, photos, augmentation=None),
        task(resnet, photos, augmentation=Augmentation(hue=0.1)),
        task(resnet, photos, scratch=False),
        task(resnet, photos, size={"height": 40}),
        task(resnet, photos, seed=1),
        task(resnet, photos, deal=1),
        task(resnet, photos, ids="others"),
        task(resnet, photos, window=16),
        task(resnet, photos, window=16, table=moved),
        task(resnet, photos, table=photos.with_targets(["昼", *NAMES[1:59], "昼"])),
        task(save_model(tmp_path / "other", "resnet", size=48), photos),
    ]
    assert len({first, *(one.identity for one in changed)}) == 13


def test_what_cannot_be_trained_is_said_before_training(resnet: str, photos: Photos, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="the table has no column 'part'"):
        train(resnet, photos, out, photos.with_targets(NUMBERS).drop_columns("part"))
    with pytest.raises(ValueError, match="'group' has 1 nulls of 60"):
        train(resnet, photos, out, photos.with_targets(NUMBERS, [None, *map(str, range(59))]))  # type: ignore[list-item]
    with pytest.raises(ValueError, match="kind is 'ranking'"):
        train(resnet, photos, out, photos.with_targets(NUMBERS), "ranking")
    with pytest.raises(Fatal, match="cannot load the image model 'nobody/nothing'"):
        train("nobody/nothing", photos, out, photos.with_targets(NUMBERS))
    vit = save_model(tmp_path / "vit", "vit")
    with pytest.raises(Fatal, match="vit model does not take pictures of 4 x 4 pixels"):
        train(vit, photos, out, photos.with_targets(NUMBERS), height=4, width=4, scratch=False)
    assert not out.exists()


@pytest.mark.ray
def test_ray_and_this_process_train_the_same_models(
    ray_cluster: None, resnet: str, photos: Photos, tmp_path: Path
) -> None:
    """There without memory for the pictures: every worker reads the parts, and so do tasks for the baseline."""
    options = {"epochs": 2, "chosen_folds": [0, 2]}
    here = train(resnet, photos, tmp_path / "here", photos.with_targets(NUMBERS), **options)
    options |= {"launcher": "task", "cpus_per_worker": 1, "gpus_per_worker": 0, "max_bytes": 0}
    there = train(resnet, photos, tmp_path / "there", photos.with_targets(NUMBERS), **options)
    np.testing.assert_allclose(outputs_of(here), outputs_of(there), atol=1e-2)  # of targets near 1000
    values = [
        [row["value"] for row in result.scores.to_pylist() if row["model"] == "ridge_colours"]
        for result in (here, there)
    ]
    assert values[0] == values[1]


@pytest.mark.ray
def test_two_workers_share_a_fold(ray_cluster: None, resnet: str, photos: Photos, tmp_path: Path) -> None:
    """Each normalises its own half of a batch, so the result differs a little; the outputs are those of one model."""
    result = train(
        resnet,
        photos,
        tmp_path,
        photos.with_targets(NUMBERS),
        chosen_folds=[1],
        workers=2,
        launcher="auto",
        cpus_per_worker=1,
        gpus_per_worker=0,
        epochs=3,
    )
    model = load_image_model(result.models[1])
    inside = [row["row"] - 100 for row in result.predictions.to_pylist()]
    with torch.inference_mode():
        said = model(model.normalise(model.pixels([photos.images[number] for number in inside])))
    np.testing.assert_allclose(said.numpy(), outputs_of(result), atol=1e-2)
