"""Random access to a study's pictures as they enter the model, however many there are: bounded memory, ordered reading.

A row is known by the Parquet part that holds its image and the position there. What comes out is pixels and nothing
else: no file name, no path and no EXIF data leaves this file, apart from the id in an error.

    small   what fits into `max_bytes` is decoded once and kept, and travels with this object to other processes
    large   some rows are kept; the others are decoded anew in each epoch, a part at a time, just before they are due
"""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from seewhy.failure import Fatal
from seewhy.images import BadImage, decode
from seewhy.table import read_rows

_CHUNK = 32  # images read and decoded by one thread at a time
_NEVER = np.iinfo(np.int32).max


def fit_to(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The whole picture, (H, W, 3) uint8, as (height, width, 3): nothing is cut off, its proportions may change."""
    if image.shape[:2] == (height, width):
        return image
    small = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(small)


def shuffled_parts(part: np.ndarray, *, batch_size: int, window: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Rows of each batch: every row once, in an order that reads the parts one after the other.

    Parts are shuffled and their rows laid end to end on a ring; each row then moves on by a random distance of less
    than `window` rows, and the ring is cut to batches. So a batch mixes rows of a stretch of `window`, and a part is
    needed over a stretch of `window` rows only. Up to `window` rows in all this is a plain shuffle.

    Args:
        part: (N,) the part of each row.

    Returns:
        Positions within `part`; batches as even as can be, as many in every epoch.
    """
    count = len(part)
    rng = np.random.default_rng([seed, epoch])
    if count <= window:
        order = rng.permutation(count)
    else:
        names, numbers = np.unique(part, return_inverse=True)
        ring = np.argsort(rng.permutation(len(names))[numbers], kind="stable")
        order = ring[np.argsort((np.arange(count) + rng.random(count) * window) % count, kind="stable")]
    return np.array_split(order, -(-count // batch_size))


class Pictures:
    """The pictures of N rows, (height, width, 3) uint8 each.

    Args:
        parts: URLs of Parquet parts with a column `image` of encoded bytes.
        part: (N,) index into `parts`. position: (N,) row within the part.
        ids: (N,) names, for errors.
        max_bytes: memory for decoded pictures in each process.
        window: rows over which a part's rows are due, see `shuffled_parts`; room is left for as many.
    """

    def __init__(
        self,
        parts: Sequence[str],
        part: np.ndarray,
        position: np.ndarray,
        ids: pa.ChunkedArray | pa.Array,
        *,
        height: int,
        width: int,
        max_bytes: int,
        window: int,
    ) -> None:
        self.parts, self.part, self.position, self.ids = list(parts), part, position, ids
        self.shape, self.window = (height, width, 3), window
        self.count = len(part)
        self._order = np.lexsort((position, part))
        self.starts = np.searchsorted(part[self._order], np.arange(len(parts) + 1))
        each = height * width * 3
        room = max_bytes // each
        self._room = self.count if self.count <= room else max(0, room - window - window // 4)
        self._forget()

    def _forget(self) -> None:
        self._kept = np.empty((self._room, *self.shape), dtype=np.uint8)  # memory is taken as it is filled
        self._slot = np.full(self.count, -1, dtype=np.int32)
        self._used = 0
        self._start_threads()

    def _start_threads(self) -> None:
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="pictures")

    def __getstate__(self) -> dict[str, Any]:
        """With the pictures where all are there, else without: the others are read where they are needed."""
        state = {name: value for name, value in vars(self).items() if name not in ("_lock", "_pool")}
        if self._used < self.count:
            for name in ("_kept", "_slot", "_used"):
                del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if "_kept" in state:
            self._start_threads()
        else:
            self._forget()

    @property
    def all_fit(self) -> bool:
        return self._room == self.count

    def sequential(self, rows: np.ndarray, batch_size: int) -> list[np.ndarray]:
        """Positions within `rows`, cut to even batches in the order in which they are stored."""
        order = np.lexsort((self.position[rows], self.part[rows]))
        return np.array_split(order, max(1, -(-len(rows) // batch_size)))

    def reading(self, plan: Sequence[np.ndarray]) -> "Reading":
        """A way to get pictures for what asks for the batches of `plan`, rows each, in about this order."""
        return Reading(self, plan)

    def kept(self, row: int) -> np.ndarray | None:
        return self._kept[self._slot[row]] if self._slot[row] >= 0 else None

    def is_kept(self, rows: np.ndarray) -> np.ndarray:
        return self._slot[rows] >= 0

    def keep(self, row: int, picture: np.ndarray) -> bool:
        """Whether there was room for it."""
        with self._lock:
            if self._used == self._room:
                return False
            self._kept[self._used] = picture
            self._slot[row] = self._used  # last: other threads look here
            self._used += 1
            return True

    def rows_of(self, part: int) -> np.ndarray:
        """The rows that lie in a part, in the order in which they are stored."""
        return self._order[self.starts[part] : self.starts[part + 1]]

    def decoded(self, rows: np.ndarray) -> list[np.ndarray]:
        """The pictures of rows, read and decoded by several threads; no cache is looked at.

        Raises:
            Fatal: an image cannot be decoded, though it could be when it was fetched.
        """
        order = np.lexsort((self.position[rows], self.part[rows]))
        cuts = np.flatnonzero(np.diff(self.part[rows[order]])) + 1
        chunks = [run[start : start + _CHUNK] for run in np.split(order, cuts) for start in range(0, len(run), _CHUNK)]
        found: list[np.ndarray] = [np.empty(0)] * len(rows)
        for chunk, pictures in zip(
            chunks, self._pool.map(lambda chunk: self._decode(rows[chunk]), chunks), strict=True
        ):
            for place, picture in zip(chunk, pictures, strict=True):
                found[place] = picture
        return found

    def _decode(self, rows: np.ndarray) -> list[np.ndarray]:
        """Of rows of one part, by their position."""
        where = pa.table({"part": self.part[rows], "position": self.position[rows]})
        (stored,) = read_rows(self.parts, where, ["image"])
        return [self._picture(int(row), data.as_py()) for row, data in zip(rows, stored["image"], strict=True)]

    def _picture(self, row: int, data: bytes) -> np.ndarray:
        try:
            return fit_to(decode(data), self.shape[0], self.shape[1])
        except BadImage as error:
            raise Fatal(f"image {self.ids[row]} cannot be decoded: {error}; fetch it again") from error


class Reading:
    """Pictures for one pass over a plan, safe in threads. Called with B different rows: (B, height, width, 3) uint8.

    When a part is touched, all its rows that are due soon are decoded at once and held until they are asked for: so a
    part is read about once. Those of its rows that wrapped around the ring are not: they are due at the other end.
    """

    def __init__(self, pictures: Pictures, plan: Sequence[np.ndarray]) -> None:
        self._pictures = pictures
        self._held: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()
        self._due = np.full(pictures.count if not pictures.all_fit else 0, _NEVER, dtype=np.int32)
        self._horizon = 0
        if len(self._due) and len(plan):
            rows = np.concatenate(plan)
            self._due[rows] = np.repeat(np.arange(len(plan), dtype=np.int32), [len(batch) for batch in plan])
            stretch = pictures.window + int(np.diff(pictures.starts).max())  # rows over which a part is needed
            self._horizon = -(-stretch * len(plan) // len(rows))  # batches

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), *self._pictures.shape), dtype=np.uint8)
        with self._lock:
            self._fetch(rows)
            for place, row in enumerate(rows.tolist()):
                picture = self._pictures.kept(row)
                out[place] = self._held.pop(row) if picture is None else picture
        return out

    def _missing(self, rows: np.ndarray) -> np.ndarray:
        rows = rows[~self._pictures.is_kept(rows)]
        return np.array([row for row in rows.tolist() if row not in self._held], dtype=np.int64)

    def _fetch(self, rows: np.ndarray) -> None:
        missing = self._missing(rows)
        if not len(missing):
            return
        if self._horizon:
            now = int(self._due[missing].min())
            parts = np.unique(self._pictures.part[missing])
            others = np.concatenate([self._pictures.rows_of(part) for part in parts])
            due = self._due[others]
            missing = np.union1d(missing, self._missing(others[(due >= now) & (due < now + self._horizon)]))
        for row, picture in zip(missing.tolist(), self._pictures.decoded(missing), strict=True):
            if not self._pictures.keep(row, picture):
                self._held[row] = picture
