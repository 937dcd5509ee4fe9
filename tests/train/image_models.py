"""Random image classifiers of a few thousand weights, of each family, as folders; and studies of small pictures."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from transformers import (
    AutoModelForImageClassification,
    ConvNextConfig,
    DeiTConfig,
    MobileNetV1Config,
    MobileNetV2Config,
    ResNetConfig,
    SwinConfig,
    ViTConfig,
    ViTImageProcessor,
)

from seewhy.images import image_id
from seewhy.train.pretrained import quiet

_PATCHES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
FAMILIES: dict[str, Any] = {
    "resnet": lambda: ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"),
    "mobilenet_v1": lambda: MobileNetV1Config(depth_multiplier=0.25, image_size=32),
    "mobilenet_v2": lambda: MobileNetV2Config(depth_multiplier=0.25, image_size=32),
    "convnext": lambda: ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], image_size=32),
    "vit": lambda: ViTConfig(image_size=32, patch_size=8, **_PATCHES),
    "deit": lambda: DeiTConfig(image_size=32, patch_size=8, **_PATCHES),
    "swin": lambda: SwinConfig(
        embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4, image_size=32, patch_size=4
    ),
}


def save_model(folder: Path, family: str = "resnet", *, classes: int = 3, size: int = 32) -> str:
    """A transformers folder with random weights, a head of so many classes, and a processor for `size` pixels."""
    config = FAMILIES[family]()
    config.architectures = []
    config.id2label = {number: f"old {number}" for number in range(classes)}
    torch.manual_seed(0)
    with quiet():
        network = AutoModelForImageClassification.from_config(config)
        for name, weight in network.named_parameters():
            if weight.ndim > 1:
                weight.data.normal_(std=0.3)
            elif "classifier" in name:
                weight.data.fill_(1.0)
        for name, buffer in network.named_buffers():  # as a model that has been trained: not the averages of none
            if name.endswith("running_mean"):
                buffer.normal_(std=0.1)
        network.save_pretrained(folder)
        ViTImageProcessor(
            size={"height": size, "width": size}, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.25, 0.3]
        ).save_pretrained(folder)
    return str(folder)


@dataclass(frozen=True)
class Photos:
    """Attributes:
    table: row, id, part, position of each image; a test adds the target.
    """

    table: pa.Table
    parts: list[str]
    images: list[np.ndarray]

    def with_targets(self, targets: Sequence[object], groups: Sequence[str] | None = None) -> pa.Table:
        table = self.table.append_column("target", pa.array(targets))
        return table if groups is None else table.append_column("group", pa.array(groups))


def save_photos(folder: Path, images: Sequence[np.ndarray], *, part_rows: int = 16) -> Photos:
    """PNG files in Parquet parts, three to a row group."""
    folder.mkdir(parents=True, exist_ok=True)
    data = [encoded(image) for image in images]
    parts = []
    for start in range(0, len(data), part_rows):
        parts.append(str(folder / f"part-{start:06d}.parquet"))
        pq.write_table(pa.table({"image": data[start : start + part_rows]}), parts[-1], row_group_size=3)
    count = np.arange(len(data))
    columns = {
        "row": count + 100,
        "id": [image_id(one) for one in data],
        "part": (count // part_rows).astype(np.int32),
        "position": (count % part_rows).astype(np.int32),
    }
    return Photos(pa.table(columns), parts, list(images))


def encoded(image: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def noisy(colour: Sequence[int], seed: int, *, height: int = 24, width: int = 40) -> np.ndarray:
    """(height, width, 3) of a colour with so much noise that no two are alike."""
    noise = np.random.default_rng(seed).normal(scale=30, size=(height, width, 3))
    return np.clip(np.asarray(colour) + noise, 0, 255).astype(np.uint8)
