import csv

import numpy as np
import pytest
from PIL import Image

from seewhy.demo.districts import DISTRICTS, OBJECTS, PAVEMENTS, PLACES, SETTS, Scene, draw_any
from seewhy.demo.photos import SIZE, draw_photo, write_photos
from seewhy.demo.street_objects import DRAWERS


def small(scene: Scene, seed: int) -> np.ndarray:
    """A photo at the half width that the tiny VLM sees beside an overlay, (96, 48, 3)."""
    image = draw_photo(scene, np.random.default_rng(seed)).image
    return np.asarray(image.resize((48, 96), Image.Resampling.BICUBIC)).astype(float)


def test_every_object_can_be_drawn():
    assert tuple(DRAWERS) == OBJECTS


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_fills_its_box_and_nothing_beyond(name):
    """With the same chances elsewhere, the photo without the object differs inside its box alone."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        photo = draw_photo(Scene((name,), PAVEMENTS[1]), rng)
        empty = draw_photo(Scene((), PAVEMENTS[1]), np.random.default_rng(seed))
        with_it, without = (np.asarray(p.image).astype(float) for p in (photo, empty))
        changed = np.abs(with_it - without).max(-1) > 12
        left, top, right, bottom = photo.boxes[name]
        rows = slice(int(top * SIZE[1]), int(np.ceil(bottom * SIZE[1])) + 1)
        columns = slice(int(left * SIZE[0]), int(np.ceil(right * SIZE[0])) + 1)
        inside = changed[rows, columns]
        # Lines are drawn with a width around the points that make the box.
        assert inside.sum() >= 0.97 * changed.sum()
        assert inside.mean() > 0.2
        assert (right - left) * (bottom - top) < 0.2
        assert changed.any(1)[rows].mean() > 0.85
        assert changed.any(0)[columns].mean() > 0.85


def test_objects_do_not_hide_one_another():
    rng = np.random.default_rng(3)
    for _ in range(30):
        boxes = list(draw_photo(Scene(OBJECTS[:PLACES], SETTS), rng, size=(80, 120)).boxes.values())
        assert len(boxes) == PLACES
        for index, first in enumerate(boxes):
            for second in boxes[index + 1 :]:
                wide = min(first[2], second[2]) - max(first[0], second[0])
                tall = min(first[3], second[3]) - max(first[1], second[1])
                area = min((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
                assert max(0.0, wide) * max(0.0, tall) < 0.15 * area


def test_pavement_shows_at_the_size_the_model_sees():
    setts, asphalt = (small(Scene((), pavement), seed=5) for pavement in PAVEMENTS)
    changed = np.abs(setts - asphalt).max(-1) > 25
    # Three strips of 24 of 240 units each, 9.6 of 96 rows.
    assert changed[23:32].mean() > 0.7
    assert changed[:20].mean() < 0.01


def test_same_seed_same_photo_and_chance_elsewhere():
    scene = Scene(("船", "車"), SETTS)
    assert np.array_equal(small(scene, 1), small(scene, 1))
    assert not np.array_equal(small(scene, 1), small(scene, 2))
    places = {
        tuple(round(edge) for edge in np.array(draw_photo(scene, np.random.default_rng(s)).boxes["船"][:2]) * (2, 3))
        for s in range(40)
    }
    assert len(places) >= PLACES


def test_boxes_are_in_the_order_of_the_scene_and_inside():
    rng = np.random.default_rng(4)
    for _ in range(20):
        scene = draw_any(rng)
        photo = draw_photo(scene, rng, size=(80, 120))
        assert tuple(photo.boxes) == scene.objects
        for left, top, right, bottom in photo.boxes.values():
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1


def test_manifest_keeps_the_truth_to_itself(tmp_path):
    manifest = write_photos(tmp_path, 42, seed=11)
    with manifest.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (tmp_path / "truth.csv").open(encoding="utf-8") as file:
        truth = list(csv.DictReader(file))
    assert list(rows[0]) == ["photo", "district", "year"]
    assert [row["photo"] for row in rows] == [row["photo"] for row in truth]
    counts = [sum(row["district"] == district for row in rows) for district in DISTRICTS]
    assert sorted(counts) == [10, 10, 11, 11]
    assert [row["district"] for row in rows[:4]] != sorted(row["district"] for row in rows[:4])
    for row, facts in zip(rows, truth, strict=True):
        with Image.open(tmp_path / row["photo"]) as image:
            assert image.size == SIZE
            assert image.format == "JPEG"
        assert not any(district in row["photo"] for district in DISTRICTS)
        assert sum(int(facts[name]) for name in OBJECTS) <= PLACES
        assert facts["pavement"] in PAVEMENTS
    again = write_photos(tmp_path / "again", 42, seed=11)
    assert again.read_bytes() == manifest.read_bytes()
    assert (tmp_path / "again" / rows[7]["photo"]).read_bytes() == (tmp_path / rows[7]["photo"]).read_bytes()
