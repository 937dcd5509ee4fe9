"""Each rule refuses what it is for: a good manifest, one thing changed, one mistake found."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.manifests import CLUSTER, Document, documents
from tests.cluster.operator_rules import cluster_mistakes, job_mistakes, queue_mistakes

Change = Callable[[Document], Any]


def good_cluster() -> Document:
    return documents(CLUSTER / "base" / "raycluster.yaml")[0]


def good_job() -> Document:
    [job] = documents(CLUSTER / "components" / "job" / "rayjob.yaml")
    job["spec"]["rayClusterSpec"] = good_cluster()["spec"]
    return job


def put(path: str, value: object) -> Change:
    """Sets what lies at a dotted path; a number is a place in a list."""

    def change(document: Document) -> None:
        *way, last = path.split(".")
        here: Any = document
        for step in way:
            here = here[int(step)] if isinstance(here, list) else here[step]
        here[last] = value

    return change


def drop(path: str) -> Change:
    def change(document: Document) -> None:
        *way, last = path.split(".")
        here: Any = document
        for step in way:
            here = here[int(step)] if isinstance(here, list) else here[step]
        del here[last]

    return change


def mistakes_of(job: Document, *changes: Change) -> list[str]:
    changed = copy.deepcopy(job)
    for change in changes:
        change(changed)
    return job_mistakes(changed)


SIDECAR = put("spec.submissionMode", "SidecarMode")
JOB = {
    "47 characters": [put("metadata.name", "a" * 48)],
    "no DNS label": [put("metadata.name", "Study_1")],
    "ttlSecondsAfterFinished needs": [put("spec.shutdownAfterJobFinishes", False)],
    "suspend needs": [
        drop("spec.ttlSecondsAfterFinished"),
        drop("spec.shutdownAfterJobFinishes"),
        put("spec.suspend", True),
    ],
    "no entrypoint": [put("spec.entrypoint", " ")],
    "stands in the submitter's shell": [put("spec.entrypoint", "python run.py $STUDY")],
    "neither rayClusterSpec": [drop("spec.rayClusterSpec")],
    "SidecarMode forbids submitterPodTemplate": [
        put("spec.submissionMode", "SidecarMode"),
        drop("spec.submitterConfig"),
    ],
    "SidecarMode forbids submitterConfig": [
        put("spec.submissionMode", "SidecarMode"),
        drop("spec.submitterPodTemplate"),
    ],
    "there is no submissionMode": [put("spec.submissionMode", "JobMode")],
    "InteractiveMode forbids": [put("spec.submissionMode", "InteractiveMode")],
    "must be positive": [put("spec.activeDeadlineSeconds", 0)],
    "no YAML of keys": [put("spec.runtimeEnvYAML", "- a")],
}


@pytest.mark.parametrize("said", JOB)
def test_a_job_that_is_refused(said: str) -> None:
    [mistake] = mistakes_of(good_job(), *JOB[said])
    assert said in mistake


HEAD, CPU = "spec.headGroupSpec", "spec.workerGroupSpecs.0"
SPEC = {
    "53 characters": [put("metadata.name", "a" * 54)],
    "autoscalerOptions without": [put("spec.enableInTreeAutoscaling", False)],
    "head: no container": [put(f"{HEAD}.template.spec.containers", [])],
    "head: resources stand in": [put(f"{HEAD}.resources", {"CPU": "1"})],
    "cpu: labels belong": [put(f"{CPU}.rayStartParams.labels", "a=b")],
    "cpu: rayStartParams num-cpus is no text": [put(f"{CPU}.rayStartParams.num-cpus", 4)],
    "cpu: authOptions sets the token": [
        put(f"{CPU}.template.spec.containers.0.env", [{"name": "RAY_AUTH_TOKEN", "value": "x"}])
    ],
    "head: autoscaler v2 is asked for twice": [
        put(f"{HEAD}.template.spec.containers.0.env", [{"name": "RAY_enable_autoscaler_v2", "value": "1"}])
    ],
    "head: autoscaler v2 wants restartPolicy": [put(f"{HEAD}.template.spec.restartPolicy", "Always")],
    "cpu: autoscaler v2 wants restartPolicy": [put(f"{CPU}.template.spec.restartPolicy", "OnFailure")],
    "cpu: a group that scales cannot": [put(f"{CPU}.suspend", True)],
    "cpu: replicas 9 are not between": [put(f"{CPU}.replicas", 9)],
    "needs rayVersion 2.52.0": [put("spec.rayVersion", "2.51.1")],
    "newer, not None": [drop("spec.rayVersion")],
}


@pytest.mark.parametrize("said", SPEC)
def test_a_cluster_that_is_refused(said: str) -> None:
    changed = good_cluster()
    for change in SPEC[said]:
        change(changed)
    [mistake] = cluster_mistakes(changed)
    assert said in mistake


def test_two_groups_of_one_name_are_refused() -> None:
    cluster = good_cluster()
    cluster["spec"]["workerGroupSpecs"] *= 2
    assert cluster_mistakes(cluster) == ["two groups are called cpu"]


def test_what_is_allowed_is_not_refused() -> None:
    job = good_job()
    assert mistakes_of(job) == []
    assert cluster_mistakes(good_cluster()) == []
    assert mistakes_of(job, put("metadata.name", "a" * 47)) == []
    without = [drop("spec.submitterPodTemplate"), drop("spec.submitterConfig")]
    assert mistakes_of(job, SIDECAR, *without) == []
    always = put("spec.rayClusterSpec.headGroupSpec.template.spec.restartPolicy", "Always")
    no_scaling = [drop("spec.rayClusterSpec.autoscalerOptions"), drop("spec.rayClusterSpec.enableInTreeAutoscaling")]
    assert mistakes_of(job, always, *no_scaling) == []
    sidecar = [SIDECAR, *without, always, *no_scaling]
    assert mistakes_of(job, *sidecar) == ["SidecarMode wants restartPolicy Never of the head"]


def test_a_queued_job_is_held_to_kueues_rules() -> None:
    job = good_job()
    assert queue_mistakes(job) == []
    job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "seewhy"
    assert queue_mistakes(job) == ["a queued job does not scale"]
    job["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] = False
    assert queue_mistakes(job) == []
    job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["replicas"] = 0
    job["spec"]["shutdownAfterJobFinishes"] = False
    assert queue_mistakes(job) == [
        "a queued job deletes its cluster",
        "cpu: none are asked for, and none will come",
    ]
