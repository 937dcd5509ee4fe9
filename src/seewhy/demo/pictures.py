"""What the tiny VLM is trained on, at the 96 x 96 pixels that its processor makes: posters, photos, photos with maps.

A photo and its overlay side by side, squashed to a square, give each of them half the width. Squashing is linear, so
the overlay is put together at that size, and every photo can be seen under as many maps as there are steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from seewhy.demo.districts import OBJECTS, PAVEMENTS, Scene, draw_any
from seewhy.demo.maps import box_means, random_map
from seewhy.demo.photos import Box, draw_photo
from seewhy.demo.posters import draw_factors, draw_poster
from seewhy.overlay import enlarged, jet

PIXELS = 96
HALF = PIXELS // 2


def draw_pool(count: int, rng: np.random.Generator) -> tuple[torch.Tensor, list[dict[str, str]]]:
    """Posters at the size that the processor makes of them, (N, 3, 96, 96) uint8, and their factors."""
    pool = np.empty((count, 3, PIXELS, PIXELS), np.uint8)
    drawn = []
    for image in pool:
        factors = draw_factors(rng)
        image[:] = _squashed(draw_poster(factors, rng), PIXELS)
        drawn.append(factors)
    return torch.from_numpy(pool), drawn


def pixels(pool: torch.Tensor) -> torch.Tensor:
    """uint8 as the processor normalises it, to -1 .. 1."""
    return pool.float() / 127.5 - 1


@dataclass(frozen=True)
class Photos:
    """Drawn photos of scenes that belong to no district.

    Attributes:
        whole: (N, 3, 96, 96) uint8, the photo alone.
        halves: (N, 3, 96, 48) uint8, the photo as the left half of a pair.
        scenes, boxes: what each shows and where; the boxes in the order of the scene's objects.
    """

    whole: np.ndarray
    halves: np.ndarray
    scenes: list[Scene]
    boxes: list[list[Box]]

    def __len__(self) -> int:
        return len(self.scenes)


def draw_photos(count: int, rng: np.random.Generator) -> Photos:
    whole = np.empty((count, 3, PIXELS, PIXELS), np.uint8)
    halves = np.empty((count, 3, PIXELS, HALF), np.uint8)
    scenes, boxes = [], []
    for index in range(count):
        scene = draw_any(rng)
        photo = draw_photo(scene, rng, size=(160, 240))
        whole[index], halves[index] = _squashed(photo.image, PIXELS), _squashed(photo.image, HALF)
        scenes.append(scene)
        boxes.append(list(photo.boxes.values()))
    return Photos(whole, halves, scenes, boxes)


def _squashed(image: Image.Image, width: int) -> np.ndarray:
    return np.asarray(image.resize((width, PIXELS), Image.Resampling.BICUBIC)).transpose(2, 0, 1)


@dataclass(frozen=True)
class Sight:
    """What there is to be told about one batch of photos, with or without maps.

    Attributes:
        images: (N, 3, 96, 96) uint8.
        present: (N, objects) 1 where the photo shows the object.
        setts: (N,) 1 where the pavement is the first of PAVEMENTS.
        heat: (N, objects) mean heat over the object's box; 0 where it is absent, 1 where there is no map.
        shows: (N, 64) the object whose box covers most of the patch of 12 x 12 pixels, len(OBJECTS) for none.
        warmth: (N, 64) mean heat of the patches of the right half, 0 elsewhere.
    """

    images: torch.Tensor
    present: torch.Tensor
    setts: torch.Tensor
    heat: torch.Tensor
    shows: torch.Tensor
    warmth: torch.Tensor


def seen_alone(photos: Photos, rows: Sequence[int]) -> Sight:
    """Photos without a map."""
    present, setts, _ = _truth(photos, rows, None)
    shows = torch.from_numpy(np.stack([_shown(photos, row, 8).ravel() for row in rows]))
    images = torch.from_numpy(photos.whole[np.asarray(rows)])
    return Sight(images, present, setts, present.clone(), shows, torch.zeros(len(rows), 64))


def seen_under_heat(photos: Photos, rows: Sequence[int], rng: np.random.Generator) -> Sight:
    """Photo and overlay side by side, each under a fresh random map."""
    maps = np.stack([enlarged(random_map(rng, photos.boxes[row]), PIXELS, HALF) for row in rows]).clip(0, 1)
    present, setts, heat = _truth(photos, rows, maps)
    shows = torch.from_numpy(np.stack([np.tile(_shown(photos, row, 4), 2).ravel() for row in rows]))
    warmth = np.zeros((len(rows), 8, 8), np.float32)
    warmth[:, :, 4:] = maps.reshape(len(rows), 8, 12, 4, 12).mean((2, 4))
    images = torch.from_numpy(paired(photos.halves[np.asarray(rows)], maps))
    return Sight(images, present, setts, heat, shows, torch.from_numpy(warmth.reshape(-1, 64)))


def paired(halves: np.ndarray, maps: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Halves (N, 3, 96, 48) uint8 and maps (N, 96, 48) as pairs (N, 3, 96, 96) uint8: photo, then its overlay."""
    colours = jet(maps).transpose(0, 3, 1, 2) * 255
    mixed = np.rint((1 - alpha) * halves + alpha * colours).astype(np.uint8)
    return np.concatenate([halves, mixed], axis=3)


def _truth(
    photos: Photos, rows: Sequence[int], maps: np.ndarray | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    present, heat = torch.zeros(len(rows), len(OBJECTS)), torch.zeros(len(rows), len(OBJECTS))
    setts = torch.zeros(len(rows))
    for index, row in enumerate(rows):
        scene = photos.scenes[row]
        places = [OBJECTS.index(name) for name in scene.objects]
        present[index, places] = 1
        setts[index] = float(scene.pavement == PAVEMENTS[0])
        if maps is not None and places:
            heat[index, places] = torch.from_numpy(box_means(maps[index], photos.boxes[row])).float()
    return present, setts, heat


def _shown(photos: Photos, row: int, columns: int) -> np.ndarray:
    """(8, columns) int64: which object's box covers most of each patch; len(OBJECTS) where none covers a third."""
    most, shown = np.full((8, columns), 1 / 3), np.full((8, columns), len(OBJECTS))
    tops, lefts = np.arange(8) / 8, np.arange(columns) / columns
    for name, (left, top, right, bottom) in zip(photos.scenes[row].objects, photos.boxes[row], strict=True):
        tall = np.clip(np.minimum(bottom, tops + 1 / 8) - np.maximum(top, tops), 0, None) * 8
        wide = np.clip(np.minimum(right, lefts + 1 / columns) - np.maximum(left, lefts), 0, None) * columns
        cover = tall[:, None] * wide[None]
        shown[cover > most] = OBJECTS.index(name)
        most = np.maximum(most, cover)
    return shown
