"""Every row stage of a study on three nodes, with a worker, a node, the driver or the head killed in its middle.

Rows are counted where they are begun, and in the parts on disk: none lost, none twice, and begun a second time only
those that were in the hands of what was killed. The table is, to the last bit, that of an undisturbed run.
"""

import contextlib
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.home import POSTERS, ROW_STAGES, ROWS_PER_BLOCK, WORKERS, Home, draw, write_texts
from tests.faults.nodes import HEAD, OTHERS, Cluster, three_nodes
from tests.faults.slow_server import serving

pytestmark = [pytest.mark.ray, pytest.mark.slow]

FAULTS = ("worker", "node", "driver", "head")
FIRST_PROOFS = {("caption", "worker"), ("fetch", "node"), ("fetch", "head")}
"""With the driver that is killed in tests/test_run.py, one of each fault. The others take minutes."""
CELLS = [
    pytest.param(stage, fault, id=f"{stage}-{fault}", marks=[] if (stage, fault) in FIRST_PROOFS else pytest.mark.long)
    for stage in ROW_STAGES
    for fault in FAULTS
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with three_nodes() as one:
        yield one


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """The study undisturbed, as far as a test has asked for it."""
    folder = tmp_path_factory.mktemp("whole")
    with serving(folder, delay_sec=0.5) as server:
        yield draw(folder, server)


@dataclass
class Struck:
    """A stage that runs, in a driver of its own, and what was killed of it."""

    home: Home
    stage: str
    cluster: Cluster
    driver: "subprocess.Popen[bytes]"

    def wait(self, what: str, until: Callable[[], bool], *, at_most_sec: float = 120) -> None:
        """Looks every few milliseconds; the driver must live."""
        deadline = time.monotonic() + at_most_sec
        while not until():
            assert self.driver.poll() is None, f"the driver ended while {what} was waited for: {self.cluster.said()}"
            assert time.monotonic() < deadline, f"{what} did not come in {at_most_sec:.0f} s: {self.cluster.said()}"
            time.sleep(0.01)

    def in_hand(self) -> list[tuple[int, list[str]]]:
        """Process and ids of the blocks that were begun and are not in the table."""
        begun = self.home.begun(self.stage)  # first: what is committed meanwhile is not in hand
        done = {one for _, one in self.home.ids_on_disk(self.stage)}
        return [(pid, ids) for pid, ids in begun if not done.issuperset(ids)]

    def kill_worker(self, nth: int = 1) -> list[int]:
        """One that has just begun a block, the n-th, 2n-th ... of its own."""
        pid = self._who_begins(nth, lambda pid: True)
        os.kill(pid, signal.SIGKILL)
        return [pid]

    def kill_node(self, nth: int = 1) -> list[int]:
        """One beside the head, a worker of which has just begun such a block."""
        places: dict[int, str] = {}

        def elsewhere(pid: int) -> bool:
            if pid not in places:
                places[pid] = self.cluster.node_of(pid)
            return places[pid] in OTHERS

        return self.cluster.kill(places[self._who_begins(nth, elsewhere)])

    def _who_begins(self, nth: int, wanted: Callable[[int], bool]) -> int:
        known, found = len(self.home.begun(self.stage)), 0

        def begins() -> bool:
            nonlocal known, found
            begun = [pid for pid, _ in self.home.begun(self.stage)]
            if len(begun) == known:
                return False
            known, found = len(begun), begun[-1]
            return wanted(found) and begun.count(found) % nth == 0

        self.wait("a block of the right worker", begins)
        return found

    def kill_driver(self) -> list[int]:
        self.driver.kill()
        self.driver.wait()
        return [self.driver.pid]

    def kill_head(self) -> list[int]:
        """With its GCS, its workers and the driver; the other two nodes are told nothing."""
        killed = self.cluster.kill(HEAD)
        self.driver.wait()
        return killed

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.driver.pid, signal.SIGKILL)
        self.driver.wait()


@pytest.mark.parametrize(("stage", "fault"), CELLS)
def test_a_kill_loses_and_doubles_no_row(
    stage: str,
    fault: str,
    cluster: Cluster,
    whole: Home,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    whole.need(cluster, stage)
    expected = whole.rows(stage)
    blocks = math.ceil(len(expected) / ROWS_PER_BLOCK)
    home = whole.copy(tmp_path / "home", without=stage)
    whole.server.asked.clear()
    struck = Struck(home, stage, cluster, cluster.run(*home.command(stage)))
    try:
        struck.wait("a third of the parts", lambda: len(home.parts(stage)) >= blocks // 3)
        killed = getattr(struck, f"kill_{fault}")()
        in_hand = [one for pid, ids in struck.in_hand() if pid in killed for one in ids]
        at_kill = len(home.parts(stage))
        assert blocks // 3 <= at_kill < blocks, f"{at_kill} of {blocks} parts at the kill: the stage was over"
        if fault == "head":
            cluster.start()
        if fault in ("driver", "head"):
            assert struck.driver.returncode == -signal.SIGKILL
            struck.driver = cluster.run(*home.command(stage))
        assert struck.driver.wait(timeout=300) == 0, cluster.said()
    finally:
        struck.end()
        if fault == "node":
            for name in set(OTHERS) - set(cluster.nodes):
                cluster.start_node(name)
        cluster.end_left()

    ids = expected["id"].to_pylist()
    on_disk = home.ids_on_disk(stage)
    begun = [one for _, block in home.begun(stage) for one in block]
    again = len(begun) - len(set(begun))
    told = {
        "stage": stage, "fault": fault, "rows": len(ids), "lost": len(set(ids) - {one for _, one in on_disk}),
        "doubled": len(on_disk) - len({one for _, one in on_disk}), "again": again,
        "parts at the kill": f"{at_kill} of {blocks}", "seconds": round(home.seconds(stage), 1),
        "undisturbed": round(whole.seconds(stage), 1),
    }  # fmt: skip
    record_property("told", told)
    print(told)

    assert sorted(one for _, one in on_disk) == ids  # none lost, none twice, in whatever generation
    assert home.rows(stage).equals(expected), told
    assert home.table(stage).done_mark() == whole.table(stage).done_mark()
    assert sorted(set(begun)) == ids
    assert again <= WORKERS * ROWS_PER_BLOCK
    if fault in ("worker", "node"):  # what was in hand there, and no more
        assert again == len(in_hand) > 0
    if stage == "fetch":
        assert len(whole.server.asked) - len(set(whole.server.asked)) <= again  # what was asked, once answered or not
        assert len(set(whole.server.asked)) == POSTERS + 2


@pytest.mark.long
@pytest.mark.parametrize("fault", ["worker", "node"])
def test_of_several_blocks_that_ray_was_handed_at_once_only_one_is_begun_again(
    fault: str, cluster: Cluster, tmp_path: Path
) -> None:
    """600 blocks of a row go to Ray three at a time (see run._RAY_BLOCKS): the kill comes when a worker has the last of
    three in hand, and the two before it are in the table."""
    home = write_texts(tmp_path, 600)
    struck = Struck(home, "words", cluster, cluster.run(*home.command("words", 0.1)))
    try:
        struck.wait("a third of the parts", lambda: len(home.parts("words")) >= 200)
        killed = getattr(struck, f"kill_{fault}")(nth=3)
        in_hand = [one for pid, ids in struck.in_hand() if pid in killed for one in ids]
        assert len(home.parts("words")) < 600
        assert struck.driver.wait(timeout=300) == 0, cluster.said()
    finally:
        struck.end()
        if fault == "node":
            for name in set(OTHERS) - set(cluster.nodes):
                cluster.start_node(name)
    begun = [one for _, block in home.begun("words") for one in block]
    assert len(set(begun)) == len(home.rows("words")) == len(home.ids_on_disk("words")) == 600
    assert len(begun) - 600 == len(in_hand) > 0
