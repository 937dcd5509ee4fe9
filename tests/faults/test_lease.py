"""One run at a time in a workspace: who came second waits or is told who holds it, and nobody waits for the dead."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from seewhy import lease, storage, urls
from seewhy.failure import Fatal
from seewhy.lease import FOLDER, Lease, hold
from seewhy.progress import Reporter
from seewhy.steps import caption, fetch
from seewhy.steps.order import holding, run_study
from seewhy.study import Study, load_study
from seewhy.table import Table, read_part
from tests.drawn_images import draw_images


@pytest.fixture(params=["disk", "gs"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A workspace that is not there yet."""
    if request.param == "disk":
        return str(tmp_path / "out")
    return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"


def files(url: str) -> list[str]:
    return sorted(storage.list_files(urls.join(url, FOLDER)))


def record(url: str, number: int) -> dict[str, Any]:
    return storage.read_json(urls.join(url, FOLDER, f"{number:06d}.json")) or {}


def held_elsewhere(url: str, number: int = 1, **changed: Any) -> dict[str, Any]:
    """The file of a run on another machine."""
    one = {
        "run": "theirs",
        "free": False,
        "study": "Films",
        "host": "node-3",
        "pid": 812,
        "user": "ann",
        "job": "raysubmit_x",
        "process": {"machine": "another pid:[1]", "pid": os.getpid(), "started": "1"},
        "since": "2026-11-22T10:00:00+00:00",
        "stage": "caption",
        "renewals": 7,
        **changed,
    }
    storage.write_json(urls.join(url, FOLDER, f"{number:06d}.json"), one)
    return one


@contextmanager
def holder(url: str, *, renew: float = 0.1, expire: float = 30.0) -> Iterator["subprocess.Popen[str]"]:
    """Another process, which holds the workspace."""
    command = [sys.executable, "-m", "tests.faults.holder", url, str(renew), str(expire)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_workspace_is_held_for_as_long_as_it_lasts_and_free_afterwards(url: str) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    with hold(url, study="Films", renew_sec=0.05) as mine:
        mine.at("caption")
        found = record(url, 1)
        assert (found["study"], found["pid"], found["free"]) == ("Films", os.getpid(), False)
        assert before <= datetime.fromisoformat(found["since"]) <= datetime.now(UTC)
        deadline = time.monotonic() + 20
        while record(url, 1)["renewals"] < 3:
            assert time.monotonic() < deadline
            mine.check()
            time.sleep(0.02)
        assert record(url, 1)["stage"] == "caption"
    assert record(url, 1)["free"]
    at_the_end = storage.read_whole(urls.join(url, FOLDER, "000001.json"))
    with hold(url, study="Films", renew_sec=60):
        assert files(url) == ["000002.json"]  # the one before is tidied up, and its number never comes again
    time.sleep(0.2)
    assert files(url) == ["000002.json"]
    assert storage.read_whole(urls.join(url, FOLDER, "000002.json")) != at_the_end


def somebody_elses(*_: object) -> None:
    """As Ray's, once it has been started in a process."""


@pytest.fixture(params=[signal.SIG_DFL, somebody_elses])
def handler(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Of SIGTERM, as it stands when a run begins, whatever tests before this one have made of it."""
    before = signal.signal(signal.SIGTERM, request.param)
    yield request.param
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, Fatal])
def test_it_is_free_after_whatever_ended_the_run(tmp_path: Path, error: type[BaseException], handler: Any) -> None:
    def run() -> None:
        with hold(str(tmp_path), study="Films"):
            assert not record(str(tmp_path), 1)["free"]
            raise error("over")

    with pytest.raises(error, match="over"):
        run()
    assert record(str(tmp_path), 1)["free"]
    assert signal.getsignal(signal.SIGTERM) is handler


def test_the_one_who_comes_second_is_told_who_holds_it_and_since_when(url: str) -> None:
    said: list[str] = []
    with holder(url) as process:
        found = record(url, 1)
        began = time.monotonic()
        with pytest.raises(Fatal) as refused, hold(url, study="mine", say=said.append, expire_sec=30):
            pytest.fail("two hold it")
        assert time.monotonic() - began < 15
        told = str(refused.value)
        for part in (url, '"holder"', f"process {process.pid} on {found['host']}", f"since {found['since']}", "alive"):
            assert part in told
        assert len(said) == 1
        assert f"process {process.pid}" in said[0]
        assert files(url) == ["000001.json"]
        assert record(url, 1)["run"] == found["run"]
        process.communicate("")  # it ends
        assert process.returncode == 0
        with hold(url, study="mine", say=said.append):
            assert files(url) == ["000002.json"]
    assert len(said) == 1


def test_a_holder_that_was_killed_on_this_machine_is_not_waited_for(url: str) -> None:
    said: list[str] = []
    with holder(url) as process:
        process.kill()  # and nobody has collected it yet: it is a zombie
        time.sleep(0.2)
        began = time.monotonic()
        with hold(url, study="mine", say=said.append):
            assert record(url, 2)["pid"] == os.getpid()
    assert time.monotonic() - began < 5
    assert said == []


def test_a_holder_of_this_machine_that_was_stopped_is_not_taken_for_dead(url: str) -> None:
    with holder(url) as process:
        process.send_signal(signal.SIGSTOP)
        told = rf"process {process.pid} on .*stands still"
        with pytest.raises(Fatal, match=told), hold(url, study="mine", expire_sec=1.0):
            pytest.fail("two hold it")
        process.send_signal(signal.SIGCONT)
        process.communicate("")
        assert process.returncode == 0
    with hold(url, study="mine"):
        assert files(url) == ["000002.json"]


def test_sigterm_frees_it(tmp_path: Path) -> None:
    with holder(str(tmp_path)) as process:
        process.terminate()
        process.wait(20)
        assert process.returncode == 128 + signal.SIGTERM
        assert record(str(tmp_path), 1)["free"]


def test_a_lease_of_another_machine_that_stands_still_expires(url: str) -> None:
    held_elsewhere(url)
    said: list[str] = []
    began = time.monotonic()
    with hold(url, study="mine", say=said.append, expire_sec=1.0) as mine:
        assert 1.0 < time.monotonic() - began < 8
        mine.check()
        assert files(url) == ["000002.json"]
    assert "process 812 on node-3 of ann, Ray job raysubmit_x; since 2026-11-22T10:00:00+00:00, at caption" in said[0]
    assert len(said) == 2


def test_a_lease_of_another_machine_that_moves_is_respected(url: str) -> None:
    over = threading.Event()

    def renew() -> None:
        for count in range(1000):
            held_elsewhere(url, renewals=count)
            if over.wait(0.1):
                return

    held_elsewhere(url)
    thread = threading.Thread(target=renew)
    thread.start()
    try:
        told = r"node-3 of ann.*since 2026-11-22T10:00:00.*at caption.*It is alive"
        with pytest.raises(Fatal, match=told), hold(url, study="mine", expire_sec=5.0):
            pytest.fail("two hold it")
    finally:
        over.set()
        thread.join()
    assert files(url) == ["000001.json"]


def test_a_spoilt_file_is_held_by_somebody_unknown(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "000004.json").write_bytes(b"")  # made, and its maker died before it could say more
    (tmp_path / FOLDER / ".000004.json.1f.tmp").write_bytes(b"")
    began = time.monotonic()
    with hold(str(tmp_path), study="mine", expire_sec=0.5):
        assert time.monotonic() - began > 0.5
        assert record(str(tmp_path), 5)["pid"] == os.getpid()


def test_the_process_of_another_start_or_of_another_machine_is_not_this_one() -> None:
    mine = lease._process()
    assert mine is not None
    assert not lease._is_gone(mine)
    assert lease._is_gone({**mine, "started": "1"})  # its number was given to another process
    assert lease._is_gone({**mine, "pid": 2**22 + 1})  # above any number that Linux gives
    assert not lease._is_gone({**mine, "machine": "another", "pid": 2**22 + 1})
    assert not lease._is_gone(None)


ROUNDS = {"disk": 12, "gs": 4}


@pytest.mark.parametrize("where", ["disk", "gs"])
@pytest.mark.parametrize("before", ["nothing", "free", "gone", "still"])
def test_of_several_that_come_at_once_exactly_one_wins(
    request: pytest.FixtureRequest, tmp_path: Path, where: str, before: str
) -> None:
    base = str(tmp_path) if where == "disk" else f"{request.getfixturevalue('bucket')}/{tmp_path.name}"
    for number in range(2 if before == "still" else ROUNDS[where]):
        url = f"{base}/{number}"
        mine = lease._process()
        assert mine is not None
        if before != "nothing":
            how = {"free": {"free": True}, "gone": {"process": {**mine, "started": "1"}}, "still": {}}[before]
            held_elsewhere(url, number=3, **how)
        assert race(url, 4, expire_sec=2.0) == {"won": 1, "refused": 3}


def race(url: str, count: int, *, expire_sec: float) -> Counter[str]:
    start, ended = threading.Barrier(count), threading.Semaphore(0)
    outcomes: Counter[str] = Counter()

    def run() -> None:
        start.wait()
        try:
            with hold(url, study="mine", renew_sec=0.05, expire_sec=expire_sec) as held:
                for _ in range(count - 1):  # holds it until all others have been refused
                    assert ended.acquire(timeout=30)
                held.check()
                outcomes["won"] += 1
        except Fatal as error:
            outcomes["refused" if "It is alive" in str(error) else str(error)] += 1
            ended.release()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_a_run_that_was_taken_for_dead_stops_and_leaves_the_other_alone(url: str) -> None:
    """The one that stood still: a paused machine that wakes. Its thread does not come to renew here."""
    with hold(url, study="old", renew_sec=60, expire_sec=0.5) as old:
        elsewhere = {**record(url, 1), "process": {**record(url, 1)["process"], "machine": "another"}}
        storage.write_json(urls.join(url, FOLDER, "000001.json"), elsewhere)
        with hold(url, study="new", renew_sec=0.1, expire_sec=0.5) as new:
            taken = record(url, 2)
            with pytest.raises(Fatal, match=r'has lost .*the run "new" .*has taken over'):
                old.check()
            new.check()
            assert files(url) == ["000002.json"]
        freed = storage.read_whole(urls.join(url, FOLDER, "000002.json"))
        with pytest.raises(Fatal, match="has lost"):
            old.at("report")
    assert files(url) == ["000002.json"]  # it marks nothing free that is not its own
    assert storage.read_whole(urls.join(url, FOLDER, "000002.json")) == freed
    assert record(url, 2)["run"] == taken["run"]


def test_a_run_that_could_not_renew_looks_before_it_goes_on(tmp_path: Path) -> None:
    with hold(str(tmp_path), study="mine", renew_sec=60, expire_sec=0.4) as mine:
        mine.check()
        assert record(str(tmp_path), 1)["renewals"] == 0
        time.sleep(0.3)
        mine.check()  # nobody took over: it goes on
        assert record(str(tmp_path), 1)["renewals"] == 1


@pytest.mark.parametrize("how", ["a higher number", "gone", "another run's"])
def test_the_thread_finds_what_happened_to_the_file(tmp_path: Path, how: str) -> None:
    with hold(str(tmp_path), study="mine", renew_sec=0.05, expire_sec=60) as mine:
        if how == "gone":
            (tmp_path / FOLDER).rename(tmp_path / "aside")
        else:
            held_elsewhere(str(tmp_path), number=2 if how == "a higher number" else 1)
        with pytest.raises(Fatal, match=r"is gone" if how == "gone" else r"node-3.* has taken over"):
            check_for(mine, 20)
        left = (tmp_path / FOLDER).exists() and record(str(tmp_path), 2 if how == "a higher number" else 1)["run"]
        assert left == (False if how == "gone" else "theirs")


def check_for(held: Lease, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        held.check()
        time.sleep(0.01)


def study_of_texts(home: Path, manifest: str) -> Study:
    (home / "films.csv").write_text("text,score\na,1\n")
    what = {"path": manifest, "text": "text", "target": "score"}
    (home / "study.yaml").write_text(yaml.safe_dump({"title": "Films", "workspace": "./out", "manifest": what}))
    return load_study(str(home / "study.yaml"))


@pytest.mark.parametrize("how", ["counts", "says", "begins a stage"])
def test_a_run_that_lost_its_workspace_ends_at_the_next_thing_it_tells(tmp_path: Path, how: str) -> None:
    study, reporter = study_of_texts(tmp_path, "films.csv"), Reporter(quiet=True)
    done = []

    def run() -> None:
        with holding(study, reporter) as held, reporter.stage("x", 10) as progress:
            for number in range(2):
                if how == "counts":
                    progress({"ok": 1})
                elif how == "says":
                    reporter.say("done")
                else:
                    held.at("report")
                done.append(number)
                held_elsewhere(study.workspace, number=2)
                held._renew()

    with pytest.raises(Fatal, match="has lost"):
        run()
    assert done == [0]
    reporter.say("said when nothing is held")


def test_nothing_is_made_for_a_study_that_cannot_run(tmp_path: Path) -> None:
    study = study_of_texts(tmp_path, "lost.csv")
    with pytest.raises(Fatal, match="no manifest at"):
        run_study(study, Reporter(quiet=True))
    assert not (tmp_path / "out").exists()


COUNT = 48


@pytest.fixture
def home(tmp_path: Path) -> Path:
    draw_images(tmp_path, COUNT, table="films.csv", columns=("image", "score"), height=8, width=8, numbers=7)
    return tmp_path


def study_of(home: Path, workspace: str, name: str, *, seconds: float) -> Study:
    small = {"workers": 1, "cpus_per_worker": 0.5, "rows_per_block": 3}
    value = {
        "title": "Films",
        "workspace": workspace,
        "manifest": {"path": "films.csv", "image": "image", "target": "score"},
        "path": "words",
        "fetch": {"resources": {**small, "rows_per_block": 16}},
        "caption": {"backend": "fake", "options": {"seconds_per_request": seconds}, "resources": small},
        "probe": {"min_texts": 2},
    }
    (home / name).write_text(yaml.safe_dump(value))
    return load_study(str(home / name))


def rows(table: Table) -> list[dict[str, Any]]:
    """All rows that lie in the parts, whether they count or not: one that is doubled is here twice."""
    return sorted(
        (row for part in table.parts() for row in read_part(part, None).to_pylist()), key=lambda row: row["id"]
    )


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("where", ["disk", "gs"])
def test_two_runs_of_one_study_at_once(
    ray_cluster: None, request: pytest.FixtureRequest, home: Path, where: str
) -> None:
    """One goes on and ends, the other is refused; and one that is killed is followed at once."""
    workspace = str(home / "out") if where == "disk" else f"{request.getfixturevalue('bucket')}/{home.name}"
    study = study_of(home, workspace, "study.yaml", seconds=0.5)  # a second run takes long to start on a busy machine
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "seewhy.cli", "run", str(home / "study.yaml")]

    def start() -> "subprocess.Popen[str]":
        return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True)

    first = start()
    try:
        deadline = time.monotonic() + 300
        while len(caption.table(study).parts()) < 2:
            assert time.monotonic() < deadline
            assert first.poll() is None
            time.sleep(0.1)
        if where == "disk":
            os.killpg(first.pid, signal.SIGKILL)
            first.wait()
            first = start()
            while record(workspace, 2).get("stage") != "caption":
                assert time.monotonic() < deadline
                assert first.poll() is None
                time.sleep(0.1)
        since = record(workspace, 2 if where == "disk" else 1)["since"]
        second = subprocess.run(command, env=env, stderr=subprocess.PIPE, text=True, timeout=300)
        assert first.poll() is None
        assert second.returncode == 1
        last = second.stderr.strip().splitlines()[-1]
        assert last.startswith(f'seewhy: {workspace} is held by the run "Films" (process {first.pid} on ')
        assert f"since {since}, at caption" in last
        said = first.communicate(timeout=300)[1]
    finally:
        first.kill()
    assert first.returncode == 0, said
    assert "seeing for up to" not in said  # nobody waited for the one that was killed

    alone = study_of(home, str(home / "alone"), "alone.yaml", seconds=0.0)
    run_study(alone, Reporter(quiet=True))
    for step in (fetch, caption):
        found, expected = rows(step.table(study)), rows(step.table(alone))
        assert len(found) == COUNT
        assert found == expected
    assert json.loads(storage.read_whole(f"{workspace}/report/seewhy-report.json"))
