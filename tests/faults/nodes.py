"""Three raylets on this machine as the three nodes of a cluster, each of which can be killed with all its processes.

The test's own process joins none of them. Every process bears its node's mark in its environment (see `ray_head`), by
which it is found whoever's child it has become.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.ray_head import BIN, MARK, Head, end_all, free_ports, marked

ROOT = Path(__file__).parents[2]
HEAD, OTHERS = "head", ("a", "b")
NODES = (HEAD, *OTHERS)
_FIRST = ("gcs_server", "raylet")  # what makes a node one: without them nothing that follows is tidied up


@dataclass
class Node:
    """A node: `ray start` and all that comes of it, found by the mark."""

    mark: str
    head: Head

    def pids(self) -> list[int]:
        return marked(self.mark)

    def kill(self) -> list[int]:
        """SIGKILL to all its processes, those first that would tell others; they are gone when this returns."""
        pids = sorted(self.pids(), key=lambda pid: program(pid) not in _FIRST)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        end_all(self.head.processes, self.mark)  # and what was being started meanwhile
        return pids


@dataclass
class Cluster:
    """A head with its GCS and two more nodes. A head that was killed can be followed by another one, with new nodes.

    Attributes:
        cpus: of each node, in Ray's books.
        left: nodes of clusters whose head was killed. Nobody tells them.
    """

    cpus: int
    folder: Path
    nodes: dict[str, Node] = field(default_factory=dict)
    left: list[Node] = field(default_factory=list)
    port: int = 0

    def start(self) -> None:
        """A head on a port of its own, and two nodes."""
        self.left += [node for name, node in self.nodes.items() if name != HEAD]
        self.nodes = {}
        for _ in range(4):  # Ray gives a node 30 s to register, which may be too few where others have the machine
            if self._start_head():
                break
            self.nodes[HEAD].kill()
        else:
            raise AssertionError(f"the head did not start: {self.nodes[HEAD].head.said()}")
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.start_node, OTHERS))

    def _start_head(self) -> bool:
        self.port, client = free_ports(2)
        node = self._node(HEAD)
        options = {"port": self.port, "ray-client-server-port": client, "include-dashboard": "false"}
        options |= {"temp-dir": node.head.folder, "num-cpus": self.cpus, **_own_ports()}
        node.head.start(HEAD, options, "--head")
        until = time.monotonic() + 150
        while node.head.processes[0].poll() is None and time.monotonic() < until:
            said = node.head.said()
            if "Ray runtime started" in said or "timed out during startup" in said:
                return "Ray runtime started" in said
            time.sleep(0.05)
        return False

    def start_node(self, name: str) -> None:
        node = self._node(name)
        # A folder of its own: nodes that start at once would choose the same sockets in the head's.
        node.head.add_node(name, {"num-cpus": self.cpus, "temp-dir": node.head.folder})

    def kill(self, name: str) -> list[int]:
        """Of the head also the drivers, which run there on a cluster."""
        return self.nodes[name].kill() if name == HEAD else self.nodes.pop(name).kill()

    def node_of(self, pid: int) -> str:
        """Where a process runs; KeyError for one that is on none of the nodes."""
        found = [name for name, node in self.nodes.items() if pid in node.pids()]
        if not found:
            raise KeyError(f"process {pid} is on none of the nodes {', '.join(self.nodes)}")
        return found[0]

    def run(self, module: str, *arguments: str) -> "subprocess.Popen[bytes]":
        """A driver on the head; its output goes into a file that `said` reads."""
        env = {**self.nodes[HEAD].head.env, "RAY_ADDRESS": f"127.0.0.1:{self.port}"}
        with open(self.folder / f"driver-{time.monotonic_ns()}.log", "wb") as log:
            command = [sys.executable, "-m", module, *arguments]
            return subprocess.Popen(command, env=env, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)

    def said(self) -> str:
        """What the last driver said."""
        return sorted(self.folder.glob("driver-*.log"))[-1].read_text(errors="replace")

    def end_left(self) -> None:
        for node in self.left:
            node.kill()
        self.left = []

    def end(self) -> None:
        self.end_left()
        for node in self.nodes.values():
            node.kill()

    def _node(self, name: str) -> Node:
        mark = f"{uuid.uuid4().hex}-{name}"
        folder = self.folder / mark[:6]  # Ray's sockets lie in it, and their paths must be short
        folder.mkdir()
        self.nodes[name] = Node(mark, Head("", _environment(mark), self.port, folder, client_port=0))
        return self.nodes[name]


@contextlib.contextmanager
def three_nodes(*, cpus: int = 2) -> Iterator[Cluster]:
    """A cluster of three nodes, of which nothing is left in the end."""
    folder = Path(tempfile.mkdtemp(prefix="n", dir="/tmp"))
    cluster = Cluster(cpus, folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()
        shutil.rmtree(folder, ignore_errors=True)


def program(pid: int) -> str:
    """The name of a process's program, empty where it has ended."""
    try:
        return os.path.basename((Path("/proc") / str(pid) / "cmdline").read_bytes().split(b"\0")[0].decode())
    except OSError:
        return ""


def _own_ports() -> Mapping[str, object]:
    agent, agent_grpc, metrics = free_ports(3)
    return {
        "node-ip-address": "127.0.0.1",
        "dashboard-agent-listen-port": agent,
        "dashboard-agent-grpc-port": agent_grpc,
        "metrics-export-port": metrics,
    }


def _environment(mark: str) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    env |= {MARK: mark, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    # No process for each CPU before a driver asks for one; and a node that is gone is missed in 5 s instead of 15.
    env |= {"RAY_prestart_worker_first_driver": "0", "RAY_health_check_period_ms": "1000"}
    env |= {"RAY_USAGE_STATS_ENABLED": "0"}
    return env | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
