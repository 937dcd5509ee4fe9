"""Pretrains the packaged tiny ResNet to tell what drawn street photos show, as ImageNet weights know everyday things.

Scenes of no district (`districts.draw_any`), one yes or no for each object and one for the pavement: the network gets
to know crane and lantern, and nothing of where they are typical. What a study fine-tunes it for is left to the study.
"""

import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from transformers import ResNetConfig, ResNetForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from seewhy.demo.districts import OBJECTS, SETTS, draw_any
from seewhy.demo.photos import draw_photo

PIXELS = 128
"""Side of the square that the whole photo is squashed to; the last stage's grid has 8 x 8 places."""

LABELS = (*OBJECTS, SETTS)


def build_model() -> ResNetForImageClassification:
    """An untrained ResNet of 0.6M parameters, whose last of three stages has a stride of 16 pixels."""
    config = ResNetConfig(
        embedding_size=16,
        hidden_sizes=[24, 64, 128],
        depths=[1, 1, 2],
        layer_type="basic",
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
        problem_type="multi_label_classification",
    )
    return ResNetForImageClassification(config)


def draw_scenes(count: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Photos (N, 3, 128, 128) uint8 and what they show, (N, labels) of 0 and 1."""
    pool = np.empty((count, 3, PIXELS, PIXELS), np.uint8)
    truth = torch.zeros(count, len(LABELS))
    for index in range(count):
        scene = draw_any(rng)
        small = draw_photo(scene, rng, size=(160, 240)).image.resize((PIXELS, PIXELS), Image.Resampling.BILINEAR)
        pool[index] = np.asarray(small).transpose(2, 0, 1)
        for name in (*scene.objects, scene.pavement):
            if name in LABELS:
                truth[index, LABELS.index(name)] = 1
    return torch.from_numpy(pool), truth


def pixels(pool: torch.Tensor) -> torch.Tensor:
    """uint8 to -1 .. 1, as the saved processor normalises."""
    return pool.float() / 127.5 - 1


def train_image(folder: Path, *, seed: int, photos: int = 3000, steps: int = 800, batch: int = 32) -> None:
    """Draws, trains, saves to `folder` and prints accuracy on fresh draws as it goes."""
    torch.manual_seed(seed)
    rng, start = np.random.default_rng(seed), time.monotonic()
    pool, truth = draw_scenes(photos, rng)
    fresh, fresh_truth = draw_scenes(300, rng)
    print(f"drew {photos} photos in {time.monotonic() - start:.0f}s", flush=True)
    model = build_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        model.train()
        rows = torch.from_numpy(rng.integers(len(pool), size=batch))
        logits = model(pixel_values=_changed(pixels(pool[rows]), rng)).logits
        loss = functional.binary_cross_entropy_with_logits(logits, truth[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            right = ((told(model, fresh) > 0) == (fresh_truth > 0)).float().mean(0)
            figures = f"loss {loss.item():.4f} right {right.mean():.4f} worst {right.min():.4f}"
            print(f"{step + 1} {time.monotonic() - start:.0f}s {figures}", flush=True)
    save(model, folder)


@torch.no_grad()
def told(model: ResNetForImageClassification, pool: torch.Tensor) -> torch.Tensor:
    """(N, labels) logits, in eval mode."""
    model.eval()
    return torch.cat([model(pixel_values=pixels(part)).logits for part in pool.split(100)])


def _changed(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """The batch moved and scaled a little, mirrored half of the time, each image lighter or darker."""
    scale, (dx, dy) = rng.uniform(0.85, 1.1), rng.uniform(-0.1, 0.1, 2)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    theta = torch.tensor([[mirror * scale, 0, dx], [0, scale, dy]], dtype=torch.float32).expand(len(images), 2, 3)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    light = torch.from_numpy(rng.uniform(-0.1, 0.1, size=(len(images), 1, 1, 1))).float()
    return moved + light


def save(model: ResNetForImageClassification, folder: Path) -> None:
    """Weights as fp16 on disk; the configuration says fp32, which is what `from_pretrained` makes of them."""
    model.half().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    ViTImageProcessorPil(
        size={"height": PIXELS, "width": PIXELS}, image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5]
    ).save_pretrained(folder)
