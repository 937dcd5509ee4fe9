"""A heat map laid over its picture, pictures side by side or reduced, and their JPEG bytes."""

import io

import numpy as np
from PIL import Image


def overlay(image: np.ndarray, heat: np.ndarray, *, alpha: float = 0.5) -> np.ndarray:
    """The picture tinted by heat: ``(1 - alpha) * image + alpha * jet(heat)``, rounded.

    Args:
        image: (H, W, 3) uint8 RGB.
        heat: (h, w) of 0 to 1 over the whole image, on any grid: see ``enlarged``.
        alpha: how much the colours cover, in [0, 1].

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: a shape, a type or a number that is none of these.
    """
    _check_picture(image)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha!r}: 0 to 1 is allowed")
    colours = jet(enlarged(heat, image.shape[0], image.shape[1]))
    mixed = (1 - alpha) * image.astype(np.float32) + (255 * alpha) * colours
    return np.rint(mixed).astype(np.uint8)


def enlarged(heat: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w) -> (height, width) float32, bilinear between the centres of the cells; flat beyond the outermost ones.

    A grid finer than the picture is averaged down instead.
    """
    if heat.ndim != 2 or not heat.size:
        raise ValueError(f"heat of shape {heat.shape}: (h, w) is needed")
    grid = Image.fromarray(np.ascontiguousarray(heat, dtype=np.float32))
    return np.asarray(grid.resize((width, height), Image.Resampling.BILINEAR))


def jet(heat: np.ndarray) -> np.ndarray:
    """(...) of 0 to 1 -> (..., 3) float32 RGB of 0 to 1: dark blue, blue, cyan, yellow, red, dark red.

    The map that pictures of Grad-CAM are known by: each colour is a trapezoid of height 1 about its own quarter,

        red(x) = clip(1.5 - |4 x - 3|),  green(x) = clip(1.5 - |4 x - 2|),  blue(x) = clip(1.5 - |4 x - 1|)
    """
    if not np.isfinite(heat).all() or heat.min(initial=0) < -1e-6 or heat.max(initial=0) > 1 + 1e-6:
        raise ValueError(f"heat from {heat.min()} to {heat.max()}: 0 to 1 is allowed")
    peaks = np.array([3, 2, 1], dtype=np.float32)
    return np.clip(1.5 - np.abs(4 * heat[..., None].astype(np.float32) - peaks), 0, 1)


def side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two (H, W, 3) uint8 pictures of one height as one, without a gap.

    Raises:
        ValueError: the heights differ, or one is no such picture.
    """
    _check_picture(left)
    _check_picture(right)
    if left.shape[0] != right.shape[0]:
        raise ValueError(f"pictures of {left.shape[0]} and {right.shape[0]} rows cannot stand side by side")
    return np.concatenate([left, right], axis=1)


def reduced(image: np.ndarray, size_px: int) -> np.ndarray:
    """The picture with a longer side of `size_px` pixels at most; a smaller one as it is."""
    _check_picture(image)
    longer = max(image.shape[:2])
    if longer <= size_px:
        return image
    height, width = (max(1, round(side * size_px / longer)) for side in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def encode_jpeg(rgb: np.ndarray, quality: int = 85) -> bytes:
    """A JPEG of the (H, W, 3) uint8 pixels and of nothing else: no EXIF, no comment, no colour profile."""
    _check_picture(rgb)
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(out, "JPEG", quality=quality)
    return out.getvalue()


def _check_picture(image: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"a picture of shape {image.shape} and type {image.dtype}: (H, W, 3) uint8 is needed")
