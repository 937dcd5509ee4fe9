"""Every YAML in cluster/ is something, is valid, and is put together as it was meant."""

import copy
from pathlib import Path

import pytest

from seewhy.study import load_study
from tests.cluster import crd
from tests.cluster.manifests import (
    CLUSTER,
    Document,
    all_documents,
    built,
    built_documents,
    cluster_spec,
    documents,
    files,
    groups,
    kind_of,
    kustomizations,
    name,
    needs_kubectl,
    of_kind,
    pod_templates,
)
from tests.cluster.operator_rules import cluster_mistakes, job_mistakes, queue_mistakes

OURS = {"RayJob", "RayCluster"}
GOOGLE = {"PodMonitoring"}  # whose schema is Google's alone
KUEUE = {"ResourceFlavor", "ClusterQueue", "LocalQueue"}
KUBERNETES = {"Namespace", "ServiceAccount", "NetworkPolicy", "PodDisruptionBudget", "ConfigMap", "Job"}
JOBS = [one for one in kustomizations() if one.parent.name == "jobs"]


def test_every_file_is_something_that_is_checked() -> None:
    kinds = {kind_of(path) for path in files()}
    assert kinds == {"manifest", "kustomization", "patch", "study", "build", "runtime_env"}
    assert {one["kind"] for _, one in all_documents(build=False)} == OURS | KUEUE | GOOGLE | KUBERNETES - {"ConfigMap"}


def test_the_overlays_that_the_readme_names_are_there() -> None:
    there = {name(one) for one in kustomizations()}
    for hardware in ("cpu", "gpu-l4", "gpu-a100", "gpu-h100"):
        assert {f"overlays/{hardware}", f"jobs/{hardware}"} <= there
        assert (CLUSTER / "overlays" / hardware / "study.yaml").is_file()


def test_every_file_is_part_of_something_that_is_built() -> None:
    used: set[Path] = set()
    for path in of_kind("kustomization"):
        value = documents(path)[0]
        listed = [*value.get("resources", []), *value.get("components", [])]
        listed += [one["path"] for one in value.get("patches", []) if "path" in one]
        for one in listed:
            there = (path.parent / one).resolve()
            used.add(there / "kustomization.yaml" if there.is_dir() else there)
    alone = {one / "kustomization.yaml" for one in kustomizations()}
    assert {path for path in files() if kind_of(path) not in ("study", "build", "runtime_env")} == used | alone


@pytest.mark.parametrize("path", of_kind("study"), ids=name)
def test_studies_load(path: Path) -> None:
    study = load_study(str(path))
    assert study.workspace == str(path.parent / "out")


@crd.needs_crds
def test_kuberays_schemas_take_the_files() -> None:
    found = {where: crd.mistakes(one) for where, one in all_documents(build=False) if one["kind"] in OURS}
    assert len(found) == 2
    assert {where: wrong for where, wrong in found.items() if wrong} == {}


@crd.needs_crds
@needs_kubectl
@pytest.mark.parametrize("folder", kustomizations(), ids=name)
def test_kuberays_schemas_take_what_is_built(folder: Path) -> None:
    assert {one["metadata"]["name"]: crd.mistakes(one) for one in built_documents(folder) if one["kind"] in OURS} == {
        one["metadata"]["name"]: [] for one in built_documents(folder) if one["kind"] in OURS
    }


@crd.needs_crds
def test_kuberays_schemas_catch_mistakes() -> None:
    cluster = documents(CLUSTER / "base" / "raycluster.yaml")[0]

    def wrong(change: object) -> list[str]:
        changed = copy.deepcopy(cluster)
        change(changed["spec"])  # type: ignore[operator]
        return crd.mistakes(changed)

    def misspell(spec: Document) -> None:
        spec["enableInTreeAutoScaling"] = True

    def deeper(spec: Document) -> None:
        spec["headGroupSpec"]["template"]["spec"]["containers"][0]["ressources"] = {}

    def number(spec: Document) -> None:
        spec["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0

    def mode(spec: Document) -> None:
        spec["authOptions"]["mode"] = "tokens"

    def version(spec: Document) -> None:
        spec["autoscalerOptions"]["version"] = "v3"

    def lost(spec: Document) -> None:
        del spec["headGroupSpec"]["template"]

    assert wrong(lambda spec: None) == []
    for change in (misspell, deeper, number, mode, version, lost):
        assert len(wrong(change)) == 1, change.__name__


def kubernetes_mistake(document: Document) -> str:
    """What Kubernetes 1.33's own schemas say against it, misspelt keys included; empty for nothing."""
    checker = pytest.importorskip("kubernetes_validate", reason="Kubernetes' schemas are not installed")
    try:
        checker.validate(document, "1.33", strict=True)
    except checker.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    return ""


def test_kubernetes_schemas_take_the_files() -> None:
    found = [(where, one) for where, one in all_documents(build=False) if one["kind"] in KUBERNETES]
    assert len(found) == 6
    assert [(where, wrong) for where, one in found if (wrong := kubernetes_mistake(one))] == []


@needs_kubectl
@pytest.mark.parametrize("folder", kustomizations(), ids=name)
def test_kubernetes_schemas_take_what_is_built(folder: Path) -> None:
    """Pods too: each as if it stood alone, with what Kubernetes has learned since KubeRay's schema was made."""
    wrong = []
    for one in built_documents(folder):
        if one["kind"] in KUBERNETES:
            wrong.append(kubernetes_mistake(one))
        for template in pod_templates(one).values():
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]}
            wrong.append(kubernetes_mistake(pod))
    assert [one for one in wrong if one] == []


def test_kubernetes_schemas_catch_mistakes() -> None:
    budget = documents(CLUSTER / "base" / "disruption-budget.yaml")[0]
    assert kubernetes_mistake(budget) == ""
    budget["spec"]["minAvailabel"] = 1
    assert "minAvailabel" in kubernetes_mistake(budget)


def test_the_operator_takes_the_files() -> None:
    wrong = []
    for where, one in all_documents(build=False):
        if one["kind"] == "RayCluster":
            wrong += [(where, mistake) for mistake in cluster_mistakes(one)]
        if one["kind"] == "RayJob":
            lacks = ["neither rayClusterSpec nor clusterSelector"]  # kustomize puts the cluster in
            assert job_mistakes(one) == lacks
    assert wrong == []


@needs_kubectl
@pytest.mark.parametrize("folder", kustomizations(), ids=name)
def test_the_operator_takes_what_is_built(folder: Path) -> None:
    wrong = []
    for one in built_documents(folder):
        wrong += cluster_mistakes(one) if one["kind"] == "RayCluster" else []
        wrong += job_mistakes(one) + queue_mistakes(one) if one["kind"] == "RayJob" else []
    assert wrong == []


@needs_kubectl
@pytest.mark.parametrize("folder", JOBS, ids=name)
def test_a_job_leaves_no_cluster_behind(folder: Path) -> None:
    found = built_documents(folder)
    [job] = [one for one in found if one["kind"] == "RayJob"]
    assert "RayCluster" not in {one["kind"] for one in found}
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    assert 0 < job["spec"]["ttlSecondsAfterFinished"] <= 600
    assert 0 < job["spec"]["activeDeadlineSeconds"] <= 7 * 24 * 3600


@needs_kubectl
@pytest.mark.parametrize("folder", [one for one in JOBS if not one.name.endswith("queued")], ids=name)
def test_a_job_makes_the_cluster_that_stands_in_the_overlay(folder: Path) -> None:
    [job] = [one for one in built_documents(folder) if one["kind"] == "RayJob"]
    [cluster] = [one for one in built_documents(CLUSTER / "overlays" / folder.name) if one["kind"] == "RayCluster"]
    assert job["spec"]["rayClusterSpec"] == cluster["spec"]


@needs_kubectl
@pytest.mark.parametrize("folder", kustomizations(), ids=name)
def test_settings_stand_in_one_place(folder: Path) -> None:
    """All images are the one of settings.env, all buckets and the study too; nothing is left of what stood there."""
    if folder.name == "base":
        return
    lines = (CLUSTER / "components" / "settings" / "settings.env").read_text().split()
    settings = dict(line.split("=", 1) for line in lines)
    assert set(settings) == {"IMAGE", "BUCKET", "STUDY"}
    for one in built_documents(folder):
        for template in pod_templates(one).values():
            assert [c["image"] for c in template["spec"]["containers"]] == [settings["IMAGE"]]
            for volume in template["spec"].get("volumes", []):
                if "csi" in volume:
                    assert volume["csi"]["volumeAttributes"]["bucketName"] == settings["BUCKET"]
        if one["kind"] == "RayJob":
            assert one["spec"]["entrypoint"].split()[2:] == [settings["STUDY"]]
        if one["kind"] == "Job":
            assert one["spec"]["template"]["spec"]["containers"][0]["args"][0] == f"gs://{settings['BUCKET']}/weights"
    assert "gs://bucket" not in built(folder)


@needs_kubectl
@pytest.mark.parametrize("folder", kustomizations(), ids=name)
def test_everything_lies_in_one_namespace(folder: Path) -> None:
    for one in built_documents(folder):
        if one["kind"] not in ("Namespace", "ResourceFlavor", "ClusterQueue"):
            assert one["metadata"]["namespace"] == "seewhy", one["metadata"]


@needs_kubectl
def test_gpu_groups_scale_from_none_and_run_on_spot() -> None:
    for folder in kustomizations():
        for one in built_documents(folder):
            spec = cluster_spec(one)
            if spec is None or not spec["enableInTreeAutoscaling"]:
                continue
            assert spec["autoscalerOptions"]["version"] == "v2"
            for label, group in groups(spec).items():
                pod = group["template"]["spec"]
                spot = pod["nodeSelector"].get("cloud.google.com/gke-spot") == "true"
                assert spot is (label != "head")
                if label == "gpu":
                    assert (group["minReplicas"], group["replicas"]) == (0, 0)
                    assert group["maxReplicas"] > 0
                    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
                    assert pod["nodeSelector"]["cloud.google.com/gke-accelerator"].startswith("nvidia-")
                    assert "nvidia.com/gpu" in {one["key"] for one in pod["tolerations"]}


@needs_kubectl
@pytest.mark.parametrize("folder", kustomizations(), ids=name)
def test_no_pod_may_more_than_it_must(folder: Path) -> None:
    """Pod Security's `restricted`, and what it leaves open: who gets a token of the API server."""
    for one in built_documents(folder):
        for label, template in pod_templates(one).items():
            pod = template["spec"]
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert pod["automountServiceAccountToken"] is (label == "head")
            assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
            assert {kind for volume in pod.get("volumes", []) for kind in volume} <= {"name", "csi", "emptyDir"}
            for container in pod["containers"]:
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                }
                assert set(container["resources"]) == {"requests", "limits"}
            assert (
                template["metadata"]["labels"]["app.kubernetes.io/name"] == "seewhy"
            )  # the network policies' selector
        spec = cluster_spec(one)
        if spec is not None:
            assert spec["authOptions"] == {"mode": "token"}
            if spec["enableInTreeAutoscaling"]:
                assert spec["autoscalerOptions"]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
