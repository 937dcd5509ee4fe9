"""A Ray head of its own for a test, which shares nothing with other clusters of this machine, and nodes that join it.

The rule of one cluster a session holds for the test's process, which never joins this head: only the jobs do.
"""

import contextlib
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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

BIN = Path(sys.executable).parent
MARK = "SEEWHY_TEST_HEAD"
"""An environment variable that every process of a head inherits, by which they are found again."""

_FREE = {"min-worker-port": 0, "max-worker-port": 0}  # whatever is free
_SMALL = {"object-store-memory": 100_000_000}


@dataclass
class Head:
    """A running head.

    Attributes:
        address: of its dashboard and job server.
        client_port: for ``ray://``.
        metrics_ports: on which its nodes show their metrics.
        env: the environment to reach it in; every process of it has the same.
    """

    address: str
    env: dict[str, str]
    port: int
    folder: Path
    client_port: int
    processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)
    metrics_ports: list[int] = field(default_factory=list)

    def add_node(self, name: str, options: Mapping[str, object]) -> None:
        """A node that has joined the head, with the options of `ray start`; its object store is small all the same.

        Ray gives a node 30 s to register, which may be too few where others have the machine: it is started again.
        """
        agent, agent_grpc, metrics = free_ports(3)
        self.metrics_ports.append(metrics)
        own = {
            "address": f"127.0.0.1:{self.port}",
            "node-ip-address": "127.0.0.1",
            "dashboard-agent-listen-port": agent,
            "dashboard-agent-grpc-port": agent_grpc,
            "metrics-export-port": metrics,
        }
        for _ in range(4):
            self.start(name, {**options, **own})
            while self.processes[-1].poll() is None:
                if "Ray runtime started" in (self.folder / f"{name}.log").read_text(errors="replace"):
                    return
                time.sleep(0.2)
        raise AssertionError(f"the node {name} did not start: {self.said()}")

    def start(self, name: str, options: Mapping[str, object], *flags: str) -> None:
        command = [str(BIN / "ray"), "start", *flags, "--block", "--disable-usage-stats"]
        command += [f"--{key}={value}" for key, value in {**options, **_FREE, **_SMALL}.items()]
        with open(self.folder / f"{name}.log", "wb") as log:
            self.processes.append(
                subprocess.Popen(command, env=self.env, stdout=log, stderr=log, start_new_session=True)
            )

    def said(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")))


@contextlib.contextmanager
def running_head(
    options: Mapping[str, object], *, token: str | None = None, variables: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Head]:
    """A head with the options of `ray start`, gone with all its processes in the end.

    Args:
        token: what whoever asks it must know; None: it asks for none.
        variables: of the environment of every process of it, beside this process's own.
    """
    mark = uuid.uuid4().hex
    port, dashboard, agent, agent_grpc, client, metrics = free_ports(6)
    folder = Path(tempfile.mkdtemp(prefix="head", dir="/tmp"))  # sockets lie in it, and their paths must be short
    dropped = ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    env = {name: value for name, value in os.environ.items() if name not in dropped}
    env |= {MARK: mark, "RAY_AUTH_MODE": "disabled", "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    # No process for each CPU that the head only says it has; and time to start where others have the machine.
    env |= {"RAY_prestart_worker_first_driver": "0", "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "150"}
    env |= variables
    if token is not None:
        env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    own = {
        "node-ip-address": "127.0.0.1",
        "port": port,
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": agent,
        "dashboard-agent-grpc-port": agent_grpc,
        "ray-client-server-port": client,
        "metrics-export-port": metrics,
        "include-dashboard": "true",
        "temp-dir": folder,
    }
    head = Head(f"http://127.0.0.1:{dashboard}", env, port, folder, client, metrics_ports=[metrics])
    try:
        head.start("head", {**options, **own}, "--head")
        _wait(head)
        yield head
    finally:
        end_all(head.processes, mark)
        shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """All bound at once, so that they differ."""
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in taken]


def ask(url: str, *, token: str | None = None) -> int:
    """The status of a GET, refusals included."""
    try:
        with _open(url, token) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def read(url: str, *, token: str | None = None) -> bytes:
    with _open(url, token) as answer:
        return answer.read()


def _open(url: str, token: str | None) -> Any:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30)


def _wait(head: Head, *, at_most_sec: float = 180) -> None:
    until = time.monotonic() + at_most_sec
    while True:
        with contextlib.suppress(urllib.error.URLError, OSError):
            if ask(f"{head.address}/api/jobs/", token=head.env.get("RAY_AUTH_TOKEN")) == 200:
                return
        assert head.processes[0].poll() is None, f"the head ended: {head.said()}"
        assert time.monotonic() < until, f"no job server in {at_most_sec} s: {head.said()}"
        time.sleep(0.2)


def end_all(processes: "list[subprocess.Popen[bytes]]", mark: str) -> None:
    """Kills what bears the mark until nothing does: nodes, their workers, the drivers of their jobs, and no other."""
    until = time.monotonic() + 20
    while left := marked(mark):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert time.monotonic() < until, f"processes {left} of the head cannot be ended"
        time.sleep(0.1)
    for process in processes:
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
