"""The size and the scale of the pixels that a pretrained model takes, read from the settings of its image processor."""

from typing import Any

from transformers import AutoImageProcessor

from seewhy.hub import has_weights
from seewhy.train.pretrained import quiet

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What is taken where a model's folder says nothing."""


def processor_settings(source: str, revision: str | None) -> dict[str, Any]:
    """What the model's image processor is set to; empty where it has none. Only read, never used."""
    # From the local cache alone where it holds the whole model: else transformers asks the hub at every load.
    for cached in (True, False) if revision is not None and has_weights(source, revision) else (False,):
        try:
            with quiet():
                found = AutoImageProcessor.from_pretrained(
                    source, revision=revision, trust_remote_code=False, local_files_only=cached
                )
        except (OSError, ValueError, ImportError):
            continue
        return found.to_dict()
    return {}


def input_size(processor: dict[str, Any], config: Any) -> tuple[int, int]:
    """(height, width) of what the network saw in its own training: after cropping, where its processor crops."""
    sizes = [processor.get("crop_size") if processor.get("do_center_crop") else None, processor.get("size")]
    for size in [*sizes, getattr(config, "image_size", None)]:
        if isinstance(size, int):
            return size, size
        if isinstance(size, list | tuple):
            return int(size[0]), int(size[1])
        if size and size.get("height"):
            return int(size["height"]), int(size["width"])
        if size and size.get("shortest_edge"):
            return int(size["shortest_edge"]), int(size["shortest_edge"])
    return 224, 224


def input_scale(processor: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation for values from 0 to 1, whatever scale the processor's own are for."""
    if not processor:
        return IMAGENET_MEAN, IMAGENET_STD
    factor = processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 1.0
    normalise = processor.get("do_normalize", True)
    mean = processor["image_mean"] if normalise else (0.0, 0.0, 0.0)
    std = processor["image_std"] if normalise else (1.0, 1.0, 1.0)
    offset = 1.0 if processor.get("rescale_offset") else 0.0  # EfficientNet: x / 127.5 - 1
    scale = 255 * factor
    return tuple((one + offset) / scale for one in mean), tuple(one / scale for one in std)
