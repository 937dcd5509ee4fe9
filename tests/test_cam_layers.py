"""Which outputs lie on an image and which do not, and the layers put forward where the architecture is not known."""

import re
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageClassification

from seewhy.cam import activation_maps
from seewhy.cam_layers import Layer, find_layer
from seewhy.failure import Fatal
from tests.cam_models import WINDOWS, network


def small(model_type: str, **settings: Any) -> nn.Module:
    config = AutoConfig.for_model(model_type, **settings)
    config.architectures = []
    config.id2label = {0: "a", 1: "b"}
    torch.manual_seed(0)
    made = AutoModelForImageClassification.from_config(config)
    for weight in made.parameters():
        if weight.ndim > 1:
            weight.data.normal_(std=1.5 / weight[0].numel() ** 0.5)
    return made.eval()


LEVIT: dict[str, Any] = {
    "image_size": 128,
    "hidden_sizes": [16, 24, 32],
    "num_attention_heads": [2, 2, 2],
    "depths": [1, 1, 1],
    "key_dim": [8, 8, 8],
    "attention_ratio": [2, 2, 2],
    "mlp_ratio": [2, 2, 2],
    "drop_path_rate": 0,
}
FOCAL: dict[str, Any] = {"image_size": 64, "embed_dim": 8, "depths": [1, 1, 1], "focal_levels": [1, 1, 1]}
FOCAL |= {"focal_windows": [3, 3, 3], "hidden_sizes": [8, 16, 32]}
HIERA: dict[str, Any] = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}


def put_forward(model: nn.Module) -> str:
    with pytest.raises(Fatal) as caught:
        find_layer(model)
    (name,) = re.findall(r"such as '([^']*)'", str(caught.value))
    return name


@pytest.mark.parametrize(
    ("model_type", "settings", "name"),
    [
        ("donut-swin", WINDOWS, "donut.encoder.layers.2.blocks.0.layernorm_after"),
        ("levit", LEVIT, "levit.encoder.stages.2.layers.1"),
        ("focalnet", FOCAL, "focalnet.layernorm"),
        ("segformer", {"image_size": 64}, "segformer.stages.3.blocks.1.mlp.dwconv.dwconv"),
        ("pvt_v2", {"image_size": 64}, "pvt_v2.encoder.layers.3.blocks.1.mlp.dwconv.dwconv"),
    ],
)
def test_the_layer_put_forward_is_a_late_one_that_can_be_explained(model_type, settings, name):
    model = small(model_type, **settings)
    assert put_forward(model) == name
    layer = find_layer(model, name)
    side = settings["image_size"]
    found = activation_maps(model, torch.randn(2, 3, side, side), layer=layer, explain=[0, 1])
    assert 1 < found.maps.shape[1] == found.maps.shape[2] <= 4
    assert found.maps.max() > 0


def test_the_embedding_is_not_put_forward_where_no_later_layer_can_be_explained():
    """Hiera keeps its places in an order of its own: to refuse it is right, and the message says why."""
    model = small("hiera", **HIERA)
    name = put_forward(model)
    assert name == "hiera.encoder.stages.3.layers.0.layernorm_after"
    with pytest.raises(Fatal, match=r"gives \(1, 49, 64\) for an image of 224 x 224, and how that lies on the image"):
        activation_maps(model, torch.randn(1, 3, 224, 224), layer=find_layer(model, name))


@pytest.mark.parametrize(
    ("model_type", "settings", "name", "side"),
    [
        ("donut-swin", WINDOWS, "donut.encoder.layers.0", 8),
        ("donut-swin", WINDOWS, "donut.encoder.layers.1", 4),
        ("focalnet", FOCAL, "focalnet.encoder.stages.0.downsample", 8),
        ("focalnet", FOCAL, "focalnet.encoder.stages.1.downsample", 4),
    ],
)
def test_where_tokens_are_merged_a_place_is_the_place_in_the_image(model_type, settings, name, side):
    """What is changed in a patch of the image is changed most in the place of that patch."""
    model = small(model_type, **settings)
    for path, weight in model.named_parameters():
        if "attention.output" in path:  # or other places hear of it
            weight.data.zero_()
    layer = find_layer(model, name)
    for row, column in ((1, 2), (2, 1), (side - 2, side - 3)):
        pixels = torch.zeros(2, 3, 64, 64)
        size = 64 // side
        pixels[1, :, row * size : (row + 1) * size, column * size : (column + 1) * size] = 1
        kept: list[Any] = []
        handle = layer.module.register_forward_hook(lambda module, inputs, output, kept=kept: kept.append(output))
        model(pixels)
        handle.remove()
        values = layer.places(kept[0][0] if isinstance(kept[0], tuple) else kept[0], 64, 64)
        changed = (values[0] - values[1]).norm(dim=0)
        assert changed.shape == (side, side)
        assert divmod(int(changed.argmax()), side) == (row, column)


def test_levit_leaves_out_every_other_row_and_column():
    model = small("levit", **LEVIT)
    halving = [path for path, _ in model.named_modules() if path.endswith("queries_subsample")]
    layers = ["levit.patch_embeddings", *halving]
    kept: list[torch.Tensor] = []
    for name in layers:
        module = find_layer(model, name).module
        module.register_forward_hook(lambda module, inputs, output: kept.extend([inputs[0], output]))
    model.levit.patch_embeddings.embedding_layer_4.register_forward_hook(lambda *all: kept.append(all[2]))
    model(torch.randn(1, 3, 128, 128))
    last, _, tokens, *halved = kept
    assert torch.equal(find_layer(model, layers[0]).places(tokens, 128, 128), last)
    assert [len(one[0]) for one in halved] == [64, 16, 16, 4]
    for before, after in (halved[:2], halved[2:]):
        layer = find_layer(model, layers[1])
        assert torch.equal(layer.places(after, 128, 128), layer.places(before, 128, 128)[:, :, ::2, ::2])


def test_windows_are_no_images():
    swin = network("swin")
    windows = find_layer(swin, "swin.encoder.layers.0.blocks.0.attention")
    for count, size in ((1, 48), (2, 48), (3, 40)):
        with pytest.raises(Fatal, match=rf"'{windows.name}' gives \d+ rows for {count} images"):
            activation_maps(swin, torch.randn(count, 3, size, size), layer=windows, explain=[0] * count)


def test_what_has_no_side_is_no_image():
    class Sums(nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.sum()

    class Summed(nn.Sequential):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self[0](pixels) * torch.ones(len(pixels), 2)

    model = Summed(Sums())
    with pytest.raises(Fatal, match="'0' gives 0 rows for 2 images"):
        activation_maps(model, torch.randn(2, 3, 8, 8), layer=Layer("0", model[0]))


def test_one_place_is_a_map_of_a_small_picture_alone():
    resnet = network("resnet")
    pooled = find_layer(resnet, "resnet.pooler")
    with pytest.raises(Fatal, match=r"'resnet.pooler' gives one place for an image of 64 x 96: name one before"):
        activation_maps(resnet, torch.randn(2, 3, 64, 96), layer=pooled)
    swin = network("swin")
    one = Layer("swin.pooler", nn.Identity(), find_layer(swin).grid)
    with pytest.raises(Fatal, match="one place for an image of 48 x 64"):
        one.places(torch.zeros(2, 1, 8), 48, 64)
    # a place of the last stage spans 32 pixels
    small_picture = activation_maps(resnet, torch.randn(2, 3, 32, 32), layer=find_layer(resnet))
    assert small_picture.maps.shape == (2, 1, 1)


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns", "fits"),
    [
        (64, 64, 2, 2, True),
        (64, 64, 2, 4, False),  # a square image has as many rows as columns
        (64, 64, 2, 3, False),
        (224, 224, 56, 57, False),
        (224, 224, 7, 9, False),
        (64, 96, 2, 3, True),
        (64, 96, 3, 2, False),
        (224, 320, 7, 10, True),
        (224, 320, 7, 13, False),
        (65, 441, 3, 14, True),  # halved five times and rounded up: 2.03 and 13.8
        (65, 441, 2, 13, True),  # or down
        (10, 14, 8, 12, True),  # a border is lost
        (40, 2000, 1, 62, True),
        (40, 2000, 1, 130, False),
    ],
)
def test_how_far_rows_and_columns_may_be_from_the_images_sides(height, width, rows, columns, fits):
    for turned in (False, True):
        shape = (1, 5, columns, rows) if turned else (1, 5, rows, columns)
        sides = (width, height) if turned else (height, width)
        values, layer = torch.zeros(shape), Layer("x", nn.Identity())
        if fits:
            assert layer.places(values, *sides) is values
        else:
            with pytest.raises(Fatal, match="how that lies on the image is not known"):
                layer.places(values, *sides)
