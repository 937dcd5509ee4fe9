"""Rows that end the process which works on them are recorded, and all others are done."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from seewhy import poison, run, schema, storage
from seewhy.demo.server import serve
from seewhy.failure import Fatal
from seewhy.fetch import Fetch
from seewhy.poison import Note, Patience, Tally, Watch
from seewhy.run import Source, _Worker, run_stage
from seewhy.table import Table
from tests.faults.dying import Breaking, Dying, came_to, count_lives
from tests.faults.fragile_fetch import MAGIC, FragileFetch
from tests.stages import SHOUT, Shout


def keys(count: int, **texts: str) -> pa.Table:
    ids = [f"{i:04d}" for i in range(count)]
    return pa.table({"id": ids, "text": [texts.get("r" + i, f"text {i}") for i in ids]})


AT_ONCE = Patience(in_vain=3, apart_sec=0.0)
PATIENT = Patience(in_vain=10_000, in_vain_later=10_000, apart_sec=0.0)


def tally_of(table: Table, worker: str = "a", patience: Patience = PATIENT) -> Tally:
    return Tally(table, worker, generation=1, patience=patience, runs="Shout")


class Died(BaseException):
    """What a test takes for the end of a process."""


class Process:
    """Works on keys as a stage does, and dies at some of them; each life of it is a new Watch over the same block."""

    def __init__(
        self,
        table: Table,
        block: pa.Table,
        dies: Callable[[str, int], bool],
        stage: Callable[[pa.Table], pa.Table] | None = None,
        apart_sec: float = 0.0,
    ) -> None:
        self._table, self._block, self._dies, self._stage = table, block, dies, stage or Shout()
        self._apart_sec = apart_sec
        self.calls: list[list[str]] = []
        self.deaths = 0

    def outcomes(self) -> pa.Table:
        while True:
            tally = tally_of(self._table)
            watch = Watch(self._table, self._block, generation=1, apart_sec=self._apart_sec, tally=tally)
            try:
                watch.work_through(self._work)
            except Died:
                self.deaths += 1
            else:
                rows = watch.outcomes()
                watch.forget()
                return rows

    def _work(self, some: pa.Table) -> pa.Table:
        ids = some["id"].to_pylist()
        self.calls.append(ids)
        for one in ids:
            if self._dies(one, sum(call.count(one) for call in self.calls)):
                raise Died
        return self._stage(some)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(f"memory://bucket-{tmp_path.name}/captions/abc", SHOUT)


@pytest.fixture(params=["disk", "memory", "bucket"])
def any_table(request: pytest.FixtureRequest, tmp_path: Path, bucket: str) -> Table:
    places = {"disk": str(tmp_path), "memory": f"memory://bucket-{tmp_path.name}", "bucket": f"{bucket}/poison"}
    return Table(f"{places[request.param]}/captions/abc", SHOUT)


def crashed(rows: pa.Table) -> list[str]:
    found = [row for row in rows.to_pylist() if row["error_kind"] is not None]
    assert {(row["error_kind"], row["reason"], row["text"]) for row in found} <= {("bad_input", "crashed", None)}
    return [row["id"] for row in found]


def test_a_row_that_ends_processes_is_found_by_eighths(any_table: Table) -> None:
    """64 rows, of which number 37 is the sixth of the fifth eighth."""
    process = Process(any_table, keys(64), lambda one, _: one == "0037")
    rows = process.outcomes()
    assert rows["id"].to_pylist() == keys(64)["id"].to_pylist()
    assert crashed(rows) == ["0037"]
    assert rows["text"].to_pylist()[36:39] == ["TEXT 0036", None, "TEXT 0038"]
    assert "2 processes ended" in rows["detail"][37].as_py()
    assert process.deaths == 1 + 1 + 2  # of the block, of its eighth, of the row
    times = Counter(one for call in process.calls for one in call)
    sizes = [len(call) for call in process.calls]
    assert sizes == [64, 8, 8, 8, 8, 8, *[1] * 5, 1, 1, *[1] * 2, 8, 8, 8]
    assert {times[f"{i:04d}"] for i in range(32, 40)} - {times["0037"]} == {3}
    assert times["0037"] == 4
    assert {times[f"{i:04d}"] for i in (*range(32), *range(40, 64))} == {2}
    assert storage.list_files(any_table.url) == {}


def test_neighbours_are_not_worked_on_again_for_each_such_row(table: Table) -> None:
    process = Process(table, keys(64), lambda one, _: int(one) % 3 == 1)
    rows = process.outcomes()
    assert crashed(rows) == [f"{i:04d}" for i in range(1, 64, 3)]
    assert process.deaths == 1 + 8 + 2 * 21
    times = Counter(one for call in process.calls for one in call)
    assert max(times[f"{i:04d}"] for i in range(64) if i % 3 != 1) == 3


@pytest.mark.parametrize("size", [1, 2, 7, 9, 64, 65, 200])
@pytest.mark.parametrize("seed", [0, 1])
def test_whichever_rows_end_processes_the_others_come_through(tmp_path: Path, size: int, seed: int) -> None:
    bad = {f"{i:04d}" for i in np.flatnonzero(np.random.default_rng(seed).random(size) < 0.1)}
    for dying in (bad, {f"{i:04d}" for i in range(size)}):
        table = Table(f"memory://bucket-{tmp_path.name}/{len(dying)}", SHOUT)
        process = Process(table, keys(size), lambda one, _, dying=dying: one in dying)
        rows = process.outcomes()
        assert crashed(rows) == sorted(dying)
        assert rows["id"].to_pylist() == keys(size)["id"].to_pylist()
        assert storage.list_files(table.url) == {}


@pytest.mark.parametrize("deaths", [1, 2, 3])
def test_deaths_that_end_before_the_second_of_a_row_alone_mark_nothing(table: Table, deaths: int) -> None:
    """Of the block, of the eighth, of the row: as where nodes are lost one after the other."""
    process = Process(table, keys(64), lambda one, nth: one == "0000" and nth <= deaths)
    rows = process.outcomes()
    assert (process.deaths, crashed(rows)) == (deaths, [])
    assert rows["text"].to_pylist() == [f"TEXT {i:04d}" for i in range(64)]


def test_a_row_that_came_through_just_before_a_death_is_not_asked_again(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between what came through and the note that says so there is a moment to die in; it counts against no row."""
    process = Process(table, keys(2), lambda one, nth: one == "0000" and nth <= 2)
    written = poison.write_part

    def dies_after(*args: object) -> None:
        written(*args)
        monkeypatch.setattr(poison, "write_part", written)
        raise Died

    monkeypatch.setattr(poison, "write_part", dies_after)
    rows = process.outcomes()
    assert crashed(rows) == []
    assert process.calls == [["0000", "0001"], ["0000"], ["0000"], ["0001"]]
    assert process.deaths == 3


def test_workers_that_fall_together_are_set_apart_and_no_death_counts_while_they_wait(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row, in hand at one death. Four times more another's hunger ends the process, always while it waits."""
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) < 5:
            raise Died

    monkeypatch.setattr(poison, "time", SimpleNamespace(sleep=wait))
    process = Process(table, keys(1), lambda one, nth: nth == 1, apart_sec=20.0)
    assert crashed(process.outcomes()) == []
    assert process.deaths == len(waits) == 5
    assert len(set(waits)) == 5
    assert all(0 <= one <= 20 for one in waits)


def test_of_a_row_that_takes_all_memory_the_process_need_not_die(table: Table) -> None:
    block = keys(16, r0003="hoard")

    class Hoarding:
        def __call__(self, batch: pa.Table) -> pa.Table:
            if "hoard" in batch["text"].to_pylist():
                raise MemoryError
            return Shout()(batch)

    worker = _Worker(Hoarding, {}, Source(block), table, 1, AT_ONCE)
    (told,) = worker(block).to_pylist()
    assert told == {"stopped": None, "ok": 15, "transient": 0, "rejected": 0, "bad_input": 1}
    assert crashed(table.read(only_ok=False)) == ["0003"]
    assert len(table.parts()) == len(storage.list_files(table.url)) == 1


def test_what_came_through_before_a_fatal_error_is_kept(table: Table) -> None:
    """Of 16 rows in twos, the first two are too much for the memory; the error is of the third two."""
    block = keys(16, r0000="hoard", r0004="fatal")

    class Failing:
        def __call__(self, batch: pa.Table) -> pa.Table:
            if "hoard" in batch["text"].to_pylist():
                raise MemoryError
            if "fatal" in batch["text"].to_pylist():
                raise Fatal("no such model")
            return Shout()(batch)

    worker = _Worker(Failing, {}, Source(block), table, 1, PATIENT)
    (told,) = worker(block).to_pylist()
    assert (told["stopped"], told["ok"]) == ("no such model", 0)
    assert table.index()["id"].to_pylist() == ["0000", "0001", "0002", "0003"]
    assert crashed(table.read(only_ok=False)) == ["0000"]


def test_what_was_asked_before_the_money_ran_out_is_kept(table: Table) -> None:
    """Row 0 ends processes; of rows 4 and 5, worked on together, 5 is not asked about; 6 and on nobody comes to."""
    worker = _Worker(Shout, {}, Source(keys(0)), table, generation=1)
    unpaid = keys(16, r0005="unpaid")
    process = Process(table, unpaid, lambda one, _: one == "0000", lambda some: worker._asked(Shout()(some)))
    found = process.outcomes()
    assert found["id"].to_pylist() == [f"{i:04d}" for i in range(5)]
    assert crashed(found) == ["0000"]
    assert process.calls[-1] == ["0004", "0005"]


def test_a_note_goes_from_eighths_to_single_rows() -> None:
    note = Note(((0, 20), (20, 30)))
    shares = note.after_death()
    assert shares.left == ((0, 3), (3, 6), (6, 9), (9, 12), (12, 15), (15, 18), (18, 20), (20, 30))
    assert shares.after_death().left[:4] == ((0, 1), (1, 2), (2, 3), (3, 6))
    once = Note(((4, 5), (5, 6))).after_death()
    assert (once.left, once.deaths, once.crashed) == (((4, 5), (5, 6)), 1, ())
    assert once.after_death() == Note(((5, 6),), (), (4,))
    assert once.after_success() == Note(((5, 6),), ((4, 5),))


def test_what_counts_as_having_come_through(table: Table) -> None:
    assert not poison.anything_came_through(table, generation=1)
    tally_of(table).died()
    assert not poison.anything_came_through(table, generation=1)
    process = Process(table, keys(2), lambda one, _: True)
    table.append(process.outcomes(), generation=1)
    assert not poison.anything_came_through(table, generation=1)
    table.append(Shout()(keys(3).slice(2)), generation=2)
    assert not poison.anything_came_through(table, generation=1)
    assert poison.anything_came_through(table, generation=2)
    poison.clear(table)
    assert len(storage.list_files(table.url)) == len(table.parts()) == 2


def die(table: Table, times: int) -> None:
    """Each time as a new process."""
    for _ in range(times):
        tally_of(table, patience=Patience()).died()


def test_a_worker_is_borne_with_for_longer_once_something_came_through(table: Table) -> None:
    die(table, 19)
    with pytest.raises(Fatal, match=r"that runs Shout ended 20 times, and no row has come through: "):
        die(table, 1)
    table.append(Shout()(keys(1)), generation=1)
    die(table, 59)
    tally_of(table).came_through()
    die(table, 79)
    with pytest.raises(Fatal, match=r"that runs Shout ended 80 times, and no row has come through it since the first"):
        die(table, 1)


def test_rows_that_crash_are_stored_once_something_comes_through_after_them(table: Table) -> None:
    blocks = [["0000", "0001"], ["0003"]]
    for ids in (*blocks, blocks[1]):  # a block may be handed out again
        tally_of(table).doubt(ids)
    tally_of(table).doubt([])
    assert table.parts() == []
    tally_of(table).came_through()
    assert sorted(crashed(table.read(only_ok=False))) == ["0000", "0001", "0003"]
    assert table.committed(pa.chunked_array([blocks[0]]), generation=1) is not None
    tally_of(table, "b").doubt(["0005"])
    poison.store_in_doubt(table, generation=2)
    assert len(table.parts()) == 2
    poison.store_in_doubt(table, generation=1)
    assert sorted(crashed(table.read(only_ok=False))) == ["0000", "0001", "0003", "0005"]


@pytest.mark.parametrize(("bad", "in_doubt"), [((0, 1), []), ((3,), ["0003"]), ((0, 2, 3), ["0002", "0003"])])
def test_in_doubt_is_what_nothing_of_the_block_came_through_after(
    table: Table, bad: tuple[int, ...], in_doubt: list[str]
) -> None:
    def work(some: pa.Table) -> pa.Table:
        if {int(one) for one in some["id"].to_pylist()} & {*bad}:
            raise MemoryError
        return Shout()(some)

    watch = Watch(table, keys(4), generation=1, apart_sec=0.0, tally=tally_of(table))
    watch.work_through(work)
    assert crashed(watch.outcomes()) == [f"{i:04d}" for i in bad]
    assert watch.in_doubt() == in_doubt


def test_memory_that_runs_out_at_every_row_is_no_fault_of_theirs(table: Table) -> None:
    class Hoarding:
        def __call__(self, batch: pa.Table) -> pa.Table:
            if int(batch["id"][0].as_py()) >= 4:
                raise MemoryError
            return Shout()(batch)

    block = keys(24)
    worker = _Worker(Hoarding, {}, Source(block), table, 1, Patience(in_vain=3, in_vain_later=12, apart_sec=0.0))
    told = [worker(block.slice(start, 4)).to_pylist()[0] for start in range(0, 24, 4)]
    assert [one["stopped"] is None for one in told] == [True, True, False, False, False, False]
    assert "0004 to 0007, which count as not done" in told[-1]["stopped"]
    assert table.index()["id"].to_pylist() == ["0000", "0001", "0002", "0003"]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "log"
    folder.mkdir()
    return folder


@pytest.mark.ray
def test_one_row_in_a_hundred_ends_its_process_and_the_rest_is_done(
    ray_cluster: None, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """300 rows in 12 blocks. Three end their process, each in its own way; one is unlucky three times."""
    monkeypatch.setattr(
        run, "_PATIENCE", AT_ONCE
    )  # each worker is started again more often; but there is what came through
    source = Source(keys(300, r0110="segfault", r0123="hoard", r0207="abort", r0260="kill 3"))
    dies = ["0110", "0123", "0207"]
    table, undisturbed = Table(str(tmp_path / "t"), SHOUT), Table(str(tmp_path / "u"), SHOUT)
    seen: list[dict[str, int]] = []
    arguments = {"log": str(log), "lives": 25}
    counts = run_stage(
        Dying, arguments, source, table, rows_per_block=25, workers=2, num_cpus=0.5, progress=seen.append
    )
    assert (counts.rows_in, counts.ok, counts.missing) == (300, 297, 0)
    assert counts.reasons == {"bad_input/crashed": 3}
    assert (sum(c.get("ok", 0) for c in seen), sum(c.get("bad_input", 0) for c in seen)) == (297, 3)

    whole = Source(keys(300, r0260="kill 3"))
    _Worker(Shout, {}, whole, undisturbed, generation=1)(whole.keys)
    expected = {row["id"]: row for row in undisturbed.read().to_pylist()}
    found = table.read(only_ok=False).sort_by("id").to_pylist()
    assert [row["id"] for row in found] == sorted(expected)
    assert [row for row in found if row["id"] not in dies] == [expected[i] for i in sorted(expected) if i not in dies]
    assert crashed(pa.Table.from_pylist(found)) == dies
    assert len(table.parts()) == 12
    assert set(storage.list_files(table.url)) == {*(part.rsplit("/", 1)[1] for part in table.parts()), "_done.json"}

    times = Counter(came_to(log))
    blocks = [[f"{i:04d}" for i in range(start, start + 25)] for start in range(0, 300, 25)]
    for block in blocks:
        good = [times[one] for one in block if one not in (*dies, "0260")]
        # whole, whole again by the worker that was started again, an eighth, and alone
        assert max(good) <= (4 if {*dies, "0260"} & {*block} else 1)
    assert all(times[one] <= 5 for one in dies)

    before = storage.list_files(table.url)
    assert run_stage(Dying, arguments, source, table, rows_per_block=25, num_cpus=0.5).ok == 297
    assert Counter(came_to(log)) == times
    assert storage.list_files(table.url) == before


@pytest.mark.ray
@pytest.mark.parametrize(("setup", "rows"), [(None, "kill"), ("kill", "text")])
def test_a_stage_that_always_ends_its_process_is_no_fault_of_ten_thousand_rows(
    ray_cluster: None, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch, setup: str | None, rows: str
) -> None:
    monkeypatch.setattr(run, "_PATIENCE", AT_ONCE)
    table = Table(str(tmp_path / "t"), SHOUT)
    ids = [f"{i:05d}" for i in range(10_000)]
    source = Source(pa.table({"id": ids, "text": [rows] * len(ids)}))
    with pytest.raises(Fatal, match=r"process that runs Dying ended 3 times, and no row has come through"):
        run_stage(Dying, {"log": str(log), "lives": 8, "setup": setup}, source, table, rows_per_block=50, num_cpus=0.5)
    assert storage.list_files(table.url) == {}
    assert count_lives(log) == 3


@pytest.mark.ray
@pytest.mark.parametrize("setup", [False, True])
def test_a_machine_that_breaks_ends_the_run_and_condemns_no_row(
    ray_cluster: None, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch, setup: bool
) -> None:
    """From row 10 on every process dies: at any row, or before it comes to one. Row 10 and its neighbour take five."""
    monkeypatch.setattr(run, "_PATIENCE", Patience(in_vain=3, in_vain_later=8, apart_sec=0.0))
    table, source = Table(str(tmp_path / "t"), SHOUT), Source(keys(40))
    arguments = {"log": str(log), "lives": 12, "breaks_at": "0010", "setup": setup}
    with pytest.raises(Fatal, match=r"process that runs Breaking ended 8 times, and no row has come through it since"):
        run_stage(Breaking, arguments, source, table, rows_per_block=2, num_cpus=0.5)
    assert (count_lives(log), crashed(table.read(only_ok=False))) == (8, [])
    assert sorted(table.index()["id"].to_pylist()) == [f"{i:04d}" for i in range(10)]
    assert len(storage.list_files(table.url)) == len(table.parts()) == 5
    assert run_stage(Shout, {}, source, table, rows_per_block=2, num_cpus=0.5).ok == 40


@pytest.mark.ray
def test_whole_blocks_of_rows_that_end_processes_are_recorded(
    ray_cluster: None, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One with others after it, and the last one."""
    monkeypatch.setattr(run, "_PATIENCE", Patience(apart_sec=0.0))
    table, bad = Table(str(tmp_path / "t"), SHOUT), (4, 5, 10, 11)
    source = Source(keys(12, **{f"r{i:04d}": "kill" for i in bad}))
    arguments = {"log": str(log), "lives": 15}
    counts = run_stage(Dying, arguments, source, table, rows_per_block=2, num_cpus=0.5)
    assert (counts.ok, counts.reasons) == (8, {"bad_input/crashed": 4})
    assert sorted(crashed(table.read(only_ok=False))) == [f"{i:04d}" for i in bad]
    assert len(storage.list_files(table.url)) == 6 + 1


PICTURES = 100


@pytest.mark.ray
def test_images_that_crash_the_decoder_are_bad_input_and_the_others_are_fetched(
    ray_cluster: None, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_PATIENCE", AT_ONCE)
    folder = tmp_path / "pictures"
    folder.mkdir()
    bad = (77,)
    for i in range(PICTURES):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / f"{i:03d}.png")
    for i in bad:
        with (folder / f"{i:03d}.png").open("ab") as file:
            file.write(MAGIC)
    with serve(folder) as address:
        source = Source(
            pa.table(
                {
                    "id": [f"{i:032x}" for i in range(PICTURES)],
                    "source": [f"{address}/{i:03d}.png" for i in range(PICTURES)],
                }
            )
        )
        table, undisturbed = (Table(str(tmp_path / name), schema.IMAGES) for name in "tu")
        arguments = {"allow_private": ["127.0.0.1"]}
        counts = run_stage(
            FragileFetch, {"log": str(log), "lives": 10, **arguments}, source, table, rows_per_block=32, num_cpus=0.5
        )
        run_stage(Fetch, arguments, source, undisturbed, rows_per_block=32, num_cpus=0.5)
    assert (counts.ok, counts.reasons) == (PICTURES - 1, {"bad_input/crashed": 1})
    rows, expected = (one.read(only_ok=False).sort_by("id").to_pylist() for one in (table, undisturbed))
    assert [row["id"] for row in rows if row["reason"] == "crashed"] == [f"{i:032x}" for i in bad]
    good = [i for i in range(PICTURES) if i not in bad]
    assert [rows[i] for i in good] == [expected[i] for i in good]
