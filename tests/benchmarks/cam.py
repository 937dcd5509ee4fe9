"""Grad-CAM maps a second: ours beside the library grad-cam and beside a bare forward pass, on the same ResNet-50.

    python tests/benchmarks/cam.py [--quick]

Each side makes maps of the images' own size for the same batches and classes; the rounds of the three alternate in one
process, and ratios are medians over the rounds. What is bare is the model's answers alone, without a graph.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from grad_cam_library import HOW, Logits, library
from torch import nn
from transformers import AutoModelForImageClassification, ResNetConfig

from seewhy.cam import activation_maps
from seewhy.cam_layers import find_layer
from seewhy.heat import compact, heat_of
from seewhy.overlay import enlarged

BATCH, SIDE, CLASSES = 32, 256, 1000


def ours(model: nn.Module, pixels: torch.Tensor, classes: list[int]) -> np.ndarray:
    """(B, H, W), by way of the bytes that a table keeps; the pixels lie in memory as the stage has them lie."""
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    maps = activation_maps(model, pixels, layer=find_layer(model), explain=classes).maps.cpu().numpy()
    return np.stack([enlarged(heat_of(compact(raw)[0], *raw.shape), *pixels.shape[2:]) for raw in maps])


def theirs(cams: Any, model: nn.Module, pixels: torch.Tensor, classes: list[int]) -> np.ndarray:
    targets = [cams.utils.model_targets.ClassifierOutputTarget(one) for one in classes]
    with cams.GradCAM(Logits(model), [find_layer(model).module]) as cam:
        return cam(pixels, targets)


def bare(model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(pixels).logits


def timed(work: Callable[[], Any], device: torch.device, batches: int) -> float:
    """Images a second."""
    started = time.perf_counter()
    for _ in range(batches):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return batches * BATCH / (time.perf_counter() - started)


def compare(device: torch.device, *, rounds: int, batches: int, side: int) -> list[dict[str, object]]:
    torch.manual_seed(0)
    config = ResNetConfig(id2label={i: str(i) for i in range(CLASSES)})
    model = AutoModelForImageClassification.from_config(config).to(device).eval()
    pixels = torch.randn(BATCH, 3, side, side, device=device)
    classes = torch.randint(0, CLASSES, (BATCH,)).tolist()
    sides: dict[str, Callable[[], Any]] = {
        "forward": lambda: bare(model, pixels),
        "ours": lambda: ours(model, pixels, classes),
    }
    try:
        cams = library()
        sides["library"] = lambda: theirs(cams, model, pixels, classes)
    except ImportError:
        cams = None
    for work in sides.values():
        work()
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, work in sides.items():
            rates[name].append(timed(work, device, batches))
    seen = {f"{name}_images_per_sec": [round(rate, 2) for rate in found] for name, found in rates.items()}
    rows = []
    for name, beside, must in (
        ("library", "the library grad-cam", "5 or more"),
        ("forward", "a bare forward pass", "0.85 or more"),
    ):
        both = zip(rates["ours"], rates.get(name, []), strict=False)
        ratio = round(statistics.median([a / b for a, b in both]), 3) if name in rates else None
        rows.append(
            {
                "work": f"Grad-CAM, ResNet-50, {side}x{side}, batch {BATCH}, {device.type}",
                "beside": beside,
                "ratio": ratio,
                "must": must,
                "seen": seen if ratio else {"reason": HOW},
                "hardware": hardware(device),
            }
        )
    return rows


def hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"{platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores, torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run: one round of small images")
    quick = parser.parse_args().quick
    side = 64 if quick else SIDE
    results = compare(torch.device("cpu"), rounds=1 if quick else 5, batches=1, side=side)
    if torch.cuda.is_available():
        results += compare(torch.device("cuda"), rounds=1 if quick else 5, batches=10, side=side)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
