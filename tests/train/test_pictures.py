"""Pictures by row: the same pixels whatever the memory, parts read about once, what is kept is not read again."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seewhy.failure import Fatal
from seewhy.images import decode
from seewhy.table import read_rows
from seewhy.train import pictures as room
from seewhy.train.pictures import Pictures, fit_to, shuffled_parts
from tests.train.image_models import Photos, encoded, noisy, save_photos

SIZE = 8 * 8 * 3


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    images = [noisy((i * 4, 255 - i * 4, 128), i, height=20 + i % 5, width=30) for i in range(60)]
    return save_photos(tmp_path_factory.mktemp("photos"), images, part_rows=12)


def pictures(photos: Photos, *, max_bytes: int = 10**9, window: int = 16) -> Pictures:
    part, position = (photos.table[name].to_numpy() for name in ("part", "position"))
    options = {"height": 8, "width": 8, "max_bytes": max_bytes, "window": window}
    return Pictures(photos.parts, part, position, photos.table["id"], **options)  # type: ignore[arg-type]


class Decoded:
    """Counts the images that are decoded, by their number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, photos: Photos) -> None:
        self.rows: list[int] = []
        numbers = {encoded(image): number for number, image in enumerate(photos.images)}

        def counted(data: bytes) -> np.ndarray:
            self.rows.append(numbers[data])
            return decode(data)

        monkeypatch.setattr(room, "decode", counted)


def test_the_whole_picture_is_fitted_and_one_of_that_size_stays_as_it_is() -> None:
    halves = np.zeros((40, 60, 3), dtype=np.uint8)
    halves[:, 30:] = [200, 100, 50]
    small = fit_to(halves, 4, 6)
    assert small.shape == (4, 6, 3)
    assert (small[:, :2] == 0).all()
    assert (small[:, 4:] == [200, 100, 50]).all()
    edge = small[:, 2].astype(int) + small[:, 3]  # is still in the middle, so nothing was cut off
    assert np.abs(edge - [200, 100, 50]).max() <= 1
    assert fit_to(halves, 40, 60) is halves


def expected(photos: Photos, rows: list[int]) -> np.ndarray:
    resized = [
        Image.fromarray(photos.images[row]).resize((8, 8), Image.Resampling.BILINEAR, reducing_gap=3.0) for row in rows
    ]
    return np.stack([np.asarray(one) for one in resized])


@pytest.mark.parametrize("room_for", [0, 25, 60])
def test_any_rows_in_any_order_whatever_is_kept(photos: Photos, room_for: int) -> None:
    found = pictures(photos, max_bytes=room_for * SIZE)
    for rows in ([59, 0, 13, 11, 12], [5], list(range(60))[::-1]):
        np.testing.assert_array_equal(found.reading([np.array(rows)])(np.array(rows)), expected(photos, rows))


def test_what_fits_is_decoded_once_and_travels(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Decoded(monkeypatch, photos)
    found = pictures(photos, max_bytes=60 * SIZE)
    for _ in range(3):
        plan = found.sequential(np.arange(60), 7)
        for rows in plan:
            found.reading(plan)(rows)
    assert sorted(counter.rows) == list(range(60))
    sent = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(sent.reading([])(np.array([7, 3])), expected(photos, [7, 3]))
    assert len(counter.rows) == 60


def test_what_is_not_complete_travels_without_pictures(photos: Photos) -> None:
    found = pictures(photos, max_bytes=60 * SIZE)
    found.reading([])(np.arange(59))
    assert len(pickle.dumps(found)) < 30 * SIZE
    sent = pickle.loads(pickle.dumps(found))
    assert not sent.is_kept(np.arange(60)).any()
    np.testing.assert_array_equal(sent.reading([])(np.array([7, 3])), expected(photos, [7, 3]))


def test_a_study_larger_than_memory_is_decoded_once_an_epoch(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory but for the window: every picture once an epoch, but for those that wrap around the ring."""
    counter = Decoded(monkeypatch, photos)
    found = pictures(photos, max_bytes=0, window=16)
    part = photos.table["part"].to_numpy()
    held = []
    for epoch in range(3):
        plan = shuffled_parts(part, batch_size=4, window=16, seed=0, epoch=epoch)
        reading = found.reading(plan)
        for rows in plan:
            np.testing.assert_array_equal(reading(rows), expected(photos, rows.tolist()))
            held.append(len(reading._held))
        assert not reading._held
    assert sorted(counter.rows) == sorted(list(range(60)) * 3)
    assert max(held) <= 16 + 12  # what is due within the window, and the rest of a part


def test_a_part_is_read_about_once_an_epoch(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch of 4 mixes the rows of 3 parts or so: read as they are asked for, that would be some 45 reads."""
    read: list[int] = []

    def counted(parts: list[str], where: pa.Table, columns: list[str]) -> Iterator[pa.Table]:
        read.append(where["part"][0].as_py())
        return read_rows(parts, where, columns)

    monkeypatch.setattr(room, "read_rows", counted)
    found = pictures(photos, max_bytes=0, window=16)
    plan = shuffled_parts(photos.table["part"].to_numpy(), batch_size=4, window=16, seed=0, epoch=0)
    reading = found.reading(plan)
    for rows in plan:
        reading(rows)
    assert set(read) == set(range(5))
    assert len(read) <= 5 + 2  # the last ones wrap around the ring: some of their rows come first
    read.clear()
    plan = found.sequential(np.arange(60), 8)
    reading = found.reading(plan)
    for rows in plan:
        reading(rows)
    assert sorted(read) == [0, 1, 2, 3, 4]


def test_half_of_the_memory_saves_some_decoding(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Decoded(monkeypatch, photos)
    found = pictures(photos, max_bytes=40 * SIZE, window=16)  # room for 40, of which the window takes 20
    for epoch in range(3):
        plan = shuffled_parts(photos.table["part"].to_numpy(), batch_size=4, window=16, seed=0, epoch=epoch)
        reading = found.reading(plan)
        for rows in plan:
            reading(rows)
    assert len(counter.rows) == 60 + 2 * 40
    assert found.is_kept(np.arange(60)).sum() == 20


def test_one_workers_share_is_all_that_it_decodes(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Decoded(monkeypatch, photos)
    found = pictures(photos, max_bytes=0, window=16)
    plan = [
        rows[1::2] for rows in shuffled_parts(photos.table["part"].to_numpy(), batch_size=4, window=16, seed=0, epoch=0)
    ]
    reading = found.reading(plan)
    for rows in plan:
        reading(rows)
    assert sorted(counter.rows) == sorted(np.concatenate(plan).tolist())


def test_an_image_that_cannot_be_decoded_is_named(photos: Photos, tmp_path: Path) -> None:
    broken = str(tmp_path / "part.parquet")
    pq.write_table(pa.table({"image": [encoded(photos.images[0]), b"\xff\xd8\xff\xe0 no more"]}), broken)
    found = Pictures(
        [broken], np.zeros(2, int), np.arange(2), pa.array(["good", "bad"]), height=8, width=8, max_bytes=0, window=1
    )
    with pytest.raises(Fatal, match="image bad cannot be decoded"):
        found.reading([])(np.array([0, 1]))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=300), st.integers(1, 40), st.integers(1, 100), st.integers(0, 3)
)
def test_every_row_is_in_one_batch(parts: list[int], batch_size: int, window: int, epoch: int) -> None:
    options = {"batch_size": batch_size, "window": window, "seed": 1}
    batches = shuffled_parts(np.array(parts), epoch=epoch, **options)  # type: ignore[arg-type]
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(parts)))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    again = shuffled_parts(np.array(parts), epoch=epoch, **options)  # type: ignore[arg-type]
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))
    assert len(shuffled_parts(np.array(parts), epoch=9, **options)) == len(batches)  # type: ignore[arg-type]


def test_a_batch_mixes_parts_and_a_part_is_needed_for_a_while_only() -> None:
    part = np.repeat(np.arange(200), 50)
    first, second = (shuffled_parts(part, batch_size=25, window=1000, seed=0, epoch=epoch) for epoch in (0, 1))
    assert np.mean([len(set(part[batch])) for batch in first]) > 13  # of the 20 or 21 that a window spans
    for one in range(200):
        at = np.flatnonzero([one in part[batch] for batch in first])
        gaps = np.diff(np.r_[at, at[0] + len(first)])  # on the ring
        assert len(first) - gaps.max() <= (1000 + 50) / 25 + 1
    assert {tuple(sorted(b)) for b in first}.isdisjoint({tuple(sorted(b)) for b in second})


def test_a_small_study_is_shuffled_whole() -> None:
    """Up to the window it does not matter how the rows are stored."""
    one = shuffled_parts(np.zeros(100, int), batch_size=10, window=100, seed=0, epoch=0)
    other = shuffled_parts(np.arange(100), batch_size=10, window=100, seed=0, epoch=0)
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    places = np.concatenate(one)
    assert abs(np.corrcoef(places, np.arange(100))[0, 1]) < 0.3
