"""The manifests beside the code: versions, names and paths are the same in both, and each study finds its room."""

import importlib
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from seewhy import steps
from seewhy.sections import Resources, Training
from seewhy.study import Study, load_study
from tests.cluster.manifests import (
    CLUSTER,
    ROOT,
    all_documents,
    built_documents,
    cluster_spec,
    documents,
    groups,
    kustomizations,
    name,
    needs_kubectl,
    of_kind,
    pod_templates,
)

OVERLAYS = sorted(path.parent for path in of_kind("study"))
CLUSTER_FILE, JOB_FILE = CLUSTER / "base" / "raycluster.yaml", CLUSTER / "components" / "job" / "rayjob.yaml"


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def test_the_version_of_ray_is_the_one_that_the_image_installs() -> None:
    assert documents(CLUSTER_FILE)[0]["spec"]["rayVersion"] == pinned()["ray"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [ray] = [one for one in map(Requirement, project["dependencies"]) if one.name == "ray"]
    assert pinned()["ray"] in ray.specifier


def test_entrypoints_name_jobs_that_exist() -> None:
    for path in of_kind("manifest"):
        for one in documents(path):
            if one["kind"] == "RayJob":
                python, script, study = one["spec"]["entrypoint"].split()
                assert (python, study.startswith("gs://")) == ("python", True)
                assert in_project(script).is_file()
            if one["kind"] == "Job":
                [container] = one["spec"]["template"]["spec"]["containers"]
                assert in_project(container["command"][1]).is_file()


def in_project(path: str) -> Path:
    """A path of the image, /app/..., as the Dockerfile copies it from here."""
    copies = [line.split() for line in (CLUSTER / "Dockerfile").read_text().splitlines() if line.startswith("COPY ")]
    for _, *_, source, target in copies:
        if path == target or path.startswith(target + "/"):
            return ROOT / (source + path.removeprefix(target))
    raise AssertionError(f"the image has no {path}")


@needs_kubectl
def test_variables_are_ones_that_somebody_reads() -> None:
    """Ours stand in the code, Ray's and the hub's in their packages; one that nobody reads would do nothing."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    constants = {
        "RAY_TRAIN_": importlib.import_module("ray.train.v2._internal.constants"),
        "HF_": importlib.import_module("huggingface_hub.constants"),
    }
    names: set[str] = set()
    for folder in kustomizations():
        for one in built_documents(folder):
            for template in pod_templates(one).values():
                names |= {v["name"] for container in template["spec"]["containers"] for v in container.get("env", [])}
    assert {"SEEWHY_AUTOSCALES", "HF_HUB_CACHE"} <= names
    for variable in names:
        if variable.startswith("SEEWHY_"):
            assert f'"{variable}"' in code
        else:
            [module] = [module for start, module in constants.items() if variable.startswith(start)]
            assert f'"{variable}"' in Path(str(module.__file__)).read_text(encoding="utf-8")


@needs_kubectl
def test_all_ray_pods_of_a_cluster_have_the_same_environment() -> None:
    """Drivers run on the head and workers elsewhere. Two files hold the list, since YAML has no way to share it."""
    for folder in kustomizations():
        for one in built_documents(folder):
            spec = cluster_spec(one)
            if spec:
                ray = [group["template"]["spec"]["containers"][0] for group in groups(spec).values()]
                assert all(container["env"] == ray[0]["env"] for container in ray)
                assert all(container["volumeMounts"] == ray[0]["volumeMounts"] for container in ray)


@needs_kubectl
def test_a_worker_that_no_node_can_hold_waits_only_where_nodes_come() -> None:
    """Elsewhere it would wait until the job's deadline, beside nodes that cost."""
    scaled = set()
    for folder in kustomizations():
        for one in built_documents(folder):
            spec = cluster_spec(one)
            for group in groups(spec).values() if spec else ():
                names = {v["name"] for v in group["template"]["spec"]["containers"][0]["env"]}
                scales = spec is not None and spec["enableInTreeAutoscaling"] is True
                assert ("SEEWHY_AUTOSCALES" in names) is scales, f"{name(folder)}: {one['kind']}"
                scaled.add(scales)
    assert scaled == {True, False}


def test_ports_are_those_that_ray_listens_on_and_the_policies_open() -> None:
    from ray._private import ray_constants

    head = documents(CLUSTER_FILE)[0]["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    ports = {one["name"]: one["containerPort"] for one in head["ports"]}
    assert ports["dashboard"] == ray_constants.DEFAULT_DASHBOARD_PORT
    assert ports["gcs-server"] == ray_constants.DEFAULT_PORT
    pods, heads = documents(CLUSTER / "base" / "network-policy.yaml")
    assert [one["port"] for one in heads["spec"]["ingress"][0]["ports"]] == [ports["dashboard"]]
    assert [one["port"] for one in pods["spec"]["ingress"][1]["ports"]] == [ports["metrics"]]


def test_the_policy_keeps_workers_from_what_seewhy_refuses_to_fetch() -> None:
    """Pods reach public addresses alone, beside one another, names and GKE's metadata server."""
    from ipaddress import ip_address, ip_network

    from seewhy.fetch.addresses import AddressRule

    pods = documents(CLUSTER / "base" / "network-policy.yaml")[0]
    blocks = [to["ipBlock"] for rule in pods["spec"]["egress"] for to in rule["to"] if "ipBlock" in to]
    [open_to] = [one for one in blocks if one["cidr"] == "0.0.0.0/0"]
    assert all(ip_network(one["cidr"]).num_addresses == 1 for one in blocks if one is not open_to)
    rule = AddressRule()
    for network in map(ip_network, open_to["except"]):
        assert not rule.allows(network[1]), network
    private = ("10.1.2.3", "172.20.0.1", "192.168.1.1", "169.254.169.254", "127.0.0.1", "100.100.0.1")
    for refused in map(ip_address, private):
        assert any(refused in ip_network(one) for one in open_to["except"]), refused
    assert rule.allows(ip_address("151.101.1.1"))


def workers(study: Study) -> Iterator[tuple[str, dict[str, float]]]:
    """What one worker of each stage of the study asks Ray for, by Ray's names."""
    for stage in steps.wanted(study):
        section = getattr(study, stage)
        if isinstance(section, Training):
            yield stage, {"CPU": section.cpus_per_worker or 0, "GPU": section.gpus_per_worker or 0}
        resources = getattr(section, "resources", None)
        if isinstance(resources, Resources):
            asked = {
                "CPU": resources.cpus_per_worker,
                "GPU": resources.gpus_per_worker,
                "memory": resources.memory_per_worker or 0,
            }
            if resources.accelerator_type:
                asked[f"accelerator_type:{resources.accelerator_type}"] = 0.001
            yield stage, {key: value for key, value in asked.items() if value}


def autoscaling(folder: Path) -> dict[str, Any]:
    """What Ray's autoscaler makes of the cluster that a folder builds."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    [cluster] = [one for one in built_documents(folder) if one["kind"] == "RayCluster"]
    return _derive_autoscaling_config_from_ray_cr(cluster)


def launched(config: dict[str, Any], asked: dict[str, float], *, count: int = 1) -> tuple[dict[str, int], int]:
    """Nodes that Ray's autoscaler v2 starts for so many such workers, the fewest of each group among them; and how many
    kinds of worker no node could hold."""
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil

    autoscaling = AutoscalingConfig(config)
    requests = [ResourceRequestUtil.make(asked)] * count
    reply = ResourceDemandScheduler(None).schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=autoscaling.get_node_type_configs(),
            max_num_nodes=autoscaling.get_max_num_nodes(),
            resource_requests=ResourceRequestUtil.group_by_count(requests),
        )
    )
    return {one.instance_type: one.count for one in reply.to_launch}, len(reply.infeasible_resource_requests)


@needs_kubectl
@pytest.mark.parametrize("folder", OVERLAYS, ids=name)
def test_the_autoscaler_finds_a_node_for_every_worker_of_the_study(folder: Path) -> None:
    """Asked of Ray's own scheduler, from a cluster that has none of its workers yet."""
    study, config = load_study(str(folder / "study.yaml")), autoscaling(folder)
    found = dict(workers(study))
    assert {"fetch", "caption", "train_text", "explain_words", "probe"} <= set(found)
    for stage, asked in workers(study):
        nodes, lost = launched(config, asked)
        group = "gpu" if asked.get("GPU") else "cpu"
        assert lost == 0, f"{stage} asks for {asked}, which no group has"
        assert nodes.get(group, 0) >= 1, f"{stage} asks for {asked}; started were {nodes}"
        assert ("gpu" in nodes) is (group == "gpu"), f"{stage} needs no GPU: {nodes}"


@needs_kubectl
def test_what_no_group_has_is_found_out() -> None:
    config = autoscaling(CLUSTER / "overlays" / "gpu-l4")
    assert launched(config, {"CPU": 1, "GPU": 1, "accelerator_type:L4": 0.001}) == ({"cpu": 1, "gpu": 1}, 0)
    assert launched(config, {"CPU": 1, "GPU": 1, "accelerator_type:H100": 0.001})[1] == 1
    assert launched(config, {"CPU": 1, "GPU": 2})[1] == 1
    assert launched(config, {"CPU": 7, "GPU": 1})[1] == 1
    assert launched(config, {"CPU": 1, "GPU": 1}, count=3)[0]["gpu"] == 3


@needs_kubectl
@pytest.mark.parametrize("folder", OVERLAYS, ids=name)
def test_a_study_reaches_its_most_workers_within_the_groups(folder: Path) -> None:
    """`workers: [1, 16]` of which the cluster could never hold 16 would promise a speed that does not come."""
    study, config = load_study(str(folder / "study.yaml")), autoscaling(folder)
    most = {name: kind["max_workers"] for name, kind in config["available_node_types"].items()}
    for stage, asked in workers(study):
        section = getattr(study, stage)
        wanted = getattr(section, "resources", None)
        count = (
            section.folds
            if wanted is None
            else wanted.workers
            if isinstance(wanted.workers, int)
            else wanted.workers[1]
        )
        nodes, lost = launched(config, asked, count=count)
        if wanted is not None:
            assert lost == 0, stage
            assert all(nodes[group] <= most[group] for group in nodes)


@pytest.mark.parametrize("folder", OVERLAYS, ids=name)
def test_trainings_say_what_they_need(folder: Path) -> None:
    """Left out, a training takes its share of the nodes that are there as it begins, which may be none with a GPU."""
    study = load_study(str(folder / "study.yaml"))
    for stage in ("train_text", "train_image"):
        if stage in steps.wanted(study):
            section = getattr(study, stage)
            assert section.gpus_per_worker is not None, stage
            assert section.cpus_per_worker is not None, stage


def test_the_weights_of_every_study_are_copied() -> None:
    """Pods are offline as to the hub: a model that was not copied into the bucket cannot be used."""
    [job] = documents(CLUSTER / "weights" / "job.yaml")
    text = (CLUSTER / "weights" / "job.yaml").read_text()
    listed = {line.strip().lstrip("# ").removeprefix("- ").split()[0] for line in text.splitlines() if "- " in line}
    for folder in OVERLAYS:
        study = load_study(str(folder / "study.yaml"))
        wanted = {study.train_text.encoder} | (
            {study.caption.model} if study.caption.backend in ("hf", "vllm") else set()
        )
        assert wanted <= listed, folder.name
    assert {"google-bert/bert-base-cased"} < set(job["spec"]["template"]["spec"]["containers"][0]["args"])


def test_weights_are_looked_for_where_they_are_mounted() -> None:
    """copy_weights.py writes BUCKET/weights/hub; the pods mount BUCKET/weights and read its folder hub."""
    args = documents(CLUSTER / "weights" / "job.yaml")[0]["spec"]["template"]["spec"]["containers"][0]["args"]
    folder = args[0].removeprefix("gs://bucket/")
    for _, one in all_documents(build=False):
        spec = cluster_spec(one)
        for group in groups(spec).values() if spec else ():
            pod = group["template"]["spec"]
            [volume] = pod["volumes"]
            [mount] = pod["containers"][0]["volumeMounts"]
            variables = {v["name"]: v["value"] for v in pod["containers"][0]["env"]}
            options = volume["csi"]["volumeAttributes"]["mountOptions"].split(",")
            assert f"only-dir={folder}" in options
            assert (mount["name"], mount["readOnly"]) == (volume["name"], True)
            assert variables["HF_HUB_CACHE"] == f"{mount['mountPath']}/hub"
            assert pod["serviceAccountName"] == "seewhy"
            assert group["template"]["metadata"]["annotations"]["gke-gcsfuse/volumes"] == "true"


def test_the_runtime_environment_ships_the_project() -> None:
    shipped = yaml.safe_load((CLUSTER / "runtime-env.yaml").read_text())
    assert shipped["working_dir"] == "."
    assert [(ROOT / one / "__init__.py").is_file() for one in shipped["py_modules"]] == [True]
    assert (ROOT / shipped["working_dir"] / "jobs" / "run.py").is_file()


def test_selectors_find_the_heads_and_only_them() -> None:
    spec = documents(CLUSTER_FILE)[0]["spec"]
    labels = {name: group["template"]["metadata"]["labels"] for name, group in groups(spec).items()}
    budget = documents(CLUSTER / "base" / "disruption-budget.yaml")[0]
    heads = documents(CLUSTER / "base" / "network-policy.yaml")[1]
    for selector in (budget["spec"]["selector"]["matchLabels"], heads["spec"]["podSelector"]["matchLabels"]):
        assert [name for name, one in labels.items() if selector.items() <= one.items()] == ["head"]
    assert type(budget["spec"]["minAvailable"]) is int
