"""Class activation maps: which places of an image spoke for one output, from one layer's values and gradient.

With A the layer's output, (C, h, w), and G the gradient of the explained output with respect to it, the maps are

    gradcam    relu(sum_c mean_hw(G_c) A_c)     Selvaraju et al. 2017, Grad-CAM, eq. 1 and 2
    gradcam++  relu(sum_c w_c A_c)              Chattopadhay et al. 2018, Grad-CAM++, eq. 19, with
               w_c = sum_hw a_c relu(G_c),  a_c = G_c^2 / (2 G_c^2 + sum_hw(A_c) G_c^3)
    hirescam   relu(sum_c G_c A_c)              Draelos and Carin 2020, Use HiResCAM instead of Grad-CAM
    layercam   relu(sum_c relu(G_c) A_c)        Jiang et al. 2021, LayerCAM

The explained output is the logit of a class, or the prediction itself in regression: what is shown speaks for the
class, or for a higher number. No map is rescaled, so that maps of one model can be compared.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from seewhy.cam_layers import Layer
from seewhy.failure import Fatal


def grad_cam(values: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w), (B, C, h, w) -> (B, h, w). The channels by their mean gradient."""
    return torch.einsum("bchw,bc->bhw", values, gradient.mean(dim=(2, 3))).relu()


def grad_cam_plus_plus(values: torch.Tensor, gradient: torch.Tensor, *, epsilon: float = 1e-6) -> torch.Tensor:
    """As `grad_cam`, the places of a channel weighted by how much of the output's rise each explains.

    Args:
        epsilon: added to the denominator. At 1e-6 the maps are those of the library `grad-cam`; gradients below about
            1e-3, as a mean over many places has them, are then damped beyond the paper's formula.
    """
    square = gradient**2
    total = values.sum(dim=(2, 3), keepdim=True)
    share = square / (2 * square + total * square * gradient + epsilon)
    share = torch.where(gradient == 0, 0, share)
    return torch.einsum("bchw,bc->bhw", values, (share * gradient.relu()).sum(dim=(2, 3))).relu()


def hires_cam(values: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """As `grad_cam` without the mean: where sums alone follow the layer, what each place adds to the output."""
    return (values * gradient).sum(dim=1).relu()


def layer_cam(values: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """As `hires_cam` by positive gradients alone."""
    return (values * gradient.relu()).sum(dim=1).relu()


METHODS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "gradcam": grad_cam,
    "gradcam++": grad_cam_plus_plus,
    "hirescam": hires_cam,
    "layercam": layer_cam,
}


@dataclass(frozen=True)
class Maps:
    """What a batch of images was answered, and why, on the images' device.

    Attributes:
        maps: (B, h, w) float32, 0 or more, in the unit of the output (times that of the layer's values); over the
            whole image.
        outputs: (B, K) float32, the model's outputs.
        explained: (B,) int64, the output that each map explains.
    """

    maps: torch.Tensor
    outputs: torch.Tensor
    explained: torch.Tensor


def activation_maps(
    model: nn.Module,
    pixels: torch.Tensor,
    *,
    layer: Layer,
    method: str = "gradcam",
    explain: Sequence[int | None] | None = None,
) -> Maps:
    """The maps of a batch, at hardly more than the cost of the model's answers.

    The layers below `layer` run without a graph and no parameter needs a gradient: the layer's output is cut off and
    followed from there up alone. The model runs in eval mode, so that no image changes another's map; its modes, its
    parameters' `requires_grad` and its hooks are as before when this returns or raises.

    Args:
        model: called with pixels, gives (B, K) or something whose `logits` are; `layer` is a module in it.
        pixels: (B, 3, H, W) as the model takes them; in torch.channels_last convolutions are faster.
        method: one of METHODS.
        explain: per image, the output to explain; None for the largest. None: the largest of each.

    Raises:
        ValueError: an unknown method, or an output that the model does not have.
        Fatal: the layer cannot be explained: it does not run, runs twice, its rows are not the images, its output does
            not lie on them, or no output of the model depends on it.
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r}: {', '.join(METHODS)} are allowed")
    with _judging(model), _cut_off(layer) as caught, torch.inference_mode(False), torch.enable_grad():
        answer = model(pixels)
        outputs = (answer if isinstance(answer, torch.Tensor) else answer.logits).float()
        if len(caught) != 1:
            raise Fatal(f"layer {layer.name!r} runs {len(caught)} times for an image: name one that runs once")
        _require_one_row_an_image(caught[0], len(pixels), layer)
        explained = _explained(outputs.detach(), explain)
        chosen = outputs.gather(1, explained[:, None]).sum()
        gradient = _gradient(chosen, caught[0], layer)
    values, gradient = (layer.places(each.detach().float(), *pixels.shape[2:]) for each in (caught[0], gradient))
    return Maps(METHODS[method](values, gradient), outputs.detach(), explained)


def _explained(outputs: torch.Tensor, asked: Sequence[int | None] | None) -> torch.Tensor:
    """(B, K) -> (B,) the output to explain of each."""
    count = outputs.shape[1]
    largest = outputs.argmax(dim=1)
    if asked is None:
        return largest
    if wrong := [one for one in asked if one is not None and not 0 <= one < count]:
        raise ValueError(f"there is no output {wrong[0]}: the model has 0 to {count - 1}")
    places = zip(largest.tolist(), asked, strict=True)
    chosen = [top if one is None else one for top, one in places]
    return torch.tensor(chosen, dtype=torch.int64, device=outputs.device)  # a table's column may hold them as floats


def _require_one_row_an_image(values: torch.Tensor, images: int, layer: Layer) -> None:
    rows = len(values) if values.ndim else 0
    if rows != images:
        raise Fatal(
            f"layer {layer.name!r} gives {rows} rows for {images} images, as windows of them do: name one that gives a "
            "row for each image"
        )


def _gradient(chosen: torch.Tensor, leaf: torch.Tensor, layer: Layer) -> torch.Tensor:
    found = torch.autograd.grad(chosen, leaf, allow_unused=True)[0] if chosen.requires_grad else None
    if found is None:
        raise Fatal(f"no output of the model depends on layer {layer.name!r}: name another")
    return found


@contextmanager
def _judging(model: nn.Module) -> Iterator[None]:
    """In eval mode and with parameters that need no gradient; each module's and parameter's own state comes back."""
    modes = [(module, module.training) for module in model.modules()]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.eval()
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
        for module, training in modes:
            module.training = training


@contextmanager
def _cut_off(layer: Layer) -> Iterator[list[torch.Tensor]]:
    """While it lasts, the layer's output is a leaf that needs a gradient; what was cut off, a tensor a run."""
    caught: list[torch.Tensor] = []

    def cut(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        plain = isinstance(output, torch.Tensor)
        if not plain and not (type(output) is tuple and isinstance(output[0], torch.Tensor)):
            raise Fatal(f"layer {layer.name!r} gives a {type(output).__name__}: name one that gives a tensor")
        leaf = (output if plain else output[0]).detach().requires_grad_()
        caught.append(leaf)
        fresh = leaf.clone()  # what follows may write into it, which a leaf does not allow
        return fresh if plain else (fresh, *output[1:])

    handle = layer.module.register_forward_hook(cut)
    try:
        yield caught
    finally:
        handle.remove()
