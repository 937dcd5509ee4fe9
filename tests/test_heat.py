"""Stored maps, and the laws of random ones."""

import numpy as np
import pytest

from seewhy.heat import compact, heat_of, random_heat


def test_a_map_is_stored_as_shares_of_its_largest_value():
    cells, scale = compact(np.array([[0, 2.5, 5], [1, 0.004, 4]], dtype=np.float32))
    assert (list(cells), scale) == ([0, 128, 255, 51, 0, 204], 5)
    heat = heat_of(cells, 2, 3)
    np.testing.assert_allclose(heat, np.array([[0, 128, 255], [51, 0, 204]]) / 255, rtol=1e-6)
    assert heat.dtype == np.float32
    assert compact(heat * scale) == (cells, pytest.approx(5))
    assert compact(np.array([[0.0, 1e-30]]))[0] == bytes([0, 255])


def test_a_map_of_zeros_has_no_scale():
    assert compact(np.zeros((2, 2), dtype=np.float32)) == (bytes(4), 0)
    assert heat_of(bytes(4), 2, 2).tolist() == [[0, 0], [0, 0]]


def test_bytes_of_another_grid_are_refused():
    with pytest.raises(ValueError, match="6 bytes is not one of 2 x 2"):
        heat_of(bytes(6), 2, 2)


@pytest.mark.parametrize("shape", [(7, 7), (1, 1), (5, 12), (1, 9), (24, 24)])
def test_a_random_map_has_the_same_values_and_follows_its_seed_alone(shape):
    heat = np.random.default_rng(0).random(shape).astype(np.float32)
    found = random_heat(heat, "row 1")
    assert (found.shape, found.dtype) == (heat.shape, heat.dtype)
    np.testing.assert_array_equal(np.sort(found, axis=None), np.sort(heat, axis=None))
    np.testing.assert_array_equal(found, random_heat(heat, "row 1"))
    # where the values come from does not matter, only which they are
    np.testing.assert_array_equal(found, random_heat(heat[::-1, ::-1], "row 1"))
    if heat.size > 1:
        assert not np.array_equal(found, random_heat(heat, "row 2"))


def test_a_random_map_is_smooth():
    heat = np.arange(144.0).reshape(12, 12)
    neighbours, shuffled = [], []
    for i in range(50):
        found = random_heat(heat, f"row {i}")
        neighbours.append(np.corrcoef(found[:, 1:].ravel(), found[:, :-1].ravel())[0, 1])
        mixed = np.random.default_rng(i).permutation(heat.ravel()).reshape(12, 12)
        shuffled.append(np.corrcoef(mixed[:, 1:].ravel(), mixed[:, :-1].ravel())[0, 1])
    assert np.mean(neighbours) > 0.7
    assert abs(np.mean(shuffled)) < 0.1


def test_no_place_is_hot_more_often_than_another():
    heat = np.zeros((7, 7))
    heat[0, 0] = 1
    count = sum(random_heat(heat, f"row {i}") for i in range(4900))
    # 100 a place, with a standard deviation of 10: a field smoothed up to its edges puts 170 into each corner
    assert count.min() > 55
    assert count.max() < 145
