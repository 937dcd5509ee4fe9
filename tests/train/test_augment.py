"""What is drawn for a row, and what it does to a picture; each kind of change by itself against numbers by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from seewhy.train.augment import DRAWS, Augmentation, augmented, draws

STILL = Augmentation(
    degrees=0, translate=0, scale=(1, 1), shear=0, crop_area=(1, 1), crop_ratio=(1, 1), perspective=0, flip=0,
    brightness=0, contrast=0, saturation=0, hue=0,
)  # fmt: skip


def picture() -> torch.Tensor:
    """Red rises to the right, green downwards, blue is 0.5 in the lower left corner's quarter."""
    image = torch.zeros(3, 9, 9)
    image[0] = torch.linspace(0.2, 0.8, 9)
    image[1] = torch.linspace(0.2, 0.8, 9)[:, None]
    image[2, 5:, :4] = 0.5
    return image[None]


def drawn(**at: float) -> torch.Tensor:
    """All draws in the middle, where nothing changes, but for some."""
    found = torch.full((1, DRAWS), 0.5)
    for place, value in at.items():
        found[0, int(place[1:])] = value
    return found


def test_draws_belong_to_the_row_and_the_epoch_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    whole = draws(range(50), seed=3, epoch=1)
    assert whole.shape == (50, DRAWS)
    assert torch.equal(draws([40, 7], seed=3, epoch=1), whole[[40, 7]])
    assert not torch.isclose(draws([7], seed=3, epoch=2), whole[7]).any()
    assert not torch.isclose(draws([7], seed=4, epoch=1), whole[7]).any()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]


def test_draws_are_even() -> None:
    many = draws(range(2000), seed=0, epoch=0).numpy()
    assert many.min() >= 0
    assert many.max() < 1
    assert np.abs(many.mean(axis=0) - 0.5).max() < 4 * np.sqrt(1 / 12 / 2000)
    correlations = np.corrcoef(many.T) - np.eye(DRAWS)
    assert np.abs(correlations).max() < 0.1


def test_without_any_change_a_picture_stays() -> None:
    torch.testing.assert_close(augmented(picture(), draws([1], seed=0, epoch=0), STILL), picture(), atol=1e-5, rtol=0)


def test_flip() -> None:
    found = augmented(picture(), drawn(_19=0.4), replace(STILL, flip=0.5))
    torch.testing.assert_close(found, picture().flip(3), atol=1e-5, rtol=0)
    kept = augmented(picture(), drawn(_19=0.6), replace(STILL, flip=0.5))
    torch.testing.assert_close(kept, picture(), atol=1e-5, rtol=0)


def test_translate() -> None:
    found = augmented(picture(), drawn(_0=1.0), replace(STILL, translate=0.25))  # by 2 of 9 pixels to the right
    torch.testing.assert_close(found[..., 2:], picture()[..., :-2], atol=1e-5, rtol=0)


def test_turning_by_a_right_angle_to_the_right() -> None:
    found = augmented(picture(), drawn(_3=1.0), replace(STILL, degrees=90))
    torch.testing.assert_close(found, torch.rot90(picture(), -1, (2, 3)), atol=1e-4, rtol=0)


def test_a_crop_is_enlarged_to_the_whole() -> None:
    found = augmented(picture(), drawn(_6=0.0, _8=0.0, _9=0.0), replace(STILL, crop_area=(0.25, 1)))
    torch.testing.assert_close(found[0, 0, 0], torch.linspace(0.2, 0.5, 9), atol=1e-5, rtol=0)  # the left half
    torch.testing.assert_close(found[0, 1, :, 0], torch.linspace(0.2, 0.5, 9), atol=1e-5, rtol=0)
    right = augmented(picture(), drawn(_6=0.0, _8=1.0, _9=0.0), replace(STILL, crop_area=(0.25, 1)))
    torch.testing.assert_close(right[0, 0, 0], torch.linspace(0.5, 0.8, 9), atol=1e-5, rtol=0)


def test_perspective_moves_the_drawn_corner_inwards() -> None:
    moves = {f"_{place}": 0.0 for place in range(11, 19)}
    how = replace(STILL, perspective=0.5)
    found = augmented(picture(), drawn(**{**moves, "_10": 0.0, "_11": 1.0, "_12": 1.0}), how)
    torch.testing.assert_close(found[0, :, 2, 2], picture()[0, :, 0, 0], atol=1e-4, rtol=0)  # a quarter of 8 pixels
    torch.testing.assert_close(found[0, :, 8, 8], picture()[0, :, 8, 8], atol=1e-4, rtol=0)
    without = augmented(picture(), drawn(**{**moves, "_10": 0.9, "_11": 1.0, "_12": 1.0}), how)
    torch.testing.assert_close(without, picture(), atol=1e-5, rtol=0)


def test_light_and_colours() -> None:
    brighter = augmented(picture(), drawn(_20=1.0), replace(STILL, brightness=0.2))
    torch.testing.assert_close(brighter, (picture() * 1.2).clamp(max=1), atol=1e-5, rtol=0)
    grey = augmented(picture(), drawn(_22=0.0), replace(STILL, saturation=1.0))
    torch.testing.assert_close(grey[0, 0], grey[0, 2], atol=1e-5, rtol=0)
    flat = augmented(picture(), drawn(_21=0.0), replace(STILL, contrast=1.0))
    assert float(flat.std()) < 1e-5
    assert 0.3 < float(flat.mean()) < 0.6
    red = torch.zeros(1, 3, 4, 4)
    red[:, 0] = 1
    turned = augmented(red, drawn(_23=1.0), replace(STILL, hue=1 / 3))
    torch.testing.assert_close(turned, red[:, [2, 0, 1]], atol=1e-4, rtol=0)  # green


@pytest.mark.parametrize("shape", [(32, 32), (24, 40)])
def test_all_changes_together_leave_a_picture(shape: tuple[int, int]) -> None:
    """In range, finite, each row changed by its own draws and by nothing of its neighbours."""
    pictures = torch.rand(16, 3, *shape, generator=torch.Generator().manual_seed(0))
    numbers = draws(range(16), seed=0, epoch=0)
    together = augmented(pictures, numbers, Augmentation())
    assert together.shape == pictures.shape
    assert torch.isfinite(together).all()
    assert 0 <= float(together.min()) <= float(together.max()) <= 1
    alone = torch.cat([augmented(pictures[i : i + 1], numbers[i : i + 1], Augmentation()) for i in range(16)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert float((together - pictures).abs().mean(dim=(1, 2, 3)).min()) > 0.02
