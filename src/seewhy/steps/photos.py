"""The rows joined with their images: what an image model is trained on, and every row lost on the way."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seewhy import schema
from seewhy.failure import Fatal
from seewhy.near_duplicates import group_near
from seewhy.steps import fetch
from seewhy.steps.joins import Losses, first_rows, joined, manifest_losses
from seewhy.steps.once import once_a_run
from seewhy.steps.plan import need_done
from seewhy.steps.rows import manifest_rows
from seewhy.study import Study
from seewhy.table import digest

_FEW_COPIES = 20


@dataclass(frozen=True)
class Photos:
    """Attributes:
    examples: row, id (image id), target, group, part, position; one row for each usable row of the manifest, in its
        order. Part and position say where the image lies in `parts`. Rows of one group show the same picture, or
        nearly: no split may part them.
    parts: URLs of the images' parts.
    task, classes: as in `manifest.Rows`.
    losses: as in `items.Items`.
    near: distinct images that show nearly the same picture as an earlier one, and are in its group; no row is lost.
    """

    examples: pa.Table
    parts: tuple[str, ...]
    task: str
    classes: tuple[str, ...]
    losses: Losses
    near: int = 0

    @cached_property
    def identity(self) -> str:
        """Names the data: rows, image ids, groups and targets."""
        pieces = self.examples.select(["row", schema.ID, "group", "target"]).to_batches(max_chunksize=10_000)
        return digest([digest(piece.to_pydict()) for piece in pieces])

    @cached_property
    def images(self) -> pa.Table:
        """id, part, position of the distinct images."""
        return first_rows(self.examples.select([schema.ID, "part", "position"]), schema.ID)


def gather_photos(study: Study, *, step: str) -> Photos:
    """Joins manifest and images. Raises Fatal where fetch is not complete, or no row has an image."""
    need_done(fetch.table(study), fetch.source(study), step=step, before="fetch")
    photos = _gather_photos(study, fetch.parts(study))
    if not len(photos.examples):
        raise Fatal(f"{step} has nothing to work on: no row has an image")
    return photos


@once_a_run
def _gather_photos(study: Study, parts: tuple[str, ...]) -> Photos:
    rows = manifest_rows(study)
    losses = manifest_losses(rows)
    found = fetch.images_of(study)
    table = rows.table.select(["row", "source_id", "target"])
    images = found.select([schema.ID, "image_id"])
    table = joined(table, "source_id", images, fetch.table(study).index(), "fetched", losses)
    losses.append(("Rows with an image and a target", len(table), ""))
    place = pc.index_in(table["source_id"], value_set=found[schema.ID].combine_chunks())
    where = found.select(["part", "position", "fingerprint"]).take(place)
    examples = table.select(["row", "image_id", "target"]).rename_columns(["row", schema.ID, "target"])
    groups, near = _groups(study, examples[schema.ID], where["fingerprint"])
    examples = examples.append_column("group", groups)
    for name in ("part", "position"):
        examples = examples.append_column(name, where[name])
    photos = Photos(examples, parts, rows.task, rows.classes, losses, near)
    shared = len(photos.images) - len(examples)
    if shared:
        losses.append(("Share their image with an earlier row", shared, "explained once"))
        losses.append(("Distinct images", len(photos.images), ""))
    return photos


def _groups(study: Study, ids: pa.ChunkedArray, fingerprints: pa.ChunkedArray) -> tuple[pa.Array, int]:
    """A group's name for each row, and how many distinct images lie near another one.

    Raises:
        Fatal: a chain of near pictures holds too many rows to deal out the rest.
    """
    distance = study.train_image.near_duplicates
    if distance is None:
        return ids.combine_chunks(), 0
    names = ids.to_pylist()
    numbers = group_near(fingerprints.to_numpy(), most_bits=distance)
    first: dict[int, str] = {}
    for name, number in zip(names, numbers.tolist(), strict=True):
        first.setdefault(number, name)
    _need_room(names, numbers, distance=distance, folds=study.train_image.folds)
    return pa.array([first[number] for number in numbers.tolist()], pa.string()), len(set(names)) - len(first)


def _need_room(names: list[str], numbers: np.ndarray, *, distance: int, folds: int) -> None:
    """Pictures of things on a plain ground can all be tied by small steps: one fold would hold them all, and the others
    next to nothing. Up to half a fold is let pass, and so are a few copies, which a small study may well hold."""
    _, once = np.unique(names, return_index=True)
    images = np.bincount(numbers[once])
    rows = np.where(images > _FEW_COPIES, np.bincount(numbers), 0)
    largest = int(rows.argmax()) if len(rows) else 0
    if len(rows) and rows[largest] * 2 * folds > len(numbers):
        raise Fatal(
            f"train_image.near_duplicates is {distance}: {rows[largest]:,} of the {len(numbers):,} rows "
            f"({images[largest]:,} different images) look alike, and one of {folds} folds would have to hold them all. "
            f"Set train_image.near_duplicates to null, so that only images of equal bytes stay in one fold"
            + (f", or to a number below {distance}" if distance else "")
        )
