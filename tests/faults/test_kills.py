"""Every row stage of a study on three nodes, with a worker, a node, the driver and the head killed in its middle.

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

from tests.faults.home import PAUSE_SEC, ROW_STAGES, ROWS_PER_BLOCK, WORKERS, Home, draw, write_texts
from tests.faults.nodes import HEAD, OTHERS, Cluster, three_nodes
from tests.faults.slow_server import serving

pytestmark = [pytest.mark.ray, pytest.mark.slow]

FAULTS = ("worker", "node", "driver", "head")
STAGES = [stage if stage == "caption" else pytest.param(stage, marks=pytest.mark.long) for stage in ROW_STAGES]
"""All kills take a stage one to two minutes: `make test` has them for one, `make test-long` for the others."""


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


@dataclass(frozen=True)
class Strike:
    """Attributes:
    at: by the clock that names the log of what was begun.
    parts: in the table, just after it.
    in_hand: rows that the killed processes had begun, and that are not in the table.
    """

    fault: str
    killed: frozenset[int]
    at: int
    parts: int
    in_hand: int


@dataclass
class Struck:
    """A stage that runs, in a driver of its own, and what was killed of it."""

    home: Home
    stage: str
    cluster: Cluster
    driver: "subprocess.Popen[bytes]"

    def strike(self, fault: str, parts: int, **how: int) -> Strike:
        """Kills once there are so many parts; a driver that was killed is started anew, on a new cluster for a head."""
        self.wait(f"{parts} parts", lambda: len(self.home.parts(self.stage)) >= parts)
        killed = {
            "worker": self.kill_worker, "node": self.kill_node, "driver": self.kill_driver, "head": self.kill_head,
        }[fault](**how)  # fmt: skip
        in_hand = sum(len(ids) for pid, ids in self.in_hand() if pid in killed)
        done = Strike(fault, frozenset(killed), time.monotonic_ns(), len(self.home.parts(self.stage)), in_hand)
        if fault == "head":
            self.cluster.start()
        if fault in ("driver", "head"):
            assert self.driver.returncode == -signal.SIGKILL
            self.driver = self.cluster.run(*self.home.command(self.stage))
        return done

    def ended(self) -> None:
        """The driver ends well."""
        assert self.driver.wait(timeout=600) == 0, self.cluster.said()

    def wait(self, what: str, until: Callable[[], bool], *, at_most_sec: float = 300) -> None:
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
        return [(pid, ids) for _, pid, ids in begun if not done.issuperset(ids)]

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
            begun = [pid for _, pid, _ in self.home.begun(self.stage)]
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


@contextlib.contextmanager
def striking(home: Home, stage: str, cluster: Cluster, pause_sec: float = PAUSE_SEC) -> Iterator[Struck]:
    """The stage as it begins; in the end all three nodes are there again."""
    struck = Struck(home, stage, cluster, cluster.run(*home.command(stage, pause_sec=pause_sec)))
    try:
        yield struck
    finally:
        struck.end()
        cluster.end_left()
        for name in set(OTHERS) - set(cluster.nodes):
            cluster.start_node(name)


def begun_again(home: Home, stage: str, strikes: list[Strike]) -> list[int]:
    """For each strike the rows whose block it broke off, by the process that had begun it, and that were begun anew."""
    counts = [0] * len(strikes)
    last: dict[str, tuple[int, int]] = {}
    for at, pid, ids in home.begun(stage):
        for one in ids:
            if one in last:
                between = [n for n, strike in enumerate(strikes) if last[one][0] < strike.at < at]
                assert between, f"{one} was begun twice though nothing was killed in between"
                killers = [n for n in between if last[one][1] in strikes[n].killed]
                drivers = [n for n in between if strikes[n].fault in ("driver", "head")]  # Ray ends their workers
                counts[(killers + drivers + between)[0]] += 1
            last[one] = at, pid
    return counts


@pytest.mark.parametrize("stage", STAGES)
def test_kills_lose_and_double_no_row(
    stage: str, cluster: Cluster, whole: Home, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """One after the other in a single table: a worker, a node, the driver, and the head with its GCS and the driver."""
    asked_for = {one.callspec.params.get("stage") for one in request.session.items if one.module is request.module}
    whole.need(cluster, asked_for & set(ROW_STAGES))
    expected = whole.rows(stage)
    ids = expected["id"].to_pylist()
    blocks = math.ceil(len(ids) / ROWS_PER_BLOCK)
    home = whole.copy(tmp_path / "home", without=stage)
    whole.server.asked.clear()
    with striking(home, stage, cluster) as struck:
        strikes = [struck.strike(fault, (n + 1) * blocks // 6) for n, fault in enumerate(FAULTS)]
        struck.ended()
    on_disk = [one for _, one in home.ids_on_disk(stage)]
    begun = [one for _, _, block in home.begun(stage) for one in block]
    again = begun_again(home, stage, strikes)
    for strike, count in zip(strikes, again, strict=True):
        told = f"parts {strike.parts} of {blocks}, rows {len(ids)}, begun again {count}"
        print(f"TOLD {stage} {strike.fault}: {told}")
    lost, doubled = len(set(ids) - set(on_disk)), len(on_disk) - len(set(on_disk))
    seconds = f"{home.seconds(stage):.1f} s, undisturbed {whole.seconds(stage):.1f} s"
    print(f"TOLD {stage} in all: lost {lost}, doubled {doubled}, begun again {sum(again)}, {seconds}")

    assert strikes[-1].parts < blocks, "the stage was over before the last kill"
    assert sorted(on_disk) == ids  # none lost, none twice, in whatever generation
    assert home.rows(stage).equals(expected)
    assert home.table(stage).done_mark() == whole.table(stage).done_mark()
    assert sorted(set(begun)) == ids
    for strike, count in zip(strikes, again, strict=True):
        if strike.fault in ("worker", "node"):  # what was in hand there, and no more
            assert count == strike.in_hand > 0
        assert count <= WORKERS * ROWS_PER_BLOCK
    if stage == "fetch":
        asked = whole.server.asked
        assert len(set(asked)) == len(ids)
        assert len(asked) - len(set(asked)) <= sum(again)  # of a block that was begun some may not have been asked for


@pytest.mark.long
@pytest.mark.parametrize("fault", ["worker", "node"])
def test_of_several_blocks_that_ray_was_handed_at_once_only_one_is_begun_again(
    fault: str, cluster: Cluster, tmp_path: Path
) -> None:
    """600 blocks of a row go to Ray three at a time (see run._RAY_BLOCKS): the kill comes when a worker has the last of
    three in hand, and the two before it are in the table."""
    home = write_texts(tmp_path, 600)
    with striking(home, "words", cluster, pause_sec=0.1) as struck:
        strike = struck.strike(fault, 200, nth=3)
        struck.ended()
    assert strike.parts < 600
    assert len(home.rows("words")) == len(home.ids_on_disk("words")) == 600
    assert begun_again(home, "words", [strike]) == [strike.in_hand]
    assert strike.in_hand > 0
