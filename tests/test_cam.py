"""Maps worked out by hand, by a slow way through the whole graph, and by the library grad-cam where it is installed."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from seewhy.cam import METHODS, activation_maps, grad_cam_plus_plus
from seewhy.cam_layers import Layer, find_layer
from seewhy.failure import Fatal
from tests.benchmarks.grad_cam_library import HOW, Logits, library
from tests.cam_models import SETTINGS, Interpolated, network, slow_maps

CNNS = [
    "resnet",
    "regnet",
    "bit",
    "convnext",
    "convnextv2",
    "poolformer",
    "textnet",
    "swiftformer",
    "efficientnet",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilevit",
    "mobilevitv2",
]
SKIPPED = {  # tokens in front of the patches
    "vit": 1,
    "vit_msn": 1,
    "deit": 2,
    "beit": 1,
    "data2vec-vision": 1,
    "ijepa": 0,
    "dinov2": 1,
    "dinov2_with_registers": 4,
    "siglip": 0,
    "clip": 1,
    "metaclip_2": 1,
}
FIXED_SIZE = {"data2vec-vision", "beit"}  # these refuse images of another size
SWINS = ("swin", "swinv2")

# one image, two channels of two by two, worked out by hand
VALUES = torch.tensor([[[[1.0, 2], [3, 4]], [[2, 0], [0, -1]]]])
GRADIENT = torch.tensor([[[[1.0, 3], [-2, 2]], [[-1, -1], [1, -3]]]])  # means 1 and -1
BY_HAND = {
    "gradcam": [[1 - 2, 2 - 0], [3 - 0, 4 + 1]],
    "hirescam": [[1 - 2, 6 - 0], [-6 + 0, 8 + 3]],
    "layercam": [[1 + 0, 6 + 0], [0 + 0, 8 + 0]],
}


@pytest.mark.parametrize("method", BY_HAND)
def test_maps_by_hand(method):
    found = METHODS[method](VALUES, GRADIENT)
    np.testing.assert_allclose(found[0], np.maximum(BY_HAND[method], 0), rtol=1e-6)


def test_gradcam_plus_plus_by_hand():
    # the values sum to 10 and 1: a share is 1 / (2 + sum * gradient), counted where the gradient is positive
    first = 1 / (2 + 10 * 1) * 1 + 1 / (2 + 10 * 3) * 3 + 1 / (2 + 10 * 2) * 2
    second = 1 / (2 + 1 * 1) * 1
    expected = first * VALUES[0, 0] + second * VALUES[0, 1]
    np.testing.assert_allclose(grad_cam_plus_plus(VALUES, GRADIENT, epsilon=0)[0], expected.relu(), rtol=1e-6)
    assert expected.min() > 0.1  # all places count
    np.testing.assert_allclose(METHODS["gradcam++"](VALUES, GRADIENT)[0], expected, rtol=1e-5)


def test_gradcam_plus_plus_gives_no_share_where_there_is_no_gradient():
    gradient = torch.zeros_like(GRADIENT)
    gradient[0, 0, 0, 1] = 0.5
    share = 1 / (2 + 10 * 0.5)
    found = grad_cam_plus_plus(VALUES, gradient, epsilon=0)
    np.testing.assert_allclose(found[0], share * 0.5 * VALUES[0, 0], rtol=1e-6)
    assert torch.isfinite(grad_cam_plus_plus(VALUES, gradient * 0, epsilon=0)).all()
    # a gradient as small as the epsilon's root is damped by it, as the library has it
    damped = grad_cam_plus_plus(torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 1e-3))
    assert damped.item() == pytest.approx(1e-6 / (2e-6 + 1e-9 + 1e-6) * 1e-3, rel=1e-4)


def test_maps_of_an_image_do_not_mix_with_those_of_another():
    both = [torch.cat([VALUES, VALUES.flip(3) * 2]), torch.cat([GRADIENT, GRADIENT.flip(2)])]
    for method in METHODS.values():
        for i in range(2):
            torch.testing.assert_close(method(*both)[i], method(both[0][i : i + 1], both[1][i : i + 1])[0])


class Pooled(nn.Module):
    """The mean over the image of relu(a x + b) of each channel, then two outputs: every number is known."""

    def __init__(self, weight: list[list[float]]) -> None:
        super().__init__()
        self.features = nn.Conv2d(2, 2, 1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(2, len(weight), bias=False)
        self.features.weight.data = torch.eye(2)[:, :, None, None]
        self.features.bias.data.zero_()
        self.head.weight.data = torch.tensor(weight)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(self.act(self.features(pixels)).mean(dim=(2, 3)))


def test_a_network_worked_out_by_hand_from_pixels_to_map():
    model = Pooled([[1.0, -1.0], [8.0, 4.0]])
    pixels = torch.tensor([[[[4.0, 0], [2, -2]], [[0, 1], [-3, 1]]]])
    # after the ReLU the channels are (4 0 / 2 0) and (0 1 / 0 1), with means 1.5 and 0.5
    after = Layer("act", model.act)
    found = activation_maps(model, pixels, layer=after)
    assert found.outputs.tolist() == [[1.0, 14.0]]
    assert found.explained.tolist() == [1]
    assert found.maps.tolist() == [[[8.0, 1.0], [4.0, 1.0]]]  # 8/4 and 4/4 times the channels
    found = activation_maps(model, pixels, layer=after, explain=[0])
    assert found.explained.tolist() == [0]
    assert found.maps.tolist() == [[[1.0, 0.0], [0.5, 0.0]]]  # 1/4 and -1/4, the negative cut off
    # before the ReLU, which works in place, a negative value has no gradient: 1/4 of 2 places each
    found = activation_maps(model, pixels, layer=Layer("features", model.features), explain=[1], method="hirescam")
    assert found.maps.tolist() == [[[8.0, 1.0], [4.0, 1.0]]]
    found = activation_maps(model, pixels, layer=Layer("features", model.features), explain=[1], method="gradcam")
    # channel means of the gradients: 2 * 2/4 = 1 and 1 * 2/4 = 0.5; the values are the pixels themselves
    assert found.maps.tolist() == [[[4.0, 0.5], [0.5, 0.0]]]


def test_where_sums_alone_follow_hirescam_adds_up_to_the_output():
    torch.manual_seed(0)
    model = Pooled([[1.0, 2.0], [3.0, 0.5]])
    pixels = torch.rand(3, 2, 5, 7)
    found = activation_maps(model, pixels, layer=Layer("act", model.act), method="hirescam", explain=[0, 1, None])
    torch.testing.assert_close(found.maps.sum(dim=(1, 2)), found.outputs[range(3), found.explained])


# every architecture


def size_of(model_type: str) -> tuple[int, int]:
    return (48, 48) if model_type in SKIPPED else (64, 96) if model_type in CNNS else (50, 70)


def grid_of(model_type: str) -> tuple[int, int]:
    """64 x 96 by 32; 48 x 48 by 8; 50 x 70 by 4 is 13 x 18, halved upwards twice."""
    return (6, 6) if model_type in SKIPPED else (2, 3) if model_type in CNNS else (4, 5)


@pytest.mark.parametrize("model_type", SETTINGS)
def test_every_architecture_is_explained_as_the_slow_way_does(model_type):
    model = network(model_type)
    height, width = size_of(model_type)
    rows, columns = grid_of(model_type)
    torch.manual_seed(1)
    pixels = torch.randn(3, 3, height, width)
    layer = find_layer(model)
    skip = SKIPPED.get(model_type, 0)

    def places(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.ndim == 4:
            return tensor
        by_place = [[tensor[:, skip + row * columns + column] for column in range(columns)] for row in range(rows)]
        return torch.stack([torch.stack(line, dim=-1) for line in by_place], dim=-2)

    values, gradients = slow_maps(model, pixels, layer.module, [2, 0, 1], places)
    assert values.shape[2:] == (rows, columns)
    assert gradients.abs().flatten(1).amax(dim=1).min() > 0, "the places say nothing of the output"
    for name, method in METHODS.items():
        found = activation_maps(model, pixels, layer=layer, method=name, explain=[2, 0, 1])
        expected = method(values, gradients)
        scale = expected.max().item()
        np.testing.assert_allclose(found.maps, expected, atol=1e-4 * scale + 1e-12, rtol=1e-3)
        torch.testing.assert_close(found.outputs, model(pixels).logits, rtol=1e-5, atol=1e-5)


def test_the_table_of_architectures_and_the_models_of_the_tests_are_the_same():
    from seewhy.cam_layers import _LAYERS

    assert set(_LAYERS) == set(SETTINGS) == {*CNNS, *SKIPPED, *SWINS}


@pytest.mark.parametrize("model_type", [*SKIPPED, *SWINS])
def test_a_place_of_the_map_is_the_place_in_the_image(model_type):
    inner = network(model_type)
    flexible = model_type not in FIXED_SIZE
    model = Interpolated(inner) if flexible and model_type not in SWINS else inner
    size = 4 if model_type in SWINS else 8
    rows, columns = (12, 20) if model_type in SWINS else (5, 9) if flexible else (6, 6)
    height, width = rows * size, columns * size
    first = {"swin": "swin.encoder.layers.0.blocks.0.layernorm_before"}.get(model_type)
    found = find_layer(inner, first or find_layer(inner).name.replace("layers.1", "layers.0").replace("r.1", "r.0"))
    if model_type == "swinv2":
        found = find_layer(inner, "swinv2.embeddings.norm")
    pixels = torch.zeros(2, 3, height, width)
    pixels[1, :, 3 * size : 4 * size, size : 2 * size] = torch.randn(3, size, size)
    kept = []
    handle = found.module.register_forward_hook(lambda module, inputs, output: kept.append(output))
    model(pixels)
    handle.remove()
    values = found.places(kept[0], height, width)
    assert values.shape[2:] == (rows, columns)
    changed = (values[0] - values[1]).abs().amax(dim=0) > 1e-6
    assert changed.nonzero().tolist() == [[3, 1]]


@pytest.mark.parametrize("model_type", ["vit", "deit", "dinov2", "dinov2_with_registers", "siglip", "clip"])
def test_images_that_are_not_square_have_grids_that_are_not(model_type):
    inner = network(model_type)
    found = activation_maps(Interpolated(inner), torch.randn(2, 3, 40, 79), layer=find_layer(inner))
    assert found.maps.shape == (2, 5, 9)  # 79 pixels hold 9 patches of 8, the rest is not seen
    assert found.maps.amax(dim=(1, 2)).min() > 0


# which layer


def test_a_layer_can_be_named():
    model = network("resnet")
    layer = find_layer(model, "resnet.encoder.stages.1")
    found = activation_maps(model, torch.randn(1, 3, 64, 64), layer=layer)
    assert found.maps.shape == (1, 8, 8)
    swin = network("swin")
    named = find_layer(swin, "swin.encoder.layers.0.blocks.0")  # gives a tuple
    assert activation_maps(swin, torch.randn(1, 3, 64, 40), layer=named).maps.shape == (1, 16, 10)
    merged = find_layer(swin, "swin.encoder.layers.1.downsample.norm")  # of 4 places each
    assert activation_maps(swin, torch.randn(1, 3, 40, 64), layer=merged).maps.shape == (1, 3, 4)


def test_an_unknown_architecture_says_how_to_name_a_layer():
    class Own(nn.Sequential):
        pass

    model = Own(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(Fatal, match=r"type 'Own': set layer to the dotted path .* such as '0'; known are .*vit"):
        find_layer(model)
    named = find_layer(model, "1")
    assert activation_maps(model, torch.randn(2, 3, 10, 14), layer=named).maps.shape == (2, 8, 12)
    with pytest.raises(Fatal, match=r"no layer 'encoder\.9'; there is '0'"):
        find_layer(model, "encoder.9")


def test_a_layer_whose_output_does_not_lie_on_the_image_is_refused():
    convnext = network("convnext")
    last = find_layer(convnext, "convnext.encoder.stages.3.layers.0.layernorm")  # (B, h, w, C)
    with pytest.raises(Fatal, match=r"'convnext.*layernorm' gives \(1, 2, 2, 32\) .* 64 x 64"):
        activation_maps(convnext, torch.randn(1, 3, 64, 64), layer=last)
    pooled = find_layer(convnext, "convnext.layernorm")
    with pytest.raises(Fatal, match=r"gives \(1, 32\)"):
        activation_maps(convnext, torch.randn(1, 3, 64, 64), layer=pooled)
    vit = network("vit")
    wrong = Layer("vit.layernorm", vit.vit.layernorm, lambda tokens, height, width: (2, 6, 6))
    with pytest.raises(Fatal, match=r"gives \(1, 37, 32\)"):
        activation_maps(vit, torch.randn(1, 3, 48, 48), layer=wrong)


def test_a_layer_that_cannot_be_followed_is_refused():
    pixels = torch.randn(1, 3, 64, 64)
    resnet = network("resnet")
    with pytest.raises(Fatal, match=r"gives a BaseModelOutput.*: name one that gives a tensor"):
        activation_maps(resnet, pixels, layer=find_layer(resnet, "resnet.encoder"))
    twice = nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    again = nn.Sequential(twice[0], twice)
    with pytest.raises(Fatal, match="runs 2 times"):
        activation_maps(again, pixels, layer=Layer("0", twice[0]))
    with pytest.raises(Fatal, match="runs 0 times"):
        activation_maps(twice, pixels, layer=Layer("x", nn.Conv2d(3, 3, 1)))

    class Deaf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unheard, self.heard = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            self.unheard(pixels)
            return self.heard(pixels).mean(dim=(2, 3))

    deaf = Deaf()
    with pytest.raises(Fatal, match="no output of the model depends on layer 'unheard'"):
        activation_maps(deaf, pixels, layer=Layer("unheard", deaf.unheard))
    # of a class token's model, the last block's output has no place that counts
    vit = network("vit")
    dead = activation_maps(vit, torch.randn(1, 3, 48, 48), layer=find_layer(vit, "vit.layers.1"))
    assert dead.maps.abs().max() == 0


def test_settings_that_are_none_are_named():
    model = network("resnet")
    layer = find_layer(model)
    with pytest.raises(ValueError, match=r"method='cam': gradcam, gradcam\+\+, hirescam, layercam"):
        activation_maps(model, torch.randn(1, 3, 64, 64), layer=layer, method="cam")
    for wrong in (3, -1):
        with pytest.raises(ValueError, match=f"no output {wrong}: the model has 0 to 2"):
            activation_maps(model, torch.randn(1, 3, 64, 64), layer=layer, explain=[wrong])
    with pytest.raises(ValueError, match="zip"):
        activation_maps(model, torch.randn(2, 3, 64, 64), layer=layer, explain=[0])


def test_the_outputs_to_explain_may_come_as_floats():
    """As a column of a table has them."""
    model = Pooled([[1.0, -1.0], [8.0, 4.0]])
    found = activation_maps(model, torch.rand(2, 2, 4, 4), layer=Layer("act", model.act), explain=[1.0, 0.0])
    assert found.explained.dtype == torch.int64
    assert found.explained.tolist() == [1, 0]


# what it leaves behind, and what it costs


def state(model: nn.Module) -> tuple[Any, ...]:
    return (
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        [None if parameter.grad is None else parameter.grad.clone() for parameter in model.parameters()],
        sum(len(module._forward_hooks) + len(module._backward_hooks) for module in model.modules()),
        {name: value.clone() for name, value in model.state_dict().items()},
    )


def mixed_model() -> nn.Module:
    """In training, but for one frozen stage; one parameter needs no gradient, one has collected some."""
    model = network("resnet").train()
    model.resnet.embedder.eval()
    parameters = list(model.parameters())
    parameters[0].requires_grad_(False)
    parameters[-1].grad = torch.ones_like(parameters[-1])
    return model


def assert_same(left: tuple[Any, ...], right: tuple[Any, ...]) -> None:
    assert left[:2] == right[:2]
    assert left[3] == right[3]
    for one, other in zip(left[2], right[2], strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)
    assert all(torch.equal(value, right[4][name]) for name, value in left[4].items())


def test_the_model_is_left_as_it_was_and_judged_in_eval_mode():
    model = mixed_model()
    before = state(model)
    pixels = torch.randn(4, 3, 64, 64)
    found = activation_maps(model, pixels, layer=find_layer(model))
    assert_same(state(model), before)
    judged = network("resnet")
    torch.testing.assert_close(found.outputs, judged(pixels).logits)
    alone = [activation_maps(model, one[None], layer=find_layer(model)).maps[0] for one in pixels]
    torch.testing.assert_close(found.maps, torch.stack(alone), rtol=1e-4, atol=1e-4)


def test_the_model_is_left_as_it_was_when_an_exception_flies():
    model = mixed_model()
    layer = find_layer(model)
    before = state(model)

    def failing(module: nn.Module, inputs: Any) -> None:
        raise RuntimeError("out of memory, say")

    for module in (model.classifier, model.resnet.embedder):  # above the layer, and below
        handle = module.register_forward_pre_hook(failing)
        with pytest.raises(RuntimeError, match="out of memory"):
            activation_maps(model, torch.randn(1, 3, 64, 64), layer=layer)
        handle.remove()
        assert_same(state(model), before)
    with pytest.raises(ValueError, match="no output 7"):
        activation_maps(model, torch.randn(1, 3, 64, 64), layer=layer, explain=[7])
    assert_same(state(model), before)


@pytest.mark.parametrize("caller", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_only_what_lies_above_the_layer_has_a_graph(caller):
    model = network("resnet").train()
    layer = find_layer(model, "resnet.encoder.stages.2")
    seen: dict[str, bool] = {}
    handles = [
        module.register_forward_hook(
            lambda module, inputs, output, path=path: seen.update({path: getattr(output, "requires_grad", False)})
        )
        for path, module in model.named_modules()
    ]
    with caller():
        found = activation_maps(model, torch.randn(2, 3, 64, 64), layer=layer)
    for handle in handles:
        handle.remove()
    above = {path for path, needs in seen.items() if needs}
    assert "classifier.1" in above
    assert "resnet.encoder.stages.3.layers.0" in above
    assert not any(path.startswith(("resnet.embedder", "resnet.encoder.stages.1")) for path in above)
    assert not any(path.startswith("resnet.encoder.stages.2.") for path in above)
    assert all(parameter.grad is None for parameter in model.parameters())
    for tensor in (found.maps, found.outputs):
        assert not tensor.requires_grad
    model(torch.randn(2, 3, 64, 64)).logits.sum().backward()  # and it can be trained on


def test_a_half_precision_model_has_maps_in_float32():
    model = network("vit").to(torch.bfloat16)
    pixels = torch.randn(2, 3, 48, 48)
    found = activation_maps(model, pixels.bfloat16(), layer=find_layer(model))
    assert {found.maps.dtype, found.outputs.dtype} == {torch.float32}
    exact = network("vit")
    full = activation_maps(exact, pixels, layer=find_layer(exact), explain=found.explained.tolist())
    torch.testing.assert_close(found.maps, full.maps, rtol=0.2, atol=0.1 * full.maps.max().item())


# beside the library


def stretched(maps: np.ndarray) -> np.ndarray:
    """The library takes each map's lowest value for 0 and its highest for 1."""
    low = maps.min(axis=(1, 2), keepdims=True)
    return (maps - low) / (1e-7 + (maps - low).max(axis=(1, 2), keepdims=True))


@pytest.mark.parametrize("model_type", ["resnet", "mobilenet_v1", "mobilenet_v2", "convnext", "vit", "deit", "swin"])
@pytest.mark.parametrize("method", METHODS)
def test_equal_to_the_library(model_type, method):
    try:
        cams = library()
    except ImportError:
        pytest.skip(HOW)
    model = network(model_type)
    height, width = (48, 48) if model_type in SKIPPED else (96, 128)
    rows, columns = (6, 6) if model_type in SKIPPED else (3, 4) if model_type in CNNS else (6, 8)
    torch.manual_seed(3)
    pixels = torch.randn(4, 3, height, width)
    layer = find_layer(model)
    skip = SKIPPED.get(model_type, 0)

    def reshape(tensor: torch.Tensor) -> torch.Tensor:
        return tensor[:, skip:].reshape(len(tensor), rows, columns, -1).permute(0, 3, 1, 2)

    kind = {"gradcam": "GradCAM", "gradcam++": "GradCAMPlusPlus", "hirescam": "HiResCAM", "layercam": "LayerCAM"}[
        method
    ]
    tokens = None if model_type in CNNS else reshape
    targets = [cams.utils.model_targets.ClassifierOutputTarget(output) for output in (0, 1, 2, 1)]
    with getattr(cams, kind)(Logits(model), [layer.module], tokens) as cam:
        expected = cam(pixels, targets)
        values, gradients = cam.activations_and_grads.activations[0], cam.activations_and_grads.gradients[0]
        raw = cam.get_cam_image(pixels, layer.module, targets, values.numpy(), gradients.numpy(), False)
    found = activation_maps(model, pixels, layer=layer, method=method, explain=[0, 1, 2, 1]).maps
    raw = np.maximum(raw, 0)
    np.testing.assert_allclose(found, raw, atol=1e-4 * raw.max(), rtol=1e-4)
    small = torch.from_numpy(stretched(found.numpy()))
    large = nn.functional.interpolate(small[:, None], (height, width), mode="bilinear", align_corners=False)[:, 0]
    np.testing.assert_allclose(stretched(large.numpy()), expected, atol=1e-4)
    assert (expected.max(axis=(1, 2)) > 0.9).sum() >= 2  # where nothing speaks for an output, both are 0
