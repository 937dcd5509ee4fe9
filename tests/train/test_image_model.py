"""Image models of each family: a new head on old weights, pictures of any size, files that transformers can read."""

import json
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, AutoModelForImageClassification

from seewhy.failure import Fatal
from seewhy.train.image_model import ImageModel, find_image_model, load_image_model
from seewhy.train.pretrained import quiet
from tests.refusing_hub import refusing_hub
from tests.train.image_models import FAMILIES, noisy, save_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAMES = ("雨", "晴れ", "曇り")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {family: save_model(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


def model(folder: str, classes: tuple[str, ...] = NAMES, seed: int = 0, **options: object) -> ImageModel:
    backbone = find_image_model(folder, **options)  # type: ignore[arg-type]
    torch.manual_seed(seed)
    return ImageModel(
        backbone.network(classes),
        backbone.facts(classes, 50.0, 10.0) if not classes else backbone.facts(classes, 0.0, 1.0),
    ).eval()


def said(found: ImageModel, images: list[np.ndarray]) -> torch.Tensor:
    with torch.inference_mode():
        return found(found.normalise(found.pixels(images)))


IMAGES = [noisy((200, 60 * i, 90), i) for i in range(4)]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_is_new_and_all_else_is_as_it_was(folders: dict[str, str], family: str) -> None:
    """Also where the old head has as many outputs as the new one: it stood for other classes."""
    with quiet():
        before = AutoModelForImageClassification.from_pretrained(folders[family]).state_dict()
    for classes in (NAMES, ("a", "b"), ()):
        after = model(folders[family], classes).network.state_dict()
        changed = {name for name, value in before.items() if not torch.equal(value, after.get(name, torch.empty(0)))}
        assert changed
        assert all("classifier" in name for name in changed)
        width = max(1, len(classes))
        weight, bias = (after[next(name for name in changed if name.endswith(end))] for end in ("weight", "bias"))
        assert weight.shape[0] == width
        assert (bias == 0).all()
        assert 0.005 < float(weight.std()) < 0.05
        again = model(folders[family], classes, seed=1).network.state_dict()
        assert all(not torch.equal(after[name], again[name]) for name in changed if after[name].ndim > 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_is_transformers_own(folders: dict[str, str], tmp_path: Path, family: str) -> None:
    ours = model(folders[family])
    ours.save_pretrained(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    outputs = said(ours, IMAGES)
    assert float(outputs.std()) > 1e-4
    torch.testing.assert_close(said(load_image_model(str(tmp_path)), IMAGES), outputs, atol=0, rtol=0)
    with quiet():
        plain = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
        processor = AutoImageProcessor.from_pretrained(tmp_path)
    with torch.inference_mode():
        logits = plain(ours.normalise(ours.pixels(IMAGES))).logits
    torch.testing.assert_close(logits, outputs, atol=0, rtol=0)
    assert plain.config.id2label == dict(enumerate(NAMES))
    resized = processor(ours.pixels(IMAGES), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(resized, ours.normalise(ours.pixels(IMAGES)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scratch", [False, True])
def test_pictures_that_are_not_square(folders: dict[str, str], tmp_path: Path, family: str, scratch: bool) -> None:
    found = model(folders[family], height=48, width=64, scratch=scratch)
    assert found.pixels(IMAGES).shape == (4, 3, 48, 64)
    outputs = said(found, IMAGES)
    assert outputs.shape == (4, 3)
    found.save_pretrained(tmp_path)
    again = load_image_model(str(tmp_path))
    assert (again.facts.height, again.facts.width) == (48, 64)
    torch.testing.assert_close(said(again, IMAGES), outputs, atol=0, rtol=0)
    told = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert told["size"] == {"height": 48, "width": 64}


def test_a_size_that_the_model_cannot_take_is_said_in_words(tmp_path: Path) -> None:
    folder = Path(save_model(tmp_path / "vit", "vit"))
    with pytest.raises(Fatal, match="vit model does not take pictures of 4 x 4 pixels"):
        find_image_model(str(folder), height=4, width=4).network(NAMES)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"model_type": "pp_lcnet"}, "the pp_lcnet model answers without logits"),
        (
            {"model_type": "pvt", "depths": [1] * 4, "num_labels": 7},
            r"the pvt model answers \(1, 7\) for one picture and 3 outputs",
        ),
    ],
)
def test_a_model_that_does_not_answer_as_a_classifier_is_refused(
    tmp_path: Path, told: dict[str, object], why: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(told))
    backbone = find_image_model(str(tmp_path), scratch=True)
    with pytest.raises(Fatal, match=why):
        backbone.network(NAMES)


def test_numbers_are_in_their_own_unit(folders: dict[str, str], tmp_path: Path) -> None:
    found = model(folders["resnet"], ())
    assert found.facts.classes == ()
    pixels = found.normalise(found.pixels(IMAGES))
    with torch.inference_mode():
        outputs, logits = found(pixels), found.network(pixels).logits
    assert outputs.shape == (4, 1)
    torch.testing.assert_close(outputs, logits * 10 + 50)
    found.save_pretrained(tmp_path)
    torch.testing.assert_close(said(load_image_model(str(tmp_path)), IMAGES), outputs, atol=0, rtol=0)


def test_pixels_and_their_scale(folders: dict[str, str]) -> None:
    found = model(folders["resnet"])
    plain = np.full((10, 20, 3), [51, 102, 255], dtype=np.uint8)
    pixels = found.pixels([plain, plain])
    assert pixels.dtype == torch.uint8
    assert pixels[1, :, 5, 7].tolist() == [51, 102, 255]
    # (0.2 - 0.4) / 0.2, (0.4 - 0.5) / 0.25, (1 - 0.6) / 0.3
    assert found.normalise(pixels)[0, :, 3, 3].tolist() == pytest.approx([-1.0, -0.4, 4 / 3], abs=1e-6)


@pytest.mark.parametrize("family", ["resnet", "vit"])
def test_a_neighbour_in_the_batch_changes_nothing(folders: dict[str, str], family: str) -> None:
    found = model(folders[family])
    together = said(found, IMAGES)
    alone = torch.cat([said(found, [image]) for image in IMAGES])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert float((together[0] - together[1]).abs().max()) > 1e-3


CROP = {"size": {"shortest_edge": 256}, "crop_size": {"height": 20, "width": 30}}
SIZE = {"size": {"height": 24, "width": 36}}


@pytest.mark.parametrize(
    ("settings", "size", "mean", "std"),
    [
        ({**CROP, "do_center_crop": True}, (20, 30), 0.4, 0.2),
        ({**CROP, "do_center_crop": False}, (256, 256), 0.4, 0.2),
        (SIZE, (24, 36), 0.4, 0.2),
        ({**SIZE, "do_normalize": False}, (24, 36), 0.0, 1.0),
        # x / 127.5 - 0.4 over 0.2 is (x / 255 - 0.2) / 0.1
        ({**SIZE, "rescale_factor": 1 / 127.5}, (24, 36), 0.2, 0.1),
        ({**SIZE, "do_rescale": False, "image_mean": [102.0] * 3, "image_std": [51.0] * 3}, (24, 36), 0.4, 0.2),
    ],
)
def test_what_the_processor_says(
    folders: dict[str, str], tmp_path: Path, settings: dict[str, object], size: tuple[int, int], mean: float, std: float
) -> None:
    folder = shutil.copytree(folders["mobilenet_v1"], tmp_path / "model")
    base = {"image_processor_type": "MobileNetV1ImageProcessor", "image_mean": [0.4] * 3, "image_std": [0.2] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps({**base, "do_center_crop": False, **settings}))
    found = find_image_model(str(folder))
    assert (found.height, found.width) == size
    assert found.image_mean == pytest.approx((mean,) * 3)
    assert found.image_std == pytest.approx((std,) * 3)


def test_without_a_processor_the_configuration_says_the_size(folders: dict[str, str], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["vit"], tmp_path / "model")
    (folder / "preprocessor_config.json").unlink()
    found = find_image_model(str(folder))
    assert (found.height, found.width) == (32, 32)
    assert found.image_mean == pytest.approx((0.485, 0.456, 0.406))  # ImageNet's


@pytest.mark.parametrize("model_type", ["clip", "siglip"])
def test_the_size_is_found_in_the_vision_models_configuration(tmp_path: Path, model_type: str) -> None:
    vision = {"image_size": 48, "patch_size": 16, "hidden_size": 16, "num_attention_heads": 2}
    vision |= {"intermediate_size": 16, "num_hidden_layers": 1}
    told = {"model_type": model_type, "vision_config": vision}
    (tmp_path / "config.json").write_text(json.dumps(told))
    found = find_image_model(str(tmp_path), scratch=True)
    assert (found.height, found.width) == (48, 48)
    assert said(model(str(tmp_path), scratch=True), IMAGES).shape == (4, 3)
    told["vision_config"] = {**vision, "num_channels": 4}
    (tmp_path / "config.json").write_text(json.dumps(told))
    with pytest.raises(Fatal, match="takes 4 channels"):
        find_image_model(str(tmp_path))


@pytest.mark.parametrize(("kept", "dropped"), [(0.999, 0.001), (0.8, 0.2), (0.1, 0.1)])
def test_mobilenets_do_not_drop_nearly_everything(
    folders: dict[str, str], tmp_path: Path, kept: float, dropped: float
) -> None:
    """transformers takes TensorFlow's probability of keeping a value for that of dropping it."""
    for family in ("mobilenet_v1", "mobilenet_v2"):
        folder = shutil.copytree(folders[family], tmp_path / family)
        told = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**told, "classifier_dropout_prob": kept}))
        found = model(str(folder))
        assert found.network.dropout.p == pytest.approx(dropped)
        found.save_pretrained(tmp_path / f"{family}-again")
        assert model(str(tmp_path / f"{family}-again")).network.dropout.p == pytest.approx(dropped)


def test_from_scratch_only_the_configuration_is_taken(folders: dict[str, str], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["resnet"], tmp_path / "model")
    before = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    drawn = model(str(folder), scratch=True).network.state_dict()
    assert drawn.keys() == before.keys()
    convolutions = [name for name, value in before.items() if value.ndim == 4]
    assert not any(torch.equal(drawn[name], before[name]) for name in convolutions)
    again = model(str(folder), scratch=True).network.state_dict()
    assert all(torch.equal(drawn[name], again[name]) for name in drawn)
    with pytest.raises(Fatal, match=r"must be there as safetensors: .*model\.safetensors"):
        model(str(folder))


def test_a_model_without_all_its_weights_is_refused(folders: dict[str, str], tmp_path: Path) -> None:
    """transformers would make up the missing ones, and those of another shape."""
    folder = shutil.copytree(folders["resnet"], tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    name = "resnet.encoder.stages.0.layers.0.layer.0.convolution.weight"
    taken = weights.pop(name)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Fatal, match=f"lack 1 weights of the model, {name}"):
        model(str(folder))
    save_file({**weights, name: taken[:4].clone()}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Fatal, match=f"lack 1 weights of the model, {name}"):
        model(str(folder))
    ours = model(folders["resnet"])
    ours.save_pretrained(tmp_path / "ours")
    kept = load_file(tmp_path / "ours" / "model.safetensors")
    del kept["classifier.1.weight"]
    save_file(kept, tmp_path / "ours" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Fatal, match=r"lack 1 weights of the model, classifier\.1\.weight"):
        load_image_model(str(tmp_path / "ours"))


def test_what_is_no_image_classifier_is_refused(folders: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="cannot load the image model 'nobody/nothing'"):
        find_image_model("nobody/nothing")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(Fatal, match="is a bert model; one for image classification is needed"):
        find_image_model(str(tmp_path / "bert"))
    grey = shutil.copytree(folders["vit"], tmp_path / "grey")
    told = json.loads((grey / "config.json").read_text())
    (grey / "config.json").write_text(json.dumps({**told, "num_channels": 1}))
    with pytest.raises(Fatal, match="takes 1 channels"):
        find_image_model(str(grey))


def test_a_model_from_any_url(folders: dict[str, str], tmp_path: Path) -> None:
    ours = model(folders["resnet"])
    ours.save_pretrained(tmp_path)
    memory = fsspec.filesystem("memory")
    memory.put(f"{tmp_path}/", f"/{tmp_path.name}/model", recursive=True)
    found = load_image_model(f"memory://{tmp_path.name}/model")
    assert not found.training
    torch.testing.assert_close(said(found, IMAGES), said(ours, IMAGES), atol=0, rtol=0)


def test_a_hub_name_is_pinned_and_not_asked_for_again(
    folders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "models--someone--resnet" / "snapshots" / COMMIT
    shutil.copytree(folders["resnet"], snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(COMMIT)
    with refusing_hub(tmp_path, monkeypatch) as asked:
        for revision in (None, "main", COMMIT):
            found = find_image_model("someone/resnet", revision=revision)
            assert (found.revision, found.identity) == (COMMIT, f"someone/resnet@{COMMIT}")
            assert found.image_mean == pytest.approx((0.4, 0.5, 0.6))
            assert found.network(NAMES).config.num_labels == 3
        assert [path for path in asked if "someone" in path] == []


def test_the_packaged_model() -> None:
    found = find_image_model("tiny")
    assert found.revision is None
    assert len(found.identity) == 32
    with torch.inference_mode():
        logits = found.network(NAMES).eval()(torch.zeros(1, 3, found.height, found.width)).logits
    assert logits.shape == (1, 3)


def test_a_folder_is_named_by_its_content(folders: dict[str, str], tmp_path: Path) -> None:
    copy = shutil.copytree(folders["resnet"], tmp_path / "copy")
    assert find_image_model(str(copy)).identity == find_image_model(folders["resnet"]).identity
    told = json.loads((copy / "preprocessor_config.json").read_text())
    (copy / "preprocessor_config.json").write_text(json.dumps({**told, "image_mean": [0.1, 0.1, 0.1]}))
    assert find_image_model(str(copy)).identity != find_image_model(folders["resnet"]).identity
