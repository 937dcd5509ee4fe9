import numpy as np
import pytest
import torch
from PIL import Image

from seewhy.demo.districts import OBJECTS, PAVEMENTS, Scene
from seewhy.demo.gates import grade, under_heat
from seewhy.demo.photos import draw_photo
from seewhy.demo.pictures import HALF, PIXELS, Photos, draw_photos, paired, seen_alone, seen_under_heat
from seewhy.demo.train_speaking import to_tell
from seewhy.overlay import enlarged


def one_photo() -> Photos:
    """Object 1 over the upper left quarter, object 4 over the lower right one."""
    blank = np.full((1, 3, PIXELS, PIXELS), 100, np.uint8)
    scene = Scene((OBJECTS[1], OBJECTS[4]), PAVEMENTS[0])
    return Photos(blank, blank[..., :HALF], [scene], [[(0.0, 0.0, 0.5, 0.5), (0.5, 0.5, 1.0, 1.0)]])


def test_patches_show_what_covers_them():
    alone = seen_alone(one_photo(), [0])
    expected = torch.full((8, 8), len(OBJECTS))
    expected[:4, :4], expected[4:, 4:] = 1, 4
    assert torch.equal(alone.shows[0].view(8, 8), expected)
    pair = seen_under_heat(one_photo(), [0], np.random.default_rng(0))
    half = torch.full((8, 4), len(OBJECTS))
    half[:4, :2], half[4:, 2:] = 1, 4
    assert torch.equal(pair.shows[0].view(8, 8), torch.cat([half, half], dim=1))


def test_truth_of_a_photo_alone():
    alone = seen_alone(one_photo(), [0])
    expected = torch.zeros(len(OBJECTS))
    expected[[1, 4]] = 1
    assert torch.equal(alone.present[0], expected)
    assert torch.equal(alone.heat[0], expected)
    assert alone.setts.tolist() == [1]
    assert not alone.warmth.any()
    assert to_tell(alone, heat=False) == [((OBJECTS[1], OBJECTS[4]), PAVEMENTS[0], False)]


def test_truth_under_heat(monkeypatch):
    heat = np.zeros((2, 2), np.float32)
    heat[0, 0] = 1
    monkeypatch.setattr("seewhy.demo.pictures.random_map", lambda rng, boxes: heat)
    pair = seen_under_heat(one_photo(), [0], np.random.default_rng(0))
    large = enlarged(heat, PIXELS, HALF)
    assert pair.heat[0, 1].item() == pytest.approx(large[:48, :24].mean(), abs=1e-6)
    assert pair.heat[0, 4].item() == pytest.approx(large[48:, 24:].mean(), abs=1e-6)
    warmth = pair.warmth[0].view(8, 8)
    assert not warmth[:, :4].any()
    assert warmth[0, 4].item() == pytest.approx(1)
    assert warmth[7, 7].item() == pytest.approx(0)
    assert to_tell(pair, heat=True) == [((OBJECTS[1],), PAVEMENTS[0], True)]


def test_training_sees_what_a_study_shows():
    """The overlay put together at 48 x 96 pixels is the overlay of the photo, squashed; but for the seam."""
    rng = np.random.default_rng(3)
    photo = draw_photo(Scene(OBJECTS[:6], PAVEMENTS[0]), rng)
    heat = np.maximum(rng.standard_normal((8, 8)), 0)
    pair, means = under_heat(photo, heat / heat.max())
    squashed = np.asarray(pair.resize((PIXELS, PIXELS), Image.Resampling.BICUBIC)).astype(int)
    half = np.asarray(photo.image.resize((HALF, PIXELS), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    small = enlarged((heat / heat.max()).astype(np.float32), PIXELS, HALF).clip(0, 1)
    mine = paired(half[None], small[None])[0].transpose(1, 2, 0)
    off = np.abs(squashed - mine)
    assert off[:, :46].max() == 0
    assert off[:, 50:].mean() < 2
    assert np.quantile(off[:, 50:], 0.99) < 12
    assert list(means) == list(OBJECTS[:6])


def test_drawn_photos_are_what_they_say():
    photos = draw_photos(6, np.random.default_rng(5))
    assert len(photos) == 6
    for scene, boxes in zip(photos.scenes, photos.boxes, strict=True):
        assert len(scene.objects) == len(boxes)
    shrunk = photos.whole.reshape(6, 3, PIXELS, HALF, 2).mean(-1)
    assert np.abs(shrunk - photos.halves).mean() < 6


def test_grades_by_hand():
    heats = [{"船": 0.9, "箱": 0.41, "車": 0.1}, {"橋": 0.55}]
    # Named: the hot 船, the unsure 箱 (no matter), the cold 車, and 灯台 that is not there; 橋 is missed.
    figures = grade(["船と箱と車と灯台が強調されています。", "何も強調されていません。"], heats)
    assert figures == {"named": 0.5, "hot": 2.0, "false": 0.5}
