"""run_stage on a real Ray cluster: each row once, whatever is killed in between."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from seewhy.failure import Fatal
from seewhy.ray_cluster import check_room
from seewhy.run import Source, Stored, _handed_over, _Worker, check_ids, read_block, run_stage
from seewhy.table import Table
from tests.stages import SHOUT, Shout

pytestmark = pytest.mark.ray


def keys(count: int, **texts: str) -> pa.Table:
    ids = [f"{i:04d}" for i in range(count)]
    return pa.table({"id": ids, "text": [texts.get("r" + i, f"text {i}") for i in ids]})


def worked_on(log: Path) -> list[str]:
    return [line for file in log.iterdir() for line in file.read_text().split("\n")]


def test_each_block_is_a_part_and_a_rerun_does_nothing(ray_cluster: None, tmp_path: Path) -> None:
    table, log = Table(str(tmp_path / "t"), SHOUT), tmp_path / "log"
    log.mkdir()
    seen: list[dict[str, int]] = []
    source = Source(keys(50, r0007="poison", r0013="flaky"))
    args = {"log": str(log)}
    counts = run_stage(Shout, args, source, table, rows_per_block=8, workers=2, num_cpus=0.5, progress=seen.append)
    assert (counts.rows_in, counts.ok, counts.failed["transient"], counts.failed["bad_input"]) == (50, 48, 1, 1)
    assert len(table.parts()) == 7  # 50 rows in blocks of 8: Ray must not fuse them
    assert sum(c.get("ok", 0) for c in seen) == 48
    assert table.done_mark()["rows_in"] == 50
    assert sorted(worked_on(log)) == source.keys.column("id").to_pylist()

    counts = run_stage(Shout, args, source, table, rows_per_block=8, workers=1, num_cpus=0.5)
    assert counts.ok == 48
    assert sorted(worked_on(log)) == sorted([*source.keys.column("id").to_pylist(), "0013"])  # only the flaky row again


def test_rows_come_from_the_parts_of_another_table(ray_cluster: None, tmp_path: Path) -> None:
    first, second = Table(str(tmp_path / "a"), SHOUT), Table(str(tmp_path / "b"), SHOUT)
    run_stage(Shout, {}, Source(keys(20)), first, rows_per_block=6, num_cpus=0.5)
    index = first.index()
    keys_of = index.select(["id", "part", "position"]).take([19, 3, 4, 0])
    source = Source(keys_of, (Stored(first.parts(), {"text": "text"}),))
    assert read_block(source, source.keys).column("text").to_pylist() == [
        f"TEXT {i}" for i in ("0019", "0003", "0004", "0000")
    ]
    run_stage(Shout, {}, source, second, rows_per_block=2, num_cpus=0.5)
    there = second.locate(keys_of["id"])
    both = keys_of.append_column("other_part", there["part"].take([3, 1, 2, 0]))
    both = both.append_column("other_position", there["position"].take([3, 1, 2, 0]))
    other = Stored(second.parts(), {"louder": "text"}, part="other_part", position="other_position")
    assert read_block(Source(both, (*source.stored, other)), both).column_names == ["id", "text", "louder"]
    found = dict(zip(*second.read(["id", "text"]).to_pydict().values(), strict=True))
    assert found == {i: f"TEXT {i}" for i in ("0000", "0003", "0004", "0019")}


def test_a_block_that_was_committed_is_not_run_again(tmp_path: Path) -> None:
    """A node that dies takes the answers of its last blocks with it, but not what it had written."""
    table, log = Table(str(tmp_path / "t"), SHOUT), tmp_path / "log"
    log.mkdir()
    block = keys(5, r0002="poison")
    worker = _Worker(Shout, {"log": str(log)}, Source(block), table, generation=1)
    first, again = worker(block).to_pylist(), worker(block).to_pylist()
    counts = {"ok": 4, "transient": 0, "rejected": 0, "bad_input": 1}
    assert first == again == [{"stopped": None, **counts}]
    assert worked_on(log) == block["id"].to_pylist()
    worker = _Worker(Shout, {"log": str(log)}, Source(block), table, generation=2)
    worker(block)
    assert worked_on(log) == block["id"].to_pylist() * 2


def test_rows_that_were_not_asked_about_are_not_there_and_end_the_worker(tmp_path: Path) -> None:
    table = Table(str(tmp_path / "t"), SHOUT)
    block = keys(6, r0002="unpaid", r0003="poison", r0004="unpaid")
    worker = _Worker(Shout, {}, Source(block), table, generation=1)
    (told,) = worker(block.slice(0, 5)).to_pylist()
    assert told == {"stopped": "row 0002", "ok": 2, "transient": 0, "rejected": 0, "bad_input": 1}
    assert table.index()["id"].to_pylist() == ["0000", "0001", "0003"]
    (told,) = worker(block.slice(5)).to_pylist()  # does nothing more
    assert told == {"stopped": "row 0002", "ok": 0, "transient": 0, "rejected": 0, "bad_input": 0}
    assert len(table.parts()) == 1
    # A node that dies then has its block done again elsewhere, where there may be money for the others: no row is
    # asked about, and written, a second time.
    block = block.set_column(1, "text", pa.array(["text"] * 6))
    _Worker(Shout, {}, Source(block), table, generation=1)(block.slice(0, 5))
    assert table.index()["id"].to_pylist() == ["0000", "0001", "0003"]
    block = keys(6, r0002="unpaid", r0003="poison", r0004="unpaid")
    _Worker(Shout, {}, Source(block), table, generation=2)(block.take([2, 4]))
    assert len(table.parts()) == 1  # of nothing there is no part


@pytest.mark.ray
def test_what_others_have_in_hand_is_committed_before_a_stage_stops_for_want_of_money(
    ray_cluster: None, tmp_path: Path
) -> None:
    table = Table(str(tmp_path / "t"), SHOUT)
    source = Source(keys(12, r0010="unpaid"))
    with pytest.raises(Fatal, match=r"^row 0010$"):
        run_stage(Shout, {"sleep_sec": 0.2}, source, table, rows_per_block=3, workers=2, num_cpus=0.5)
    there = set(table.index()["id"].to_pylist())
    blocks = [{f"{i:04}" for i in range(start, start + 3)} for start in (0, 3, 6, 9)]
    assert there & blocks[3] == {"0009", "0011"}
    assert all(there & block in (set(), block) for block in blocks[:3])  # a worker that has stopped leaves the rest
    assert table.done_mark() is None


@pytest.mark.ray
def test_what_others_have_in_hand_is_committed_before_a_fatal_error_comes_through(
    ray_cluster: None, tmp_path: Path
) -> None:
    """The last of four blocks fails at once; those before it, which both workers may hold, take their time."""
    table = Table(str(tmp_path / "t"), SHOUT)
    args = {"fatal": "0009", "sleep_sec": 1.0}
    with pytest.raises(Fatal, match="no such model"):
        run_stage(Shout, args, Source(keys(12)), table, rows_per_block=3, workers=2, num_cpus=0.5)
    there = table.index()["id"].to_pylist()
    assert sorted(there) == [f"{i:04}" for i in range(9)]  # handed out before, so done before or in other hands
    assert table.done_mark() is None


def test_a_large_job_hands_ray_several_blocks_at_a_time() -> None:
    assert _handed_over(500, 64, 2) == 64
    assert _handed_over(64 * 256, 64, 2) == 64
    assert _handed_over(64 * 257, 64, 2) == 128
    assert _handed_over(64 * 257, 64, 100) == 64  # many workers need many blocks
    assert _handed_over(10_000_000, 64, 8) == 611 * 64


def test_a_lost_row_stops_the_job(ray_cluster: None, tmp_path: Path) -> None:
    table = Table(str(tmp_path), SHOUT)
    with pytest.raises(Exception, match=r"Shout got 5 ids and returned 4: 1 lost \['0002'\]"):
        run_stage(Shout, {"drop": "0002"}, Source(keys(5)), table, rows_per_block=5, num_cpus=0.5)
    assert table.parts() == []


def test_fatal_comes_through_as_fatal(ray_cluster: None, tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="no such model"):
        run_stage(
            Shout, {"fatal": "0003"}, Source(keys(5)), Table(str(tmp_path), SHOUT), rows_per_block=5, num_cpus=0.5
        )


def test_too_many_failed_rows_end_the_job_after_all_are_committed(ray_cluster: None, tmp_path: Path) -> None:
    table = Table(str(tmp_path), SHOUT)
    source = Source(keys(10, r0001="poison", r0002="poison"))
    with pytest.raises(Fatal, match=r"2 of 10 rows failed .* 0\.1"):
        run_stage(Shout, {}, source, table, rows_per_block=5, num_cpus=0.5, max_failed_fraction=0.1)
    assert table.counts().ok == 8
    assert run_stage(Shout, {}, source, table, rows_per_block=5, max_failed_fraction=0.2).ok == 8


def test_a_worker_no_node_can_hold_is_refused(ray_cluster: None, tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="1000 CPU"):
        run_stage(Shout, {}, Source(keys(5)), Table(str(tmp_path), SHOUT), rows_per_block=5, num_cpus=1000)


def test_where_nodes_still_come_any_worker_is_waited_for(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"num_cpus": 1000, "num_gpus": 8, "memory": 2**50, "accelerator_type": "H100"}
    with pytest.raises(Fatal, match="1000 CPU, 8 GPU"):
        check_room(**wanted)
    monkeypatch.setenv("SEEWHY_AUTOSCALES", "1")
    check_room(**wanted)


def test_check_ids_sees_a_swap() -> None:
    with pytest.raises(ValueError, match="out of order"):
        check_ids(Shout(), keys(2), keys(2).take([1, 0]))


DRIVER = """
import sys
import pyarrow as pa
from seewhy.ray_cluster import connect
from seewhy.run import run_stage, Source
from seewhy.table import Table
from tests.stages import SHOUT, Shout
keys = pa.table({"id": [f"{i:04d}" for i in range(120)], "text": ["x"] * 120})
connect(num_cpus=2, object_store_bytes=100_000_000)
run_stage(Shout, {"log": sys.argv[2], "sleep_sec": 0.4}, Source(keys), Table(sys.argv[1], SHOUT),
          rows_per_block=5, workers=2, num_cpus=1)
"""


def test_killed_driver_resumes_and_repeats_only_blocks_in_flight(tmp_path: Path) -> None:
    """SIGKILL in mid-run, then a rerun: 0 lost, 0 doubled, repeated at most 2 workers' blocks of 5."""
    log = tmp_path / "log"
    log.mkdir()
    table = Table(str(tmp_path / "t"), SHOUT)
    command = [sys.executable, "-c", DRIVER, table.url, str(log)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])}
    env.pop("RAY_ADDRESS", None)
    process = subprocess.Popen(command, env=env, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while len(table.parts()) < 6:
            assert time.monotonic() < deadline, "the driver committed nothing in two minutes"
            assert process.poll() is None
            time.sleep(0.1)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = table.counts()
    assert 30 <= before.ok < 120
    time.sleep(1.0)  # Ray's own processes notice that their driver is gone
    subprocess.run(command, env=env, check=True, timeout=180)
    after = table.counts()
    assert (after.rows_in, after.ok, after.missing) == (120, 120, 0)
    assert sorted(table.read(["id"]).column("id").to_pylist()) == [f"{i:04d}" for i in range(120)]
    done = worked_on(log)
    assert set(done) == {f"{i:04d}" for i in range(120)}
    assert len(done) - 120 <= 2 * 5
