"""What no schema says: rules that KubeRay's operator and Kueue's webhook refuse a manifest by, or that they break on.

KubeRay 1.7: ray-operator/controllers/ray/utils/validation.go and common/job.go. Kueue: the webhooks of RayJob and
RayCluster. Each function returns what is wrong, in words; an empty list is what a test wants.
"""

import re
from typing import Any

import yaml
from packaging.version import Version

Document = dict[str, Any]
LONGEST_JOB_NAME = 47
LONGEST_CLUSTER_NAME = 53  # a job's name and six characters
_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SHELL = set(";&|<>$`\\\"'(){}*?!#~\n")
_RESOURCE_PARAMETERS = {"num-cpus", "num-gpus", "memory", "resources"}


def job_mistakes(job: Document) -> list[str]:
    spec, name = job["spec"], job["metadata"]["name"]
    wrong = _name_mistakes(name, LONGEST_JOB_NAME)
    shuts_down = spec.get("shutdownAfterJobFinishes", False)
    if spec.get("ttlSecondsAfterFinished", 0) > 0 and not shuts_down:
        wrong.append("ttlSecondsAfterFinished needs shutdownAfterJobFinishes")
    if spec.get("suspend") and not shuts_down:
        wrong.append("suspend needs shutdownAfterJobFinishes")
    if not spec.get("entrypoint", "").strip():
        wrong.append("no entrypoint")
    if bad := sorted(_SHELL & set(spec.get("entrypoint", ""))):
        wrong.append(f"the entrypoint stands in the submitter's shell as it is, and holds {bad}")
    if "rayClusterSpec" not in spec and not spec.get("clusterSelector"):
        wrong.append("neither rayClusterSpec nor clusterSelector")
    mode = spec.get("submissionMode", "K8sJobMode")
    if mode == "SidecarMode":
        wrong += [f"SidecarMode forbids {key}" for key in ("submitterPodTemplate", "submitterConfig") if key in spec]
        if _restart_policy(spec.get("rayClusterSpec", {}).get("headGroupSpec", {})) not in (None, "Never"):
            wrong.append("SidecarMode wants restartPolicy Never of the head")
    elif mode not in ("K8sJobMode", "HTTPMode", "InteractiveMode"):
        wrong.append(f"there is no submissionMode {mode}")
    if mode == "InteractiveMode" and spec.get("backoffLimit", 0) > 0:
        wrong.append("InteractiveMode forbids backoffLimit")
    if spec.get("activeDeadlineSeconds", 1) <= 0 or spec.get("backoffLimit", 0) < 0:
        wrong.append("activeDeadlineSeconds must be positive, backoffLimit not negative")
    if not isinstance(yaml.safe_load(spec.get("runtimeEnvYAML", "{}")), dict):
        wrong.append("runtimeEnvYAML is no YAML of keys and values")
    if "rayClusterSpec" in spec:
        wrong += spec_mistakes(spec["rayClusterSpec"])
    return wrong


def cluster_mistakes(cluster: Document) -> list[str]:
    return _name_mistakes(cluster["metadata"]["name"], LONGEST_CLUSTER_NAME) + spec_mistakes(cluster["spec"])


def spec_mistakes(spec: Document) -> list[str]:
    """Of a cluster, whether it stands or is a job's."""
    wrong = []
    named = {"head": spec["headGroupSpec"]}
    for one in spec.get("workerGroupSpecs", []):
        if one["groupName"] in named:
            wrong.append(f"two groups are called {one['groupName']}")
        named[one["groupName"]] = one
    scales = spec.get("enableInTreeAutoscaling", False)
    options = spec.get("autoscalerOptions", {})
    if options and not scales:
        wrong.append("autoscalerOptions without enableInTreeAutoscaling")
    for name, group in named.items():
        parameters, containers = group.get("rayStartParams", {}), group["template"]["spec"].get("containers", [])
        if not containers:
            wrong.append(f"{name}: no container")
            continue
        if group.get("resources") and _RESOURCE_PARAMETERS & set(parameters):
            wrong.append(f"{name}: resources stand in rayStartParams and in resources too")
        if "labels" in parameters:
            wrong.append(f"{name}: labels belong in the group, not in rayStartParams")
        wrong += [f"{name}: rayStartParams {key} is no text" for key, one in parameters.items() if type(one) is not str]
        environment = {one["name"] for one in containers[0].get("env", [])}
        if {"RAY_AUTH_TOKEN", "RAY_AUTH_MODE"} & environment and "authOptions" in spec:
            wrong.append(f"{name}: authOptions sets the token, and env sets it too")
        if scales and options.get("version") == "v2" and "RAY_enable_autoscaler_v2" in environment:
            wrong.append(f"{name}: autoscaler v2 is asked for twice")
        if scales and options.get("version") == "v2" and _restart_policy(group) not in (None, "Never"):
            wrong.append(f"{name}: autoscaler v2 wants restartPolicy Never")
        if scales and group.get("suspend"):
            wrong.append(f"{name}: a group that scales cannot be suspended")
        fewest, most, now = (group.get(key, 0) for key in ("minReplicas", "maxReplicas", "replicas"))
        if name != "head" and not 0 <= fewest <= now <= most:
            wrong.append(f"{name}: replicas {now} are not between {fewest} and {most}")
    if spec.get("authOptions", {}).get("mode") == "token":
        version = spec.get("rayVersion")
        if not version or Version(version) < Version("2.52.0"):
            wrong.append(f"token authentication needs rayVersion 2.52.0 or newer, not {version}")
    return wrong


def queue_mistakes(job: Document) -> list[str]:
    """Of a RayJob with Kueue's label; of any other none."""
    if "kueue.x-k8s.io/queue-name" not in job["metadata"].get("labels", {}):
        return []
    spec = job["spec"]
    cluster = spec.get("rayClusterSpec", {})
    wrong = []
    if spec.get("clusterSelector"):
        wrong.append("a queued job makes its own cluster")
    if not spec.get("shutdownAfterJobFinishes"):
        wrong.append("a queued job deletes its cluster")
    if cluster.get("enableInTreeAutoscaling"):
        wrong.append("a queued job does not scale")
    if len(cluster.get("workerGroupSpecs", [])) > 7:
        wrong.append("a queued job has at most 7 groups of workers")
    for group in cluster.get("workerGroupSpecs", []):
        if group["groupName"] == "head":
            wrong.append("a group of workers cannot be called head")
        if group.get("replicas", 0) == 0:
            wrong.append(f"{group['groupName']}: none are asked for, and none will come")
    return wrong


def _name_mistakes(name: str, longest: int) -> list[str]:
    wrong = [] if len(name) <= longest else [f"the name {name} has more than {longest} characters"]
    return wrong if _DNS_LABEL.fullmatch(name) else [*wrong, f"the name {name} is no DNS label"]


def _restart_policy(group: Document) -> str | None:
    return group.get("template", {}).get("spec", {}).get("restartPolicy")
