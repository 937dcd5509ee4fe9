"""The baseline of colours: shares by hand, what it can tell, and what it cannot."""

from pathlib import Path

import numpy as np

from seewhy.train.colours import all_colours, colour_outputs, colour_shares
from seewhy.train.crossfit import Split
from seewhy.train.pictures import Pictures
from tests.train.image_models import noisy, save_photos


def test_shares_by_hand() -> None:
    picture = np.zeros((2, 4, 3), dtype=np.uint8)
    picture[0, 0] = [63, 63, 63]  # still the lowest level
    picture[0, 1] = [64, 0, 0]
    picture[1, :2] = [255, 128, 192]
    shares = colour_shares(picture)
    assert shares.shape == (64,)
    assert {place: share for place, share in enumerate(shares.tolist()) if share} == {
        0: 5 / 8,
        16: 1 / 8,
        3 * 16 + 2 * 4 + 3: 2 / 8,
    }


def test_all_colours_are_those_of_each_row_whatever_the_memory(tmp_path: Path) -> None:
    images = [noisy((40 * i, 80, 200), i, height=8, width=8) for i in range(6)]
    photos = save_photos(tmp_path, images, part_rows=4)
    order = np.array([5, 0, 3, 1, 4, 2])
    part, position = (photos.table[name].to_numpy()[order] for name in ("part", "position"))
    for max_bytes in (0, 10**6):
        pictures = Pictures(
            photos.parts,
            part,
            position,
            photos.table["id"].take(order),
            height=8,
            width=8,
            max_bytes=max_bytes,
            window=2,
        )
        found = all_colours(pictures, here=True)
        np.testing.assert_array_equal(found, [colour_shares(images[row]) for row in order])
        assert pictures.is_kept(np.arange(6)).all() == (max_bytes > 0)


def test_colours_tell_colours_and_not_places() -> None:
    """Four classes: red or blue, bright on the left or on the right."""
    rng = np.random.default_rng(0)
    target = np.arange(120) % 4
    shares = []
    for one in target:
        picture = rng.integers(0, 60, (8, 8, 3), dtype=np.uint8)
        picture[:, :4] += np.uint8(100 * (one >= 2))
        picture[:, 4:] += np.uint8(100 * (one < 2))
        picture[..., 0 if one % 2 else 2] += np.uint8(70)
        shares.append(colour_shares(picture))
    split = Split(
        tuple("abcd"), target.astype(float), np.arange(120), (np.arange(120) // 4 % 5).astype(np.int32), tuple(range(5))
    )
    said = colour_outputs(np.array(shares), split)
    assert set(said) == {"majority", "logistic_colours"}
    best = said["logistic_colours"].argmax(axis=1)
    assert (best % 2 == target % 2).all()
    assert 0.2 < (best == target).mean() < 0.75
