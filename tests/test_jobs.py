"""The jobs as a cluster runs them: submitted to a Ray head, each in its own copy of the folder, by their exit codes."""

import contextlib
import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from seewhy.cli import run_job
from seewhy.progress import Reporter
from seewhy.study import Study
from tests.train.encoders import save_tiny_bert

JOBS = Path(__file__).parents[1] / "jobs"
BIN = Path(sys.executable).parent
MARK = "SEEWHY_TEST_HEAD"
"""An environment variable that every process of a head inherits, by which they are found again."""


def write_study(folder: Path, *, name: str = "study.yaml", workspace: str, manifest: str = "films.csv") -> str:
    """A study of texts with an encoder beside it, so small that all of it takes seconds."""
    value = {
        "title": "Films by their titles",
        "workspace": workspace,
        "manifest": {"path": manifest, "text": "text", "target": "score"},
        "train_text": {"encoder": "./encoder", "epochs": 1, "folds": 2, "launcher": "here"},
        "explain_words": {"max_evals": 4, "resources": {"cpus_per_worker": 0.5, "rows_per_block": 40}},
    }
    (folder / name).write_text(yaml.safe_dump(value))
    return str(folder / name)


def test_a_workspace_in_a_jobs_own_copy_of_the_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray unpacks --working-dir into a folder called _ray_pkg_ and a hash, and removes it when it needs the room."""
    copy = tmp_path / "_ray_pkg_0123456789abcdef"
    copy.mkdir()
    ran: list[str] = []

    def step(study: Study, _: Reporter) -> None:
        ran.append(study.workspace)

    for workspace in ("out", "sub/out", str(copy / "out")):
        monkeypatch.setattr(sys, "argv", ["run.py", write_study(copy, workspace=workspace)])
        with pytest.raises(SystemExit) as ended:
            run_job("About the job.", step)
        assert ended.value.code == 1
        said = capsys.readouterr().err
        assert f"seewhy: the workspace {copy}/" in said
        assert "would be lost with it: give an absolute path" in said
    for workspace in (str(tmp_path / "out"), "gs://bucket/out"):
        monkeypatch.setattr(sys, "argv", ["run.py", write_study(copy, workspace=workspace)])
        run_job("About the job.", step)
    assert ran == [str(tmp_path / "out"), "gs://bucket/out"]


@pytest.fixture
def head() -> Iterator[tuple[str, dict[str, str]]]:
    """Address of a Ray head with two logical CPUs, and the environment to reach it in; it shares nothing with others.

    The rule of one cluster a session holds for this process, which never joins this head: only the jobs do.
    """
    mark = uuid.uuid4().hex
    port, dashboard, agent, agent_grpc, client = free_ports(5)
    folder = Path(tempfile.mkdtemp(prefix="head", dir="/tmp"))  # sockets lie in it, and their paths must be short
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    env |= {MARK: mark, "RAY_AUTH_MODE": "disabled", "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    options = {
        "node-ip-address": "127.0.0.1",
        "port": port,
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": agent,
        "dashboard-agent-grpc-port": agent_grpc,
        "ray-client-server-port": client,
        "min-worker-port": 0,  # whatever is free
        "max-worker-port": 0,
        "num-cpus": 2,
        "object-store-memory": 100_000_000,
        "include-dashboard": "true",
        "temp-dir": folder,
    }
    command = [BIN / "ray", "start", "--head", "--block", "--disable-usage-stats"]
    command += [f"--{name}={value}" for name, value in options.items()]
    with open(folder / "head.log", "wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{dashboard}"
        wait_for(f"{address}/api/jobs/", process, folder / "head.log")
        yield address, env
    finally:
        end_all(process, mark)
        shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """All bound at once, so that they differ."""
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in taken]


def wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path, *, at_most_sec: float = 90) -> None:
    ask = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
    until = time.monotonic() + at_most_sec
    while True:
        try:
            ask(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, f"the head ended: {log.read_text()}"
            assert time.monotonic() < until, f"no job server in {at_most_sec} s: {log.read_text()}"
            time.sleep(0.2)


def end_all(process: "subprocess.Popen[bytes]", mark: str) -> None:
    """Kills what bears the mark until nothing does: the head, its workers, the drivers of its jobs, and no other."""
    until = time.monotonic() + 20
    while left := marked(mark):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert time.monotonic() < until, f"processes {left} of the head cannot be ended"
        time.sleep(0.1)
    process.wait(timeout=20)


def marked(mark: str) -> list[int]:
    """Processes with the mark in their environment, whatever session they are in and whosever children they became."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):  # it has ended, or is another user's
                if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found


@pytest.mark.ray
@pytest.mark.slow
def test_a_submitted_job_ends_with_its_report_or_with_the_reason_why_not(
    head: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    address, env = head
    shutil.copytree(JOBS, tmp_path / "here" / "jobs", ignore=shutil.ignore_patterns("__pycache__"))
    save_tiny_bert(tmp_path / "here" / "encoder")
    rows = [["text", "score"], *([f"a {'dark' if i % 2 else 'bright'} scene {i}", i] for i in range(40))]
    with open(tmp_path / "here" / "films.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    write_study(tmp_path / "here", workspace=str(tmp_path / "out"))
    write_study(tmp_path / "here", name="lost.yaml", workspace=str(tmp_path / "none"), manifest="lost.csv")

    def submit(study: str) -> "subprocess.Popen[str]":
        command = [BIN / "ray", "job", "submit", "--address", address, "--working-dir", tmp_path / "here"]
        command += ["--", "python", "jobs/run.py", study]
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    good, bad = submit("study.yaml"), submit("lost.yaml")
    said_good, said_bad = good.communicate(timeout=240)[0], bad.communicate(timeout=240)[0]
    assert good.returncode == 0, said_good
    assert "train_text: done in" in said_good
    assert "Films by their titles" in (tmp_path / "out/report/index.html").read_text(encoding="utf-8")
    assert bad.returncode != 0, said_bad
    assert "seewhy: no manifest at" in said_bad
    assert "lost.csv" in said_bad
    assert not (tmp_path / "none").exists()
