"""Small image classification models of real architectures, random weights drawn wide so that their maps differ."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageClassification

from seewhy.train.image_model import ImageFacts, ImageModel

LADDER: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 2]}
BLOCKS: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 48,
    "patch_size": 8,
}
WINDOWS: dict[str, Any] = {
    "embed_dim": 16,
    "depths": [1, 2, 1],
    "num_heads": [2, 2, 4],
    "window_size": 3,
    "image_size": 64,
    "patch_size": 4,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "resnet": {**LADDER, "embedding_size": 8, "layer_type": "bottleneck"},
    "regnet": {**LADDER, "embedding_size": 8, "groups_width": 8},
    "bit": {**LADDER, "embedding_size": 8, "num_groups": 4},
    "convnext": LADDER,
    "convnextv2": LADDER,
    "poolformer": {**LADDER, "num_encoder_blocks": 4},
    "textnet": {"stem_out_channels": 8, "hidden_sizes": [8, 8, 16, 16, 32]},
    "swiftformer": {"embed_dims": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "downsamples": [True] * 4},
    "efficientnet": {"width_coefficient": 0.25, "depth_coefficient": 0.2, "hidden_dim": 320},
    "mobilenet_v1": {"depth_multiplier": 0.25},
    "mobilenet_v2": {"depth_multiplier": 0.25, "finegrained_output": True},
    "mobilevit": {"hidden_sizes": [16, 20, 24], "neck_hidden_sizes": [8, 8, 12, 16, 20, 24, 32], "image_size": 64},
    "mobilevitv2": {"width_multiplier": 0.25},
    "vit": BLOCKS,
    "vit_msn": BLOCKS,
    "deit": {**BLOCKS, "architectures": ["DeiTForImageClassification"]},
    "beit": {**BLOCKS, "use_mean_pooling": True, "use_absolute_position_embeddings": True},
    "data2vec-vision": {**BLOCKS, "use_mean_pooling": False, "use_absolute_position_embeddings": True},
    "ijepa": BLOCKS,
    "dinov2": BLOCKS,
    "dinov2_with_registers": {**BLOCKS, "num_register_tokens": 3},
    "siglip": {"vision_config": BLOCKS},
    "clip": {"vision_config": BLOCKS},
    "metaclip_2": {"vision_config": BLOCKS},
    "swin": WINDOWS,
    "swinv2": WINDOWS,
}


def network(model_type: str, *, classes: int = 3, seed: int = 0, **settings: Any) -> nn.Module:
    """In eval mode, as `AutoModelForImageClassification` makes it."""
    config = AutoConfig.for_model(model_type, **{**SETTINGS[model_type], **settings})
    config.id2label = {i: f"class {i}" for i in range(classes)}
    torch.manual_seed(seed)
    made = AutoModelForImageClassification.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for name, tensor in [*made.named_parameters(), *made.named_buffers()]:
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point() and tensor.ndim > 1:
                tensor.normal_(std=1.5 / tensor[0].numel() ** 0.5)
            elif "lambda" in name or "layer_scale" in name or "gamma" in name:
                tensor.uniform_(0.5, 1.5)
            elif name.endswith(("bias", "running_mean")):
                tensor.normal_(std=0.1)
    return made.eval()


class Interpolated(nn.Module):
    """A network that is given images of another size than it was made for."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, pixels: torch.Tensor) -> Any:
        return self.inner(pixels, interpolate_pos_encoding=True)


def slow_maps(
    model: nn.Module,
    pixels: torch.Tensor,
    module: nn.Module,
    explain: list[int],
    places: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and gradient of a module's output (B, C, h, w), one image after the other, through the whole graph."""
    found = []
    for image, output in zip(pixels, explain, strict=True):
        kept: list[torch.Tensor] = []

        def keep(_module: nn.Module, _inputs: Any, output: Any, kept: list[torch.Tensor] = kept) -> None:
            kept.append(output[0] if isinstance(output, tuple) else output)
            kept[0].retain_grad()

        handle = module.register_forward_hook(keep)
        model(image[None]).logits[0, output].backward()
        handle.remove()
        found.append((places(kept[0].detach()), places(kept[0].grad)))
    values, gradients = zip(*found, strict=True)
    return torch.cat(values), torch.cat(gradients)


def photo_model(
    inner: nn.Module, *, classes: int, height: int = 64, width: int = 96, kind: type[ImageModel] = ImageModel
) -> ImageModel:
    """The network as seewhy trains it; without classes a number, of mean 5 and standard deviation 2."""
    names = tuple(f"class {i}" for i in range(classes))
    mean, sd = (0.0, 1.0) if classes else (5.0, 2.0)
    return kind(inner, ImageFacts(names, mean, sd, height, width, (0.45, 0.4, 0.5), (0.25, 0.3, 0.2))).eval()
