"""Pictures drawn a little differently in every epoch: turned, cropped, tilted, mirrored, in other light.

Every draw of a row comes from a generator of its own, numbered by seed, epoch and row (Philox: Salmon et al., Parallel
Random Numbers: As Easy as 1, 2, 3, SC 2011). So a picture is changed in the same way whatever batch it stands in, on
whatever worker, before or after a resume, and no other random state is touched. The changing is kornia's, on the
model's device.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from kornia.enhance import (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_hue,
    adjust_saturation_with_gray_subtraction,
)
from kornia.geometry.transform import get_affine_matrix2d, get_perspective_transform, warp_perspective

DRAWS = 24
"""Numbers from 0 to 1 that a picture takes."""


@dataclass(frozen=True)
class Augmentation:
    """How far a picture is changed.

    Attributes:
        degrees: turned by up to so many either way.
        translate: moved by up to this share of its height and width.
        scale: enlarged by a factor between these.
        shear: degrees, either way, along both axes.
        crop_area: share of the area that a random crop keeps, between these; it is resized to the whole.
        crop_ratio: factor by which the crop is wider than the picture, between these.
        perspective: corners move inwards by up to this share of half a side; for half of the pictures.
        flip: share of the pictures that are mirrored left to right.
        brightness, contrast, saturation: factor between 1 - x and 1 + x.
        hue: turned by up to this share of the circle either way.
    """

    degrees: float = 10.0
    translate: float = 0.05
    scale: tuple[float, float] = (0.95, 1.05)
    shear: float = 5.0
    crop_area: tuple[float, float] = (0.6, 1.0)
    crop_ratio: tuple[float, float] = (0.8, 1.25)
    perspective: float = 0.2
    flip: float = 0.5
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.03


def draws(rows: Sequence[int] | np.ndarray, *, seed: int, epoch: int) -> torch.Tensor:
    """(B, DRAWS) float32 from 0 to 1: what each row's picture is changed by in this epoch."""
    found = np.empty((len(rows), DRAWS), dtype=np.float32)
    for place, row in enumerate(rows):
        philox = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64), counter=[0, int(row), 0, 0])
        found[place] = np.random.Generator(philox).random(DRAWS, dtype=np.float32)
    return torch.from_numpy(found)


@torch.no_grad()
def augmented(pictures: torch.Tensor, drawn: torch.Tensor, how: Augmentation) -> torch.Tensor:
    """(B, 3, H, W) float from 0 to 1, and what `draws` gave for the same rows on the same device -> the same shape."""
    height, width = pictures.shape[-2:]
    moved = warp_perspective(
        pictures,
        _matrices(drawn[:, :20], height, width, how),
        (height, width),
        mode="bilinear",
        padding_mode="reflection",
        align_corners=True,
    )
    factors = 1 + (2 * drawn[:, 20:23] - 1) * drawn.new_tensor([how.brightness, how.contrast, how.saturation])
    lit = adjust_brightness_accumulative(moved, factors[:, 0])
    lit = adjust_contrast_with_mean_subtraction(lit, factors[:, 1])
    lit = adjust_saturation_with_gray_subtraction(lit, factors[:, 2])
    return adjust_hue(lit, (2 * drawn[:, 23] - 1) * how.hue * 2 * torch.pi) if how.hue else lit


def _matrices(drawn: torch.Tensor, height: int, width: int, how: Augmentation) -> torch.Tensor:
    """(B, 3, 3) from a picture's pixels to those of the changed one.

    One matrix for all that moves pixels: each resampling would cost sharpness and time.
    """
    size = drawn.new_tensor([width - 1, height - 1])
    signed = 2 * drawn - 1
    affine = get_affine_matrix2d(
        translations=signed[:, 0:2] * how.translate * size,
        center=(size / 2).expand(len(drawn), 2),
        scale=_between(drawn[:, 2:3], how.scale).expand(len(drawn), 2),
        angle=signed[:, 3] * how.degrees,
        sx=torch.deg2rad(signed[:, 4] * how.shear),
        sy=torch.deg2rad(signed[:, 5] * how.shear),
    )
    corners = drawn.new_tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]).expand(len(drawn), 4, 2)
    moves = drawn[:, 11:19].reshape(-1, 4, 2) * (how.perspective / 2) * (drawn[:, 10] < 0.5)[:, None, None]
    tilted = get_perspective_transform(corners * size, (corners + (1 - 2 * corners) * moves) * size)
    mirror = (drawn[:, 19] < how.flip).float()[:, None]
    flipped = torch.stack([(corners[..., 0] - mirror).abs(), corners[..., 1]], dim=2)
    cropped = get_perspective_transform(_crop(drawn[:, 6:10], corners, how) * size, flipped * size)
    return cropped @ tilted @ affine


def _crop(drawn: torch.Tensor, corners: torch.Tensor, how: Augmentation) -> torch.Tensor:
    """(B, 4, 2) corners of a box within the unit square, of a random area, ratio and place."""
    area, ratio = _between(drawn[:, 0], how.crop_area), _between(drawn[:, 1], how.crop_ratio)
    sides = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=1).clamp(max=1.0)
    return ((1 - sides) * drawn[:, 2:4])[:, None] + corners * sides[:, None]


def _between(drawn: torch.Tensor, ends: tuple[float, float]) -> torch.Tensor:
    return ends[0] + (ends[1] - ends[0]) * drawn
