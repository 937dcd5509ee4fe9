"""Which layer of an image model a class activation map is made of, and how its output lies on the image.

Where a network averages its last feature map over the image, that map is explained: what it says of a place goes into
the output unmixed. Where it reads a class token, no place of the last block's output reaches the outputs any more, so
the layer is the last one before the tokens are mixed: the norm in front of the last block's attention. BEiT, data2vec,
I-JEPA, SigLIP and CLIP are the exception: they average their last tokens (BEiT and data2vec unless set to read a class
token), yet that same norm is explained, and one more attention lies between a place and the output.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from seewhy.failure import Fatal

Grid = Callable[[int, int, int], tuple[int, int, int]]
"""Tokens, image height, image width in pixels -> tokens in front that are no place, rows, columns."""


@dataclass(frozen=True)
class Layer:
    """A layer to explain.

    Attributes:
        name: its dotted path in the network.
        module: its output, or the first part of it, is (B, C, h, w) or (B, tokens, C).
        grid: how tokens lie on the image; None where the architecture does not say.
    """

    name: str
    module: nn.Module
    grid: Grid | None = None

    def places(self, values: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """The output, or its gradient, as (B, C, h, w); tokens that are no place dropped.

        Args:
            height, width: of the image, in pixels.

        Raises:
            Fatal: the values do not lie on the image in a way that is known, or are pooled to one place.
        """
        if values.ndim == 4:
            rows, columns = values.shape[2:]
            if _alike(rows, columns, height, width):
                return self._not_pooled(values, height, width)
        elif values.ndim == 3 and self.grid is not None:
            skip, rows, columns = self.grid(values.shape[1], height, width)
            if skip >= 0 and skip + rows * columns == values.shape[1]:
                return self._not_pooled(values[:, skip:].transpose(1, 2).unflatten(2, (rows, columns)), height, width)
        raise Fatal(
            f"layer {self.name!r} gives {tuple(values.shape)} for an image of {height} x {width}, and how that lies on "
            "the image is not known: name a layer whose output is (B, C, h, w), or (B, tokens, C) in a model whose "
            "configuration has its patch_size"
        )

    def _not_pooled(self, values: torch.Tensor, height: int, width: int) -> torch.Tensor:
        if values.shape[2:] == (1, 1) and max(height, width) >= 2 * _LARGEST_PLACE:
            raise Fatal(
                f"layer {self.name!r} gives one place for an image of {height} x {width}: name one before the places "
                "are pooled"
            )
        return values


_LARGEST_PLACE = 32
"""Pixels, high and wide, that a place of the last map spans in nearly all architectures."""


def _alike(rows: int, columns: int, height: int, width: int) -> bool:
    """Whether places of one size in pixels, as high as wide, make up both sides.

    Rounding at each step, up or down, or a border that is lost, takes or gives less than one place of a side.
    """
    if height == width:
        return rows == columns
    return height * (columns - 1) < width * (rows + 1) and width * (rows - 1) < height * (columns + 1)


def find_layer(network: nn.Module, name: str | None = None) -> Layer:
    """The layer of a transformers image classification model, by its architecture or by name.

    Args:
        network: `config.model_type` tells the architecture; a module without a `config` is unknown.
        name: dotted path of a module in it, as in `named_modules()`. None: by architecture.

    Raises:
        Fatal: there is no such module, or none is known for the architecture: the message says how to name one.
    """
    config = getattr(network, "config", None)
    model_type = getattr(config, "model_type", type(network).__name__)
    grid = _grid(config)
    modules = dict(network.named_modules())
    if name:
        if name not in modules:
            raise Fatal(f"the model has no layer {name!r}; there is {_example(modules, grid)!r} for one")
        return Layer(name, modules[name], grid)
    pattern = _LAYERS.get(model_type)
    found = [path for path in modules if pattern and re.search(pattern, path)]
    if not found:
        raise Fatal(
            f"which layer to explain is not known for models of type {model_type!r}: set layer to the dotted path of "
            f"one whose output is (B, C, h, w) or (B, tokens, C), such as {_example(modules, grid)!r}; known are "
            f"{', '.join(sorted(_LAYERS))}"
        )
    return Layer(found[-1], modules[found[-1]], grid)


# The last module whose path matches: paths differ between releases of transformers, their ends hardly do.
_STAGES = r"(^|\.)stages\.\d+$"
_LAYERS = {
    "bit": r"^bit\.norm$",
    "convnext": _STAGES,
    "convnextv2": _STAGES,
    "efficientnet": r"\.top_activation$",
    "mobilenet_v1": r"^mobilenet_v1\.layer\.\d+$",
    "mobilenet_v2": r"^mobilenet_v2\.conv_1x1$",
    "mobilevit": r"\.conv_1x1_exp$",
    "mobilevitv2": r"\.encoder\.layer\.\d+$",
    "poolformer": r"^norm$",
    "regnet": _STAGES,
    "resnet": _STAGES,
    "swiftformer": r"\.network\.\d+$",
    "textnet": _STAGES,
    "beit": r"\.layernorm_before$",
    "clip": r"\.layer_norm1$",
    "data2vec-vision": r"\.layernorm_before$",
    "deit": r"\.layernorm_before$",
    "dinov2": r"\.norm1$",
    "dinov2_with_registers": r"\.norm1$",
    "ijepa": r"\.layernorm_before$",
    "metaclip_2": r"\.layer_norm1$",
    "siglip": r"\.layer_norm1$",
    "swin": r"^swin\.layernorm$",
    "swinv2": r"^swinv2\.layernorm$",
    "vit": r"\.layernorm_before$",
    "vit_msn": r"\.layernorm_before$",
}

_CLASS_TOKENS = {
    "beit": 1,
    "clip": 1,
    "data2vec-vision": 1,
    "deit": 2,  # class and distillation
    "dinov2": 1,
    "dinov2_with_registers": 1,
    "ijepa": 0,
    "metaclip_2": 1,
    "siglip": 0,
    "vit": 1,
    "vit_msn": 1,
}
_HALVING = ("donut-swin", "focalnet", "levit", "swin", "swinv2")


def _grid(config: Any) -> Grid | None:
    vision = getattr(config, "vision_config", None) or config
    patch = getattr(vision, "patch_size", None)
    if patch is None:
        return None
    patch_height, patch_width = patch if isinstance(patch, Sequence) else (patch, patch)
    if config.model_type in _HALVING:
        return _halved(patch_height, patch_width)
    class_tokens = _CLASS_TOKENS.get(config.model_type)
    registers = getattr(vision, "num_register_tokens", 0)

    def grid(tokens: int, height: int, width: int) -> tuple[int, int, int]:
        rows, columns = height // patch_height, width // patch_width
        # an architecture that is not known here puts what is no place in front, as all that are known do
        skip = tokens - rows * columns if class_tokens is None else class_tokens + registers
        return skip, rows, columns

    return grid


def _halved(patch_height: int, patch_width: int) -> Grid:
    """Swin and its kin pad the image to whole patches, and each grid to even sides before they merge two by two."""

    def grid(tokens: int, height: int, width: int) -> tuple[int, int, int]:
        rows, columns = math.ceil(height / patch_height), math.ceil(width / patch_width)
        while rows * columns > max(tokens, 1):
            rows, columns = (rows + 1) // 2, (columns + 1) // 2
        return 0, rows, columns

    return grid


def _example(modules: dict[str, nn.Module], grid: Grid | None) -> str:
    """A path that may do: the last convolution or norm, else the last block of a list, else anything.

    Not one of an embedding, which sees edges at most, nor of a pooler, which has no places left.
    """
    paths = [path for path in modules if path]
    left = [path for path in paths if not re.search("embed|pooler", path)]
    # How the tokens of a LayerNorm lie on the image is told by the grid alone.
    of_places = (nn.Conv2d, nn.BatchNorm2d, nn.GroupNorm) + ((nn.LayerNorm,) if grid else ())
    for found in (
        [path for path in left if isinstance(modules[path], of_places)],
        [path for path in left if isinstance(modules[path], nn.LayerNorm)],
        [path for path in left if re.search(r"\.\d+$", path)],
        left,
        paths,
    ):
        if found:
            return found[-1]
    return ""
