"""Rows that end the process which works on them, such as an image that crashes a decoder or eats all memory.

A process that dies leaves no word, and its block goes to the one that is started in its place, which would die of it
in turn, for ever. So a worker that was started again notes what it has in hand, beside the parts of the table:

    _held-000001-8d0c...json            of a block: which of its rows are done, and which are in hand
    _held-000001-8d0c...-8-16.parquet   outcomes of its rows 8 to 15, as they came through
    _held-000001-5e1f...-deaths.json    of a worker: its deaths since something last came through it, and rows in doubt

One that finds its block noted knows that a process died with those rows in hand. It runs the block in eighths, those
that a process dies with in eighths again, and so on down to a single row. A row that two processes died with, having
nothing else in hand, is `bad_input`, `crashed`: one alone may have died with its node. Where memory runs out, Ray ends
several workers at once, of which one had the row that took it: so before the second time each waits, as long as chance
will have it, lest they fall together again. What came through meanwhile is kept and not asked for again; it becomes a
part once the block is whole, so that the table itself never shows any of it.

A machine may be at fault instead, such as a GPU that broke, and would condemn all rows that it is given. So a row that
crashed is in doubt until something has come through the same worker after it, or all other blocks are done: only then
it is stored. And a worker is borne with for so many deaths, in its constructor as well as with rows in hand, with
nothing come through it in between: 20 while nothing has come through any worker of this run, 80 from then on. Then it
ends the job, and its rows in doubt have no outcome: the next run tries them again. So up to some thirty rows that end
processes may follow one another, eight where the run begins with them; more than that must be taken out of the source.

Until a process has died this costs nothing. From then on each block of that worker costs it a small write and a removal
more. In a block of 64, a row that ends processes ends four of them, and a worker's first such row five. Its neighbours
are worked on four times at most, those out of its eighth three times, however many such rows a block has.
"""

import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import pyarrow as pa

from seewhy import schema, storage, urls
from seewhy.failure import BAD_INPUT, Failure, Fatal
from seewhy.table import Table, digest, read_part, write_part

CRASHED = "crashed"
"""Reason of a row that processes died of."""
_SHARES = 8
_DEATHS = 2
_DETAIL = f"{_DEATHS} processes ended while each had nothing but this row in hand: it crashes them, or takes all memory"
_HELD = "_held-"
_TALLY = "-deaths.json"

Rows = tuple[int, int]
"""Rows of a block: from, to."""


@dataclass(frozen=True)
class Patience:
    """
    Attributes:
        in_vain: deaths of a worker before which something must have come through any. Eight new rows, all of which end
            the process, take 18. Ray waits longer with each, up to five seconds: a worker that starts in two tells of
            it after two minutes.
        in_vain_later: deaths of a worker since something last came through it, once something has come through any.
            A machine that breaks may be at fault, or rows that follow one another: 30 take 78 at most.
        apart_sec: before a row is alone in hand for the second time, at most.
    """

    in_vain: int = 20
    in_vain_later: int = 80
    apart_sec: float = 20.0


@dataclass(frozen=True)
class Note:
    """How far a block is.

    Attributes:
        left: what is to be done, in order; the first of it is in hand.
        done: what came through and is kept.
        crashed: rows that processes died of.
        deaths: of processes that had nothing but the row in hand.
    """

    left: tuple[Rows, ...]
    done: tuple[Rows, ...] = ()
    crashed: tuple[int, ...] = ()
    deaths: int = 0

    def after_death(self) -> "Note":
        """What is to be done once a process has died with what is in hand."""
        (start, stop), *rest = self.left
        size = stop - start
        if size > 1:
            step = -(-size // _SHARES)
            shares = ((at, min(at + step, stop)) for at in range(start, stop, step))
            return replace(self, left=(*shares, *rest), deaths=0)
        if self.deaths + 1 < _DEATHS:
            return replace(self, deaths=self.deaths + 1)
        return replace(self, left=tuple(rest), crashed=(*self.crashed, start), deaths=0)

    def after_success(self) -> "Note":
        return replace(self, left=self.left[1:], done=(*self.done, self.left[0]), deaths=0)


class Tally:
    """Of one worker, whichever process it is now: its deaths since something last came through it, and rows in doubt.

    Args:
        worker: its name, the same for all its processes.
        runs: name of what it runs, for messages.
    """

    def __init__(self, table: Table, worker: str, *, generation: int, patience: Patience, runs: str) -> None:
        self._table, self._generation, self._patience, self._runs = table, generation, patience, runs
        self._url = urls.join(table.url, f"{_HELD}{generation:06d}-{worker}{_TALLY}")
        noted = storage.read_json(self._url) or {"deaths": 0, "in_doubt": []}
        self._deaths: int = noted["deaths"]
        self._in_doubt: list[list[str]] = noted["in_doubt"]  # ids, a list for each block

    def died(self) -> None:
        """
        Raises:
            Fatal: it died too often, with nothing come through in between.
        """
        self._deaths += 1
        self._write()
        if self._deaths < self._patience.in_vain:
            return
        later = anything_came_through(self._table, generation=self._generation)
        if later and self._deaths < self._patience.in_vain_later:
            return
        told = f"the process that runs {self._runs} ended {self._deaths} times, and no row has come through"
        why = "either a library that it needs crashes here, or it gets too little memory (resources)"
        if later:
            told += " it since the first of them"
            why += ", or its machine is at fault, or too many rows in a row crash it"
            if self._in_doubt:
                why += f", such as {self._in_doubt[0][0]} to {self._in_doubt[-1][-1]}, which count as not done"
        raise Fatal(f"{told}: {why}; Ray's logs on its node may say more")

    def doubt(self, ids: list[str]) -> None:
        """Rows of one block that crashed, after which nothing has come through yet."""
        if ids and ids not in self._in_doubt:
            self._in_doubt.append(ids)
            self._write()

    def came_through(self) -> None:
        """Something did: what crashed before it did so by its own fault, and is stored."""
        if self._deaths or self._in_doubt:
            _store(self._table, self._in_doubt, generation=self._generation)
            self._deaths, self._in_doubt = 0, []
            storage.remove(self._url)

    def _write(self) -> None:
        storage.write_json(self._url, {"deaths": self._deaths, "in_doubt": self._in_doubt})


class Watch:
    """Over one block of keys, in a worker of which a process died."""

    def __init__(self, table: Table, keys: pa.Table, *, generation: int, apart_sec: float, tally: Tally) -> None:
        self._table, self._keys, self._apart_sec, self._tally = table, keys, apart_sec, tally
        self._ids: list[str] = keys.column(schema.ID).to_pylist()
        self._name = f"{_HELD}{generation:06d}-{digest(self._ids)}"
        self._note = Note(((0, len(keys)),))
        self._last: dict[int, pa.Table] = {}  # by their first row, as they came

    def work_through(self, work: Callable[[pa.Table], pa.Table]) -> None:
        """
        Args:
            work: keys to their outcomes. Returns fewer where it will take no more; what is left then has no outcome.
                A MemoryError from it counts as the death of a process.

        Raises:
            Fatal: there were too many of those; or `work` raised it.
        """
        self.pick_up()
        while self._note.left:
            start, stop = self._note.left[0]
            if self._note.deaths:  # noted only after the wait: who dies in it had nothing in hand
                time.sleep(random.uniform(0, self._apart_sec))
            self._write()
            try:
                rows = work(self._keys.slice(start, stop - start))
            except MemoryError:
                self._note = self._note.after_death()
                self._tally.died()
                continue
            if len(rows):
                self._tally.came_through()
            if len(rows) < stop - start or len(self._note.left) == 1:
                self._last = {start: rows}  # nothing comes after it: it goes straight into the part
                return
            write_part(self._kept((start, stop)), rows, self._table.schema)
            self._note = self._note.after_success()

    def outcomes(self) -> pa.Table:
        """Of the rows that were worked through, in the order of the block."""
        found = {rows[0]: read_part(self._kept(rows), None) for rows in self._note.done}
        found |= {row: _crashed(self._ids[row], self._table.schema) for row in self._note.crashed}
        found |= self._last
        pieces = [found[first].cast(self._table.schema) for first in sorted(found)]
        return pa.concat_tables([self._table.schema.empty_table(), *pieces])

    def in_doubt(self) -> list[str]:
        """Ids of rows that crashed, and no row of the block after them came through."""
        through = [
            *(start for start, _ in self._note.done),
            *(start for start, rows in self._last.items() if len(rows)),
        ]
        return [self._ids[row] for row in self._note.crashed if row > max(through, default=-1)]

    def forget(self) -> None:
        """Once the block is a part."""
        storage.remove(self._url("json"))
        for rows in self._note.done:
            storage.remove(self._kept(rows))

    def pick_up(self) -> None:
        """Where the process before this one died."""
        noted = storage.read_json(self._url("json"))
        if noted is None:
            return
        left, done = (tuple((start, stop) for start, stop in noted[name]) for name in ("left", "done"))
        note = Note(left, done, tuple(noted["crashed"]), noted["deaths"])
        came_through = storage.exists(self._kept(note.left[0]))  # it died between the two writes
        self._note = note.after_success() if came_through else note.after_death()

    def _write(self) -> None:
        storage.write_json(self._url("json"), asdict(self._note))

    def _kept(self, rows: Rows) -> str:
        return self._url(f"{rows[0]}-{rows[1]}.parquet")

    def _url(self, end: str) -> str:
        between = "." if end == "json" else "-"
        return urls.join(self._table.url, f"{self._name}{between}{end}")


def anything_came_through(table: Table, *, generation: int) -> bool:
    """Whether any worker has an outcome of this generation other than that of rows which processes died of."""
    names = storage.list_files(table.url)
    if any(name.startswith(f"{_HELD}{generation:06d}-") and name.endswith(".parquet") for name in names):
        return True
    reasons = (read_part(url, [schema.REASON]).column(schema.REASON) for url in table.parts(generation=generation))
    return any(set(column.to_pylist()) != {CRASHED} for column in reasons)


def store_in_doubt(table: Table, *, generation: int) -> None:
    """Stores what is still in doubt, once all workers have come to the end of their blocks."""
    for name in storage.list_files(table.url):
        if name.startswith(f"{_HELD}{generation:06d}-") and name.endswith(_TALLY):
            noted = storage.read_json(urls.join(table.url, name)) or {"in_doubt": []}
            _store(table, noted["in_doubt"], generation=generation)


def _store(table: Table, in_doubt: list[list[str]], *, generation: int) -> None:
    """A part for each block: of one that crashed as a whole it is the block's own, which so is done."""
    for ids in in_doubt:
        table.append(pa.concat_tables(_crashed(one, table.schema) for one in ids), generation=generation)


def clear(table: Table) -> None:
    """Removes what a run that is over has left."""
    for name in storage.list_files(table.url):
        if name.startswith(_HELD):
            storage.remove(urls.join(table.url, name))


def _crashed(key: str, columns: pa.Schema) -> pa.Table:
    failure = Failure(BAD_INPUT, CRASHED, _DETAIL)
    told = {
        schema.ID: key,
        schema.ERROR_KIND: failure.kind,
        schema.REASON: failure.reason,
        schema.DETAIL: failure.detail,
    }
    return pa.Table.from_pylist([told], schema=columns)
