"""All that lies in cluster/, found by itself: files as they stand, and what kustomize makes of them."""

import functools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
Document = dict[str, Any]


def files() -> list[Path]:
    return sorted(path for path in CLUSTER.rglob("*.yaml"))


def documents(path: Path) -> list[Any]:
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one is not None]


def kind_of(path: Path) -> str:
    """What a file is: `manifest`, `kustomization`, `patch`, `study`, `build` or `runtime_env`. No other is known."""
    found = documents(path)
    if path.name == "kustomization.yaml":
        return "kustomization"
    if all(isinstance(one, dict) and "apiVersion" in one and "kind" in one for one in found):
        return "manifest"
    if len(found) == 1 and isinstance(found[0], list) and all({"op", "path"} <= set(one) for one in found[0]):
        return "patch"
    if len(found) == 1 and isinstance(found[0], dict) and {"title", "workspace", "manifest"} <= set(found[0]):
        return "study"
    if len(found) == 1 and isinstance(found[0], dict) and "working_dir" in found[0]:
        return "runtime_env"
    if path.name == "cloudbuild.yaml":
        return "build"
    raise AssertionError(f"{path.relative_to(ROOT)} is nothing that the tests know how to check")


def of_kind(kind: str) -> list[Path]:
    return [path for path in files() if kind_of(path) == kind]


def kustomizations() -> list[Path]:
    """Folders that can be built and applied; a component is part of another."""
    made = [path for path in of_kind("kustomization") if documents(path)[0]["kind"] == "Kustomization"]
    return [path.parent for path in made]


def name(path: Path) -> str:
    return str(path.relative_to(CLUSTER))


needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl, which builds kustomizations")


@functools.cache
def built(folder: Path) -> str:
    """What `kubectl apply -k` would send; needs no cluster and no network."""
    made = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stderr
    assert "deprecated" not in made.stderr, made.stderr
    return made.stdout


def built_documents(folder: Path) -> list[Document]:
    return list(yaml.safe_load_all(built(folder)))


def all_documents(*, build: bool) -> Iterator[tuple[str, Document]]:
    """Where it is from, and the document: of all files, and of all that can be built from them."""
    for path in of_kind("manifest"):
        for one in documents(path):
            yield name(path), one
    if build:
        for folder in kustomizations():
            for one in built_documents(folder):
                yield f"built {name(folder)}", one


def cluster_spec(document: Document) -> Document | None:
    """The cluster that a RayCluster is, or that a RayJob makes; None where a job's is put in by kustomize."""
    if document["kind"] == "RayCluster":
        return document["spec"]
    return document["spec"].get("rayClusterSpec") if document["kind"] == "RayJob" else None


def groups(spec: Document) -> dict[str, Document]:
    """Name -> group; `head` for the head's."""
    return {"head": spec["headGroupSpec"], **{one["groupName"]: one for one in spec.get("workerGroupSpecs", [])}}


def pod_templates(document: Document) -> dict[str, Document]:
    """Every pod that a document leads to, by what it is."""
    spec = cluster_spec(document)
    found = {name: group["template"] for name, group in groups(spec).items()} if spec else {}
    if document["kind"] == "RayJob":
        found["submitter"] = document["spec"]["submitterPodTemplate"]
    if document["kind"] == "Job":
        found["job"] = document["spec"]["template"]
    return found
