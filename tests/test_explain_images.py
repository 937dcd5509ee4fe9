"""The stages over real models of random weights, against the maps and areas of each image alone."""

import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from PIL import Image

from seewhy import schema, sections
from seewhy.cam import METHODS, activation_maps
from seewhy.cam_layers import find_layer
from seewhy.explain_images import CheckMaps, ExplainImages, overlay_jpeg
from seewhy.failure import Fatal
from seewhy.faithfulness import areas, drawn_anew, rank_correlations
from seewhy.heat import heat_of, random_heat
from seewhy.images import decode
from seewhy.overlay import overlay
from seewhy.steps import explain_images as step
from seewhy.steps import train_image, training
from seewhy.steps.photos import Photos
from seewhy.train.image_model import ImageModel, head_weights
from tests.cam_models import network, photo_model


def photo(seed: int, *, width: int = 120, height: int = 90, form: str = "JPEG", grain: int = 8) -> bytes:
    blocks = np.random.default_rng(seed).integers(0, 256, (grain, grain, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC).save(out, form)
    return out.getvalue()


def head_of(model: ImageModel) -> torch.nn.Parameter:
    (weight,) = (name for name in head_weights(model.network.config) if name.endswith("weight"))
    return model.network.get_parameter(weight)


class Shelf:
    """Three folds' models by folder name, and which were asked for."""

    def __init__(self, *, classes: int = 3, model_type: str = "resnet") -> None:
        count = max(1, classes)
        made = [network(model_type, classes=count, seed=seed) for seed in range(3)]
        self.models = {f"fold-{i}": photo_model(one, classes=classes) for i, one in enumerate(made)}
        for model in self.models.values():
            head_of(model).data /= 30  # no probability is 0 or 1
        self.asked: list[str] = []

    def load(self, folder: str) -> ImageModel:
        self.asked.append(folder)
        return self.models[folder]

    def settings(self, **settings):
        return {"models": list(self.models), "load": self.load, "device": "cpu", **settings}

    def pixels(self, fold: int, data: bytes) -> torch.Tensor:
        model = self.models[f"fold-{fold}"]
        return model.normalise(model.pixels([decode(data)]))


def batch(images, folds, **columns) -> pa.Table:
    return pa.table(
        {
            "id": [f"{i:032x}" for i in range(len(images))],
            "image": pa.array(images, pa.binary()),
            "fold": pa.array(folds, pa.int32()),
            **columns,
        }
    )


def raw(row) -> np.ndarray:
    return heat_of(row["map"], row["height"], row["width"]) * row["scale"]


def test_each_row_is_explained_by_its_own_folds_model_in_the_order_of_the_rows():
    shelf = Shelf()
    images = [
        photo(0),
        photo(1, form="PNG"),
        b"no image",
        photo(0),
        None,
        photo(2, width=40, height=300),
        photo(3)[:700],
    ]
    folds = [2, 0, 1, 0, 1, 2, 0]
    table = ExplainImages(**shelf.settings(batch_size=2))(batch(images, folds))
    assert table.schema == schema.MAPS
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == [f"{i:032x}" for i in range(7)]
    assert [row["fold"] for row in rows] == folds
    reasons = {2: "not_an_image", 4: "no_image", 6: "truncated"}
    for i, (row, image, fold) in enumerate(zip(rows, images, folds, strict=True)):
        if i in reasons:
            assert (row["error_kind"], row["reason"], row["map"], row["outputs"]) == (
                "bad_input",
                reasons[i],
                None,
                None,
            )
            assert row["detail"]
            continue
        model = shelf.models[f"fold-{fold}"]
        alone = activation_maps(model, shelf.pixels(fold, image), layer=find_layer(model.network))
        assert (row["error_kind"], row["reason"], row["detail"]) == (None, None, None)
        assert (row["height"], row["width"]) == (2, 3)
        np.testing.assert_allclose(row["outputs"], alone.outputs[0].softmax(0), rtol=1e-4)
        assert row["explained"] == int(np.argmax(row["outputs"]))
        assert row["scale"] == pytest.approx(alone.maps.max().item(), rel=1e-4)
        np.testing.assert_allclose(raw(row), alone.maps[0], atol=row["scale"] / 500)
    assert rows[0]["map"] != rows[3]["map"]  # the same picture, another fold


@pytest.mark.parametrize("method", METHODS)
def test_method_and_layer_are_the_users(method):
    shelf = Shelf()
    stage = ExplainImages(**shelf.settings(method=method, layer="resnet.encoder.stages.1"))
    (row,) = stage(batch([photo(1)], [1])).to_pylist()
    model = shelf.models["fold-1"]
    layer = find_layer(model.network, "resnet.encoder.stages.1")
    alone = activation_maps(model, shelf.pixels(1, photo(1)), layer=layer, method=method)
    assert (row["height"], row["width"]) == (8, 12)
    np.testing.assert_allclose(raw(row), alone.maps[0], atol=row["scale"] / 500)


def test_the_true_class_or_a_named_one_is_explained_when_asked():
    shelf = Shelf()
    images, targets = [photo(i) for i in range(4)], pa.array([2, 0, None, 1], pa.int32())
    true = ExplainImages(**shelf.settings(target="true"))(batch(images, [0] * 4, target=targets)).to_pylist()
    assert [row["explained"] for row in true] == [2, 0, None, 1]
    assert (true[2]["error_kind"], true[2]["reason"], true[2]["fold"]) == ("bad_input", "no_target", 0)
    named = ExplainImages(**shelf.settings(target="class 1"))(batch(images, [0] * 4, target=targets)).to_pylist()
    assert [row["explained"] for row in named] == [1] * 4
    model = shelf.models["fold-0"]
    alone = activation_maps(model, shelf.pixels(0, images[0]), layer=find_layer(model.network), explain=[1])
    np.testing.assert_allclose(raw(named[0]), alone.maps[0], atol=named[0]["scale"] / 500)
    assert named[3]["map"] == true[3]["map"]
    predicted = ExplainImages(**shelf.settings())(batch(images, [0] * 4, target=targets)).to_pylist()
    assert [row["explained"] for row in predicted] == [int(np.argmax(row["outputs"])) for row in predicted]
    with pytest.raises(Fatal, match="no class 'class 9' to explain; the model has class 0, class 1, class 2"):
        ExplainImages(**shelf.settings(target="class 9"))(batch(images, [0] * 4))


def delivered(monkeypatch, targets: list[float], classes: tuple[str, ...]) -> pa.Table:
    """The keys that the step makes of held-out predictions; the images' order is not that of the predictions."""
    count = len(targets)
    rows = [
        {"row": i, "id": f"{i:032x}", "fold": i % 2, "target": target, "outputs": [0.5]}
        for i, target in enumerate(targets)
    ]
    held_out = pa.Table.from_pylist(rows[::-1], schema=schema.PREDICTIONS)
    monkeypatch.setattr(training, "read_table", lambda where, name: held_out)
    monkeypatch.setattr(train_image, "folder", lambda study, photos: "nowhere")
    places = {"part": pa.array([0] * (count + 1), pa.int32()), "position": pa.array(range(count + 1), pa.int32())}
    examples = pa.table({"id": [f"{i:032x}" for i in range(count + 1)], **places})  # the last was not trained on
    photos = Photos(examples, ("part",), "classification" if classes else "regression", classes, [])
    study = SimpleNamespace(explain_images=sections.ExplainImages(explain="true"))
    return step.source(study, photos).keys


def test_the_true_class_is_explained_as_the_step_delivers_it(monkeypatch):
    shelf = Shelf()
    keys = delivered(monkeypatch, [2.0, 0.0, 1.0], ("class 0", "class 1", "class 2"))
    assert keys["target"].type == pa.int32()
    assert dict(zip(keys["id"].to_pylist(), keys["target"].to_pylist(), strict=True)) == {
        f"{i:032x}": target for i, target in enumerate([2, 0, 1])
    }
    given = batch([photo(i) for i in range(3)], keys["fold"], target=keys["target"])
    found = ExplainImages(**shelf.settings(target="true"))(given).to_pylist()
    assert [(row["fold"], row["explained"]) for row in found] == [(0, 2), (1, 0), (0, 1)]


def test_numbers_stay_as_they_are_on_their_way_to_the_stage(monkeypatch):
    keys = delivered(monkeypatch, [2.5, -1e12], ())
    assert keys["target"].to_pylist() == [2.5, -1e12]
    given = batch([photo(0), photo(1)], keys["fold"], target=keys["target"])
    found = ExplainImages(**Shelf(classes=0).settings(target="true"))(given).to_pylist()
    assert [row["explained"] for row in found] == [0, 0]


@pytest.mark.parametrize("written", ["explain: true", 'explain: "true"', "{explain: True}"])
def test_true_needs_no_quotes(written):
    assert sections.ExplainImages(**yaml.safe_load(written)).explain == "true"


def test_what_is_neither_a_text_nor_true_is_no_class():
    for wrong in (False, 3, None):
        with pytest.raises(ValueError, match="valid string"):
            sections.ExplainImages(explain=wrong)


def test_a_class_of_any_name_can_be_explained():
    shelf = Shelf()
    model = shelf.models["fold-0"]
    model.facts = replace(model.facts, classes=("predicted", "true", "class:true"))
    for target, explained in (("class:predicted", 0), ("class:true", 1), ("class:class:true", 2)):
        (row,) = ExplainImages(**shelf.settings(target=target))(batch([photo(0)], [0])).to_pylist()
        assert (row["explained"], row["error_kind"]) == (explained, None)
    (row,) = ExplainImages(**shelf.settings(target="true"))(batch([photo(0)], [0])).to_pylist()
    assert row["reason"] == "no_target"  # the row's class is asked for
    with pytest.raises(Fatal, match="no class 'rain' to explain; the model has predicted, true, class:true"):
        ExplainImages(**shelf.settings(target="class:rain"))(batch([photo(0)], [0]))


@pytest.mark.parametrize(
    ("model_type", "layer", "why"),
    [
        ("swin", "swin.encoder.layers.0.blocks.0.attention", r"gives \d+ rows for 2 images"),
        ("resnet", "resnet.pooler", "gives one place for an image of 64 x 96"),
    ],
)
def test_a_layer_that_is_not_of_the_images_stops_the_job(model_type, layer, why):
    shelf = Shelf(model_type=model_type)
    with pytest.raises(Fatal, match=f"'{layer}' {why}"):
        ExplainImages(**shelf.settings(layer=layer))(batch([photo(0), photo(1)], [0, 0]))


@pytest.mark.parametrize("target", ["predicted", "true", "whatever", "class:whatever"])
def test_a_number_has_one_output_which_is_not_made_a_probability(target):
    shelf = Shelf(classes=0)
    (row,) = ExplainImages(**shelf.settings(target=target))(batch([photo(5)], [1])).to_pylist()
    model = shelf.models["fold-1"]
    expected = model(shelf.pixels(1, photo(5)))[0]
    np.testing.assert_allclose(row["outputs"], expected.detach(), rtol=1e-4)
    assert (row["explained"], len(row["outputs"])) == (0, 1)


def test_an_overlay_is_drawn_from_a_rows_map_over_the_upright_photo():
    cells = bytes([0, 50, 255, 100, 20, 0])
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    turned = io.BytesIO()
    Image.open(io.BytesIO(photo(4))).transpose(Image.Transpose.ROTATE_90).save(turned, "JPEG", exif=exif, quality=95)
    found = decode(overlay_jpeg(turned.getvalue(), cells, 2, 3, size_px=60))
    small = Image.open(io.BytesIO(photo(4))).resize((60, 45), Image.Resampling.LANCZOS)
    expected = overlay(np.asarray(small), heat_of(cells, 2, 3))
    assert found.shape == (45, 60, 3)
    assert np.abs(found.astype(int) - expected).mean() < 5


def test_where_nothing_speaks_for_the_output_the_map_is_empty_and_the_row_is_ok():
    shelf = Shelf(classes=0)
    for model in shelf.models.values():
        head_of(model).data.fill_(-1)
    (row,) = ExplainImages(**shelf.settings())(batch([photo(5)], [1])).to_pylist()
    assert (row["error_kind"], row["map"], row["scale"]) == (None, bytes(6), 0)


def test_a_model_that_answers_no_number_is_a_failed_row_beside_good_ones():
    shelf = Shelf()

    class Broken(ImageModel):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return super().forward(pixels).masked_fill(pixels.mean(dim=(1, 2, 3))[:, None] < -1.7, float("nan"))

    shelf.models["fold-0"] = photo_model(shelf.models["fold-0"].network, classes=3, kind=Broken)
    out = io.BytesIO()
    Image.new("RGB", (50, 50)).save(out, "PNG")
    bad, good = ExplainImages(**shelf.settings())(batch([out.getvalue(), photo(1)], [0, 0])).to_pylist()
    assert (bad["error_kind"], bad["reason"], bad["map"]) == ("bad_input", "not_finite", None)
    assert good["error_kind"] is None


def test_models_load_when_first_needed_and_no_more_are_kept_than_asked():
    shelf = Shelf()
    stage = ExplainImages(**shelf.settings(models_in_memory=2))
    assert shelf.asked == []
    image = photo(0)
    stage(batch([image] * 2, [1, 0]))
    stage(batch([image] * 2, [1, 0]))
    assert shelf.asked == ["fold-0", "fold-1"]
    stage(batch([image] * 2, [2, 1]))  # fold 1 is at hand and goes first; fold 2 pushes fold 0 out
    assert shelf.asked == ["fold-0", "fold-1", "fold-2"]
    stage(batch([image] * 2, [0, 1]))
    assert shelf.asked == ["fold-0", "fold-1", "fold-2", "fold-0"]
    stage(batch([image], [1]))  # used after fold 2, which had to go
    assert shelf.asked == ["fold-0", "fold-1", "fold-2", "fold-0"]


@pytest.mark.parametrize("stage", [ExplainImages, CheckMaps])
def test_a_row_of_no_known_fold_stops_the_job(stage):
    shelf = Shelf()
    maps = {"map": [bytes(6)], "height": [2], "width": [3], "explained": [0]}
    for fold in (3, -1, None, 1):
        with pytest.raises(Fatal, match=rf"fold {fold}: there are models for folds \[0, 2\]"):
            stage(**shelf.settings(models=["fold-0", "", "fold-2"]))(batch([photo(0)], [fold], **maps))
    assert shelf.asked == []


@pytest.mark.parametrize("stage", [ExplainImages, CheckMaps])
def test_settings_out_of_range_are_named(stage):
    with pytest.raises(ValueError, match=r"models=\[\]"):
        stage(models=[])
    with pytest.raises(ValueError, match="method='cam': gradcam"):
        stage(models=["a"], method="cam")
    for name in ("models_in_memory", "batch_size", "decode_threads"):
        with pytest.raises(ValueError, match=f"{name}=0"):
            stage(models=["a"], **{name: 0})
    if stage is CheckMaps:
        for name in ("steps", "random_maps", "head_draws"):
            with pytest.raises(ValueError, match=f"{name}=0"):
                stage(models=["a"], **{name: 0})


def test_an_architecture_that_is_not_known_stops_the_job_and_says_how_to_go_on():
    shelf = Shelf()
    shelf.models["fold-0"].network.config.model_type = "new"
    with pytest.raises(Fatal, match="models of type 'new': set layer"):
        ExplainImages(**shelf.settings())(batch([photo(0)], [0]))


@pytest.mark.parametrize("stage", [ExplainImages, CheckMaps])
def test_an_empty_batch_gives_an_empty_table(stage):
    maps = {name: pa.array([], kind) for name, kind in (("map", pa.binary()), ("height", pa.int32()))}
    maps |= {name: pa.array([], pa.int32()) for name in ("width", "explained")}
    found = stage(**Shelf().settings())(batch([], [], **maps))
    assert found.num_rows == 0
    assert found.schema == (schema.MAPS if stage is ExplainImages else schema.FAITHFULNESS)


@pytest.mark.parametrize(("model_type", "size"), [("vit", (48, 80)), ("convnext", (64, 96)), ("swin", (56, 72))])
def test_saved_models_are_read_from_their_folders(tmp_path, model_type, size):
    model = photo_model(network(model_type, seed=3), classes=3, height=size[0], width=size[1])
    model.save_pretrained(tmp_path / "fold-1")
    stage = ExplainImages(models=["", str(tmp_path / "fold-1")], device="cpu")
    (row,) = stage(batch([photo(7)], [1])).to_pylist()
    pixels = model.normalise(model.pixels([decode(photo(7))]))
    alone = activation_maps(model, pixels, layer=find_layer(model.network))
    assert (row["height"], row["width"]) == {"vit": (6, 10), "convnext": (2, 3), "swin": (4, 5)}[model_type]
    np.testing.assert_allclose(raw(row), alone.maps[0], atol=row["scale"] / 500)
    np.testing.assert_allclose(row["outputs"], alone.outputs[0].softmax(0), rtol=1e-4)


# checks


def maps_of(shelf: Shelf, images, folds, **settings) -> pa.Table:
    maps = ExplainImages(**shelf.settings(**settings))(batch(images, folds))
    given = {name: maps.column(name) for name in ("map", "height", "width", "explained")}
    return batch(images, folds, **given)


@pytest.mark.parametrize(("classes", "model_type"), [(3, "mobilenet_v2"), (0, "resnet")])
def test_checks_are_those_of_each_map_against_random_ones_and_drawn_heads(classes, model_type):
    shelf = Shelf(classes=classes, model_type=model_type)
    layer = f"{model_type}.encoder.stages.1" if model_type == "resnet" else "mobilenet_v2.layer.4"
    images, folds = [photo(i) for i in range(3)], [1, 0, 1]
    given = maps_of(shelf, images, folds, layer=layer)
    settings = {"layer": layer, "steps": 3, "random_maps": 2, "head_draws": 2}
    table = CheckMaps(**shelf.settings(**settings, batch_size=4))(given)
    assert table.schema == schema.FAITHFULNESS
    for row, asked in zip(table.to_pylist(), given.to_pylist(), strict=True):
        model = shelf.models[f"fold-{asked['fold']}"]
        pixels = shelf.pixels(asked["fold"], asked["image"])
        heat = heat_of(asked["map"], asked["height"], asked["width"])
        heats = np.stack([heat, *(random_heat(heat, f"{asked['id']} {number}") for number in range(2))])

        def score(some: torch.Tensor, model: ImageModel = model) -> torch.Tensor:
            return model(some).softmax(dim=1) if classes else model(some)

        expected = areas(score, pixels[0], heats, asked["explained"], steps=3)
        assert row["deletion"] == pytest.approx(expected.deletion[0], rel=1e-4)
        assert row["insertion"] == pytest.approx(expected.insertion[0], rel=1e-4)
        assert row["deletion_random"] == pytest.approx(expected.deletion[1:].mean(), rel=1e-4)
        assert row["insertion_random"] == pytest.approx(expected.insertion[1:].mean(), rel=1e-4)
        assert row["deletion"] != row["deletion_random"]
        found = []
        for seed in range(2):
            with drawn_anew([head_of(model)], seed):
                drawn = activation_maps(
                    model, pixels, layer=find_layer(model.network, layer), explain=[asked["explained"]]
                )
            found.append(rank_correlations(heat[None], drawn.maps.numpy())[0])
        known = [one for one in found if np.isfinite(one)]
        assert row["randomised"] == (pytest.approx(np.mean(known), abs=1e-3) if known else None)
        assert row["error_kind"] is None


def test_the_heads_are_as_they_were_after_a_check():
    shelf = Shelf()
    before = {name: value.clone() for name, value in shelf.models["fold-0"].state_dict().items()}
    given = maps_of(shelf, [photo(0)], [0])
    CheckMaps(**shelf.settings(steps=2, random_maps=1))(given)
    assert all(torch.equal(value, before[name]) for name, value in shelf.models["fold-0"].state_dict().items())


def test_a_map_of_the_one_corner_that_the_model_sees_beats_random_maps():
    class Corner(ImageModel):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            seen = torch.zeros_like(pixels)
            seen[:, :, 16:32, 16:32] = pixels[:, :, 16:32, 16:32]
            return super().forward(seen)

    inner = network("resnet")
    model = photo_model(inner, classes=3, height=64, width=64, kind=Corner)
    head_of(model).data /= 30
    images = [photo(i, width=64, height=64, form="PNG", grain=32) for i in range(8)]
    cells = np.zeros((4, 4), np.uint8)
    cells[1, 1] = 255
    given = batch(
        images,
        [0] * 8,
        map=[cells.tobytes()] * 8,
        height=[4] * 8,
        width=[4] * 8,
        explained=[int(model(model.normalise(model.pixels([decode(image)]))).argmax()) for image in images],
    )
    settings = {"layer": "resnet.encoder.stages.2", "random_maps": 4}
    rows = CheckMaps(models=["corner"], load=lambda _: model, device="cpu", **settings)(given).to_pylist()
    assert np.mean([row["deletion"] - row["deletion_random"] for row in rows]) < -0.03
    assert np.mean([row["insertion"] - row["insertion_random"] for row in rows]) > 0.015


def test_rows_without_a_map_or_an_image_fail_and_a_flat_map_has_no_figures():
    shelf = Shelf()
    given = batch(
        [photo(0), b"no image", photo(1), None, photo(2)],
        [0, 0, 1, 2, 1],
        map=[None, bytes(6), bytes(6), bytes([1] * 6), bytes([0, 1, 2, 3, 4, 255])],
        height=[None, 2, 2, 2, 2],
        width=[None, 3, 3, 3, 3],
        explained=[None, 0, 0, 0, 0],
    )
    rows = CheckMaps(**shelf.settings(steps=2, random_maps=1, head_draws=1))(given).to_pylist()
    assert [row["reason"] for row in rows] == ["no_map", "not_an_image", None, "no_image", None]
    assert [row["error_kind"] for row in rows] == ["bad_input", "bad_input", None, "bad_input", None]
    assert "no pixel is the hottest" in rows[2]["detail"]
    assert [rows[2][name] for name in ("deletion", "insertion", "deletion_random", "randomised")] == [None] * 4
    assert all(rows[4][name] is not None for name in ("deletion", "insertion", "deletion_random", "insertion_random"))


def test_maps_of_another_layer_are_refused():
    shelf = Shelf()
    given = maps_of(shelf, [photo(0)], [0])
    with pytest.raises(Fatal, match=r"not of layer 'resnet\.encoder\.stages\.1': it gives \(8, 12\)"):
        CheckMaps(**shelf.settings(layer="resnet.encoder.stages.1"))(given)
