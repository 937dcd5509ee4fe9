"""The study's own images: each distinct one once, found by words, read one at a time."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from seewhy import schema
from seewhy.app.gallery import Card, Gallery, gallery_of
from seewhy.fetch import Fetch
from seewhy.images import decode, image_id
from seewhy.steps import fetch
from seewhy.steps.once import forget
from seewhy.study import load_study
from tests.app.sample import COUNT, HOSTILE, write_study


@pytest.fixture
def fetched(tmp_path: Path) -> Path:
    """Ten posters of which 4 has the bytes of 1 and 7 is no image; in parts of four rows."""
    path = write_study(tmp_path / "ten")
    (path.parent / "posters/4.png").write_bytes((path.parent / "posters/1.png").read_bytes())
    (path.parent / "posters/7.png").write_text("<html>gone</html>")
    forget()
    study = load_study(str(path))
    stage = Fetch(**fetch.arguments(study))
    keys = fetch.source(study).keys
    for start in range(0, len(keys), 4):
        fetch.table(study).append(stage(keys.slice(start, 4)), generation=1)
    stage.close()
    return path


def made(path: Path) -> Gallery:
    found = gallery_of(load_study(str(path)))
    assert found is not None
    return found


def test_each_distinct_image_stands_once_by_its_first_row(fetched: Path) -> None:
    gallery = made(fetched)
    bytes_of = [(fetched.parent / f"posters/{i}.png").read_bytes() for i in range(COUNT) if i not in (4, 7)]
    assert len(gallery) == len(bytes_of) == 8
    cards = gallery.cards(range(8))
    assert [card.id for card in cards] == [image_id(data) for data in bytes_of]
    assert [gallery.read(card.id) for card in cards] == bytes_of
    assert [card.title for card in cards[:2]] == ["Amber Harbor", "Velvet Tide"]
    assert gallery.card("nothing") is None
    with pytest.raises(KeyError):
        gallery.read("nothing")


def test_words_are_sought_in_titles_targets_and_ids(fetched: Path) -> None:
    gallery = made(fetched)
    cards = gallery.cards(range(8))
    assert gallery.search("").tolist() == list(range(8))
    assert gallery.search("aMBer harbor").tolist() == [0]
    assert gallery.search("harbor velvet").tolist() == []
    assert gallery.search(cards[3].id[:9].upper()).tolist() == [3]
    assert gallery.search(cards[3].id[2:11]).tolist() == []  # the beginning of an id, not its middle
    assert 1 in gallery.search(cards[1].target).tolist()
    assert gallery.search("(").tolist() == [2] == gallery.search("onerror=").tolist()  # no pattern, only letters
    assert cards[2].title.startswith(HOSTILE[:20])


def test_only_what_is_looked_at_is_read(fetched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = made(fetched)
    read: list[list[str]] = []
    whole = pq.ParquetFile.read_row_groups

    def counting(self: pq.ParquetFile, groups: list[int], columns: list[str], **options: object) -> object:
        read.append(columns)
        return whole(self, groups, columns=columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", counting)
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *_, **__: pytest.fail("a whole part was read"))
    gallery.search("film")
    cards: list[Card] = gallery.cards([5, 0])
    assert read == []
    small = gallery.thumbnail(cards[0].id)
    assert small is not None
    assert max(decode(small).shape[:2]) <= 220
    assert gallery.thumbnail(cards[0].id) is small
    assert read == [["image"]]


def test_a_sample_is_the_same_for_the_same_seed(fetched: Path) -> None:
    gallery = made(fetched)
    ids = [card.id for card in gallery.cards(range(8))]
    first = gallery.sample(5, 0)
    assert len(set(first)) == 5
    assert set(first) <= set(ids)
    assert made(fetched).sample(5, 0) == first
    assert any(gallery.sample(5, seed) != first for seed in (1, 2))
    assert sorted(gallery.sample(50, 3)) == sorted(ids)


def test_before_the_first_fetch_it_is_empty_and_without_images_there_is_none(tmp_path: Path) -> None:
    path = write_study(tmp_path / "ten")
    forget()
    assert len(made(path)) == 0
    assert made(path).sample(5, 0) == []
    manifest = {"path": "films.csv", "text": "title", "target": "rating"}
    other = write_study(tmp_path / "texts", manifest=manifest, path="text", score=None)
    forget()
    assert gallery_of(load_study(str(other))) is None
    assert schema.ID in fetch.images_of(load_study(str(path))).column_names
