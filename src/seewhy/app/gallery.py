"""The study's own images: found by title, target or id, and read a few at a time from where they lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seewhy import schema
from seewhy.hiding import told
from seewhy.images import BadImage, thumbnail
from seewhy.report.items import excerpt
from seewhy.steps import fetch
from seewhy.steps.joins import first_rows
from seewhy.steps.rows import manifest_rows
from seewhy.study import Study
from seewhy.table import read_rows

THUMBNAIL_PX = 220


@dataclass(frozen=True)
class Card:
    """An image of the study as the gallery shows it. `title` and `target` are untrusted."""

    id: str
    title: str
    target: str


class Gallery:
    """A study's distinct images that were fetched, in the manifest's order; of rows that share one the first counts.

    Holds keys, titles and targets; an image is read when it is asked for, and no other with it.

    Args:
        keys: id (image id), title, target (strings or null), part, position.
        parts: URLs of the images' parts.
    """

    def __init__(self, keys: pa.Table, parts: Sequence[str]) -> None:
        self._keys, self._parts = keys.combine_chunks(), tuple(parts)
        self.thumbnail = lru_cache(maxsize=512)(self._thumbnail)

    def __len__(self) -> int:
        return len(self._keys)

    def search(self, words: str) -> np.ndarray:
        """(M,) places of the images whose title, target or id holds every word, whatever its case; all without any.

        Of an id a word must be the beginning.
        """
        found = np.ones(len(self._keys), bool)
        for word in words.split():
            held = [pc.match_substring(self._keys[name], word, ignore_case=True) for name in ("title", "target")]
            held.append(pc.starts_with(self._keys[schema.ID], word.lower()))
            found &= np.any([np.asarray(one.fill_null(False)) for one in held], axis=0)
        return np.flatnonzero(found)

    def cards(self, places: Sequence[int] | np.ndarray) -> list[Card]:
        rows = self._keys.select([schema.ID, "title", "target"]).take(pa.array(places, pa.int64())).to_pylist()
        return [
            Card(
                row[schema.ID],
                excerpt(told(row["title"] or ""), 64) or f"Image {row[schema.ID][:8]}",
                excerpt(row["target"] or "", 24),
            )
            for row in rows
        ]

    def card(self, key: str) -> Card | None:
        place = self._place(key)
        return None if place < 0 else self.cards([place])[0]

    def read(self, key: str) -> bytes:
        """The image's bytes as they came.

        Raises:
            KeyError: the study has no such image.
        """
        place = self._place(key)
        if place < 0:
            raise KeyError(key)
        where = self._keys.slice(place, 1)
        return next(read_rows(self._parts, where, ["image"]))["image"][0].as_py()

    def sample(self, count: int, seed: int) -> list[str]:
        """Ids of `count` images, or of all where there are fewer: the same for the same seed, none twice."""
        count = min(count, len(self))
        places = np.random.default_rng(seed).permutation(len(self))[:count]
        return self._keys[schema.ID].take(pa.array(places, pa.int64())).to_pylist()

    def _place(self, key: str) -> int:
        return pc.index(self._keys[schema.ID], key).as_py()

    def _thumbnail(self, key: str) -> bytes | None:
        """A small JPEG, None where the image cannot be decoded any more."""
        try:
            return thumbnail(self.read(key), size_px=THUMBNAIL_PX)
        except BadImage:
            return None


def gallery_of(study: Study) -> Gallery | None:
    """None for a study without images. Empty where nothing was fetched yet."""
    if study.manifest.image is None:
        return None
    found = fetch.images_of(study)
    rows = manifest_rows(study).table
    titles = title_column(study)
    place = pc.index_in(rows["source_id"], value_set=found[schema.ID].combine_chunks())
    keys = pa.table(
        {
            schema.ID: found["image_id"].take(place),
            "title": rows[titles] if titles else pa.nulls(len(rows), pa.string()),
            "target": rows["target"].cast(pa.string()),
            "part": found["part"].take(place),
            "position": found["position"].take(place),
        }
    )
    return Gallery(first_rows(keys.filter(pc.is_valid(keys[schema.ID])), schema.ID), fetch.parts(study))


def title_column(study: Study) -> str:
    """The column that names an image, as in the report; empty where the study keeps none."""
    asked = study.report.title_column or next(iter(study.manifest.keep), "")
    return asked if asked in manifest_rows(study).table.column_names else ""
