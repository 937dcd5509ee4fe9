import numpy as np
import pytest

from seewhy.demo.maps import HOT, box_means, random_map

BOXES = [(0.05, 0.05, 0.45, 0.3), (0.55, 0.7, 0.95, 0.95)]


def test_means_over_boxes_by_hand():
    heat = np.zeros((6, 4))
    heat[:3, 2:] = 1
    heat[2, 2] = 0.4
    boxes = [(0.5, 0.0, 1.0, 0.5), (0.0, 0.0, 1.0, 1.0), (0.0, 0.5, 0.5, 1.0), (0.5, 1 / 3, 0.75, 0.5)]
    assert box_means(heat, boxes) == pytest.approx([5.4 / 6, 5.4 / 24, 0, 0.4])


def test_random_maps_are_maps():
    rng = np.random.default_rng(0)
    maps = [random_map(rng, BOXES) for _ in range(400)]
    assert all(heat.min() >= 0 and heat.max() in (0, pytest.approx(1)) for heat in maps)
    assert {heat.shape[0] for heat in maps} == {heat.shape[1] for heat in maps} == set(range(4, 17))
    empty = np.mean([heat.max() == 0 for heat in maps])
    assert 0.005 < empty < 0.07


def test_objects_are_often_hot_and_often_cold():
    rng = np.random.default_rng(1)
    means = np.array([box_means(random_map(rng, BOXES), BOXES) for _ in range(400)])
    assert 0.25 < (means >= HOT).mean() < 0.75
    assert ((means >= HOT).sum(1) == 1).mean() > 0.15  # one hot and the other cold


def test_a_photo_without_objects_gets_a_map_too():
    rng = np.random.default_rng(2)
    assert max(random_map(rng, []).max() for _ in range(10)) == pytest.approx(1)
