"""The README's commands name what is there: folders, files, machines' accelerators, versions, services."""

import re
import shlex

from tests.cluster.manifests import CLUSTER, ROOT, documents, of_kind

TEXT = (CLUSTER / "README.md").read_text(encoding="utf-8")
COMMANDS = "\n".join(re.findall(r"```\n(.*?)```", TEXT, flags=re.DOTALL)).replace("\\\n", " ")


def test_folders_and_files_are_there() -> None:
    named = set(re.findall(r"(?<![\w/.])cluster/[\w./-]+", COMMANDS + TEXT))
    assert {"cluster/jobs/gpu-l4", "cluster/weights", "cluster/cloudbuild.yaml", "cluster/runtime-env.yaml"} <= named
    for one in named:
        assert (ROOT / one.rstrip(".")).exists(), one
    for one in re.findall(r"`((?:jobs|overlays|base|components|weights|grafana)[\w./-]*)`", TEXT):
        assert (CLUSTER / one.removesuffix("/...")).exists(), one


def test_what_is_applied_can_be_built() -> None:
    folders = re.findall(r"kubectl (?:apply -k|kustomize) (\S+)", COMMANDS + TEXT)
    assert len(folders) >= 4
    for one in folders:
        assert (ROOT / one.strip("`") / "kustomization.yaml").is_file(), one


def test_numbered_steps_follow_one_another() -> None:
    numbers = [int(one) for one in re.findall(r"^(\d+)\. ", TEXT, flags=re.MULTILINE)]
    assert numbers == list(range(1, 12))


def test_node_pools_have_what_the_overlays_select() -> None:
    pools = {}
    for line in COMMANDS.splitlines():
        words = shlex.split(line)
        if words[:4] == ["gcloud", "container", "node-pools", "create"]:
            options = dict(zip(words[6::2], words[7::2], strict=True))
            accelerator = re.match(r"type=([\w-]+),", options.get("--accelerator", ""))
            pools[accelerator and accelerator[1]] = (options["--machine-type"], int(options["--max-nodes"]))
    for folder in ("gpu-l4", "gpu-a100", "gpu-h100"):
        text = (CLUSTER / "overlays" / folder / "which" / "kustomization.yaml").read_text()
        [selected] = re.findall(r"gke-accelerator\n\s+value: ([\w-]+)", text)
        machine, most = pools[selected]
        assert machine in (CLUSTER / "overlays" / folder / "kustomization.yaml").read_text()
        [group] = documents(CLUSTER / "components" / "gpu" / "group.yaml")
        assert group[0]["value"]["maxReplicas"] == most
        assert f"`{machine}`" in TEXT
    [cluster] = documents(CLUSTER / "base" / "raycluster.yaml")
    assert cluster["spec"]["workerGroupSpecs"][0]["maxReplicas"] == pools[None][1]


def test_names_that_others_make_from_ours() -> None:
    """KubeRay: service NAME-head-svc, submitter's Job NAME, secret of a cluster's name. Identity: its account."""
    names = {one["kind"]: one["metadata"]["name"] for path in of_kind("manifest") for one in documents(path)}
    assert f"service/{names['RayJob']}-head-svc" in COMMANDS
    assert f"logs --follow job/{names['RayJob']} " in COMMANDS
    assert f"service/{names['RayCluster']}-head-svc" in COMMANDS
    assert f"get secret {names['RayCluster']} " in COMMANDS
    assert f"subject/ns/{names['Namespace']}/sa/{names['ServiceAccount']}" in COMMANDS
    assert f"job/{names['Job']}" in COMMANDS
    operator = re.search(r"--namespace (kuberay-operator)", COMMANDS)
    assert operator is not None
    assert f"kubernetes.io/metadata.name: {operator[1]}" in (CLUSTER / "base" / "network-policy.yaml").read_text()


def test_limits_of_pods_are_those_of_the_manifests() -> None:
    [cluster] = documents(CLUSTER / "base" / "raycluster.yaml")
    limits = cluster["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resources"]["limits"]
    said = [f"CPU nodes: {limits['cpu']} and {limits['memory'].removesuffix('Gi')} GiB"]
    for name in ("L4", "A100", "H100"):
        text = (CLUSTER / "overlays" / f"gpu-{name.lower()}" / "which" / "kustomization.yaml").read_text()
        [found] = set(re.findall(r'cpu: "(\d+)", memory: (\d+)Gi', text))
        said.append(f"{name}: {found[0]} and {found[1]}")
    flat = " ".join(TEXT.split())
    assert [one for one in said if one not in flat] == []
