"""What the manifests start, started: the RayJob's entrypoint, submitted as KubeRay does, on nodes like its groups'.

A head without CPUs that asks for a token, a node of the group cpu, and one of the group gpu that comes only when the
study waits for it. GPUs and memory are what Ray is told, so the study's own `resources` are scheduled as they stand.
"""

import csv
import io
import json
import re
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from seewhy import storage, urls
from seewhy.metrics import COST, ROWS
from tests.cluster.manifests import CLUSTER, ROOT, Document, documents, groups, needs_kubectl
from tests.cluster.spending_job import CALLS
from tests.cluster.test_fit import CLUSTER_FILE, JOB_FILE, autoscaling, in_project
from tests.ray_head import BIN, Head, ask, read, running_head
from tests.train.encoders import save_tiny_bert

pytestmark = [pytest.mark.ray, pytest.mark.slow]
OVERLAY = CLUSTER / "overlays" / "gpu-l4"
TOKEN = uuid.uuid4().hex
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


def node_options(kind: dict[str, Any]) -> dict[str, object]:
    """`ray start` for a node of a group, as the autoscaler sees it."""
    resources = dict(kind["resources"])
    options = {"num-cpus": resources.pop("CPU"), "num-gpus": resources.pop("GPU", 0), "memory": resources.pop("memory")}
    return {**options, "resources": json.dumps(resources)}


@pytest.fixture(scope="module")
def head(bucket: str) -> Iterator[Head]:
    """The head as its group's rayStartParams and env make it; the emulated bucket's address is in its env too."""
    group = groups(documents(CLUSTER_FILE)[0]["spec"])["head"]
    [container] = group["template"]["spec"]["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    variables["RAY_metrics_report_interval_ms"] = "1000"
    with running_head(group["rayStartParams"], token=TOKEN, variables=variables) as one:
        yield one


def test_who_has_no_token_is_refused(head: Head) -> None:
    assert ask(f"{head.address}/api/jobs/") == 401
    assert ask(f"{head.address}/api/jobs/", token="guessed") == 403
    assert ask(f"{head.address}/api/jobs/", token=TOKEN) == 200
    asked = subprocess.run(
        [BIN / "ray", "job", "list", "--address", head.address],
        env={**head.env, "RAY_AUTH_TOKEN": "guessed"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert asked.returncode != 0


DRIVER = "import ray; ray.init(address={address!r}, log_to_driver=False); print('in', len(ray.nodes()))"


def test_a_driver_needs_the_token_too(head: Head) -> None:
    """Past the job server, at the port by which drivers come in, anybody could run anything as well."""
    bare = {name: value for name, value in head.env.items() if not name.startswith("RAY_AUTH")}
    bare |= {"HOME": str(head.folder)}  # where no token lies
    known = {
        "guessed": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "guessed"},
        "none": {"RAY_AUTH_MODE": "disabled"},
        "right": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN},
    }
    command = [sys.executable, "-c", DRIVER.format(address=f"127.0.0.1:{head.port}")]
    drivers = {
        name: subprocess.Popen(
            command, env=bare | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for name, variables in known.items()
    }  # at once: those that are refused try again for 20 s
    told = {name: driver.communicate(timeout=180)[0] for name, driver in drivers.items()}
    assert {name: "in 1" in text for name, text in told.items()} == {"guessed": False, "none": False, "right": True}
    assert {name: driver.returncode == 0 for name, driver in drivers.items()} == {
        "guessed": False, "none": False, "right": True,
    }  # fmt: skip
    for name in ("guessed", "none"):
        assert re.search("(?i)unauthenticated|token|authentication", told[name])


def test_a_job_tells_machines_what_it_does_and_what_it_cost(head: Head, tmp_path: Path) -> None:
    ledger = tmp_path / "spent.json"
    name = submitted(head, f"{sys.executable} -m tests.cluster.spending_job {ledger}")
    until = time.monotonic() + 240
    while state(head, name) not in ENDED:
        assert time.monotonic() < until, said(head, name)
        time.sleep(0.5)
    assert state(head, name) == "SUCCEEDED", said(head, name)
    told = [json.loads(line) for line in said(head, name).splitlines() if line.startswith("{")]
    assert {(line["job"], line["study"], line["stage"]) for line in told} == {(name, "Spending", "caption")}
    assert (told[0]["rows"], told[-1]["rows"], told[-1]["total"]) == (0, 5, 5)
    assert "spent 0.0050" in said(head, name)
    assert json.loads(ledger.read_text())["at_most_usd"] == pytest.approx(0.005)

    def costs() -> dict[str, float]:
        shown = {line: value for line, value in metrics(head).items() if line.startswith(f"ray_{COST}{{")}
        return {service: value for line, value in shown.items() for service in CALLS if f'service="{service}"' in line}

    while sum((shown := costs()).values()) < 0.0049:
        assert time.monotonic() < until, metrics(head)
        time.sleep(1.5)
    assert shown == pytest.approx({service: 0.001 * calls for service, calls in CALLS.items()})


def small_study(folder: Path) -> Document:
    """The overlay's study with the `resources` of its stages as they stand, and models that take seconds."""
    study = yaml.safe_load((OVERLAY / "study.yaml").read_text())
    study["caption"] |= {"backend": "fake", "model": None}
    # torch looks for the GPU that a training is given, and here there is none
    study["train_text"] |= {
        "encoder": save_tiny_bert(folder / "encoder"),
        "epochs": 1,
        "folds": 2,
        "gpus_per_worker": 0,
    }
    study["explain_words"] |= {"max_evals": 4, "sample": 12}
    study["manifest"]["keep"] = []
    return study


def put_study(folder: Path, url: str) -> str:
    """A table of 24 pictures with the study beside it, in the bucket."""
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(["Poster", "Rating"])
    for number in range(24):
        picture = io.BytesIO()
        Image.new("RGB", (32, 32), (10 * number, 255 - 10 * number, 60)).save(picture, "PNG")
        storage.write_whole(f"{url}/{number}.png", picture.getvalue())
        rows.writerow([f"{number}.png", number / 4])
    storage.write_whole(f"{url}/films.csv", table.getvalue().encode())
    storage.write_whole(f"{url}/study.yaml", yaml.safe_dump(small_study(folder)).encode())
    return f"{url}/study.yaml"


def submitted(head: Head, entrypoint: str) -> str:
    """Submits as KubeRay's submitter does: through a shell, and again while the head's agent is not there yet."""
    name = f"study-{uuid.uuid4().hex[:6]}"
    command = f"ray job submit --address {head.address} --no-wait --submission-id {name} -- {entrypoint} ;"
    for _ in range(10):
        done = subprocess.run(["/bin/bash", "-c", command], env=head.env, capture_output=True, text=True, timeout=180)
        if "No available agent" not in done.stderr:
            break
    assert done.returncode == 0, done.stdout + done.stderr + head.said()
    return name


def state(head: Head, name: str) -> str:
    return json.loads(read(f"{head.address}/api/jobs/{name}", token=TOKEN))["status"]


def said(head: Head, name: str) -> str:
    return json.loads(read(f"{head.address}/api/jobs/{name}/logs", token=TOKEN))["logs"]


def metrics(head: Head) -> dict[str, float]:
    """What Prometheus would read of ours on all nodes: ``name{tag="value",...}`` -> value."""
    lines = [
        line for port in head.metrics_ports for line in read(f"http://127.0.0.1:{port}/metrics").decode().splitlines()
    ]
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("ray_seewhy_")}


def is_metric(line: str, name: str, **tags: str) -> bool:
    return line.startswith(f"ray_{name}_total{{") and all(f'{tag}="{value}"' in line for tag, value in tags.items())


@needs_kubectl
def test_the_entrypoint_runs_the_study_and_waits_for_the_nodes_that_it_needs(
    head: Head, bucket: str, tmp_path: Path
) -> None:
    python, script, _ = documents(JOB_FILE)[0]["spec"]["entrypoint"].split()
    study = put_study(tmp_path, f"{bucket}/films-{uuid.uuid4().hex[:6]}")
    kinds = autoscaling(OVERLAY)["available_node_types"]
    head.add_node("cpu", node_options(kinds["cpu"]))
    name = submitted(head, f"{python} {shlex.quote(str(in_project(script)))} {study}")

    until = time.monotonic() + 540

    def wait_for(line: str) -> None:
        while line not in said(head, name) and state(head, name) not in ENDED:
            assert time.monotonic() < until, said(head, name) + head.said()
            time.sleep(1)
        assert line in said(head, name), said(head, name)

    wait_for("caption: 24 rows to do")
    time.sleep(5)
    assert state(head, name) == "RUNNING"
    assert "caption: 24 of 24" not in said(head, name), "there was a GPU before there was one"
    head.add_node("gpu", node_options(kinds["gpu"]))
    wait_for("train_text: done in")
    wait_for("report: ")
    while state(head, name) not in ENDED:
        assert time.monotonic() < until, said(head, name)
        time.sleep(1)
    assert state(head, name) == "SUCCEEDED", said(head, name)
    report = urls.join(study.removesuffix("/study.yaml"), "out", "report", "index.html")
    assert "What moves a film" in storage.read_whole(report).decode()
    shown = metrics(head)
    assert sum(value for line, value in shown.items() if is_metric(line, ROWS, stage="fetch", outcome="ok")) == 24


def test_a_runtime_environment_takes_the_project_along(head: Head) -> None:
    """README's way to try a change without an image: jobs and the package itself come from this folder."""
    script = "import os, seewhy; print('from', seewhy.__file__, os.path.exists('jobs/run.py'))"
    name = f"shipped-{uuid.uuid4().hex[:6]}"
    command = [BIN / "ray", "job", "submit", "--address", head.address, "--no-wait", "--submission-id", name]
    command += ["--runtime-env", "cluster/runtime-env.yaml", "--", "python", "-c", script]
    done = subprocess.run(command, env=head.env, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    until = time.monotonic() + 240
    while state(head, name) not in ENDED:
        assert time.monotonic() < until, said(head, name)
        time.sleep(1)
    assert state(head, name) == "SUCCEEDED", said(head, name)
    lines = [line for line in said(head, name).splitlines() if "from " in line and line.endswith("True")]
    assert len(lines) == 1, said(head, name)
    assert "_ray_pkg_" in lines[0]
