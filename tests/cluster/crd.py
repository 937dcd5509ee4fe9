"""KubeRay's own schemas: a CustomResourceDefinition's openAPIV3Schema as a JSON schema, misspelt keys refused."""

import functools
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

FOLDER = Path(__file__).parents[3] / "shared" / "kuberay"
needs_crds = pytest.mark.skipif(not FOLDER.is_dir(), reason="KubeRay's CRDs are not beside the project")


@functools.cache
def schema(plural: str, version: str = "v1") -> Any:
    path = FOLDER / f"ray.io_{plural}.yaml"
    crd = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    found = [one for one in crd["spec"]["versions"] if one["name"] == version]
    return closed(found[0]["schema"]["openAPIV3Schema"])


def closed(node: Any) -> Any:
    """The schema as a strict API server reads it.

    Objects with known keys have no others. Numbers may be texts where the field is int-or-string. null stands for a
    field that is nullable. What has a default is not required.
    """
    if isinstance(node, list):
        return [closed(one) for one in node]
    if not isinstance(node, dict):
        return node
    made = {key: closed(value) for key, value in node.items() if key not in ("properties", "description")}
    if "properties" in node:
        made["properties"] = {key: closed(value) for key, value in node["properties"].items()}
        if not node.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
        wanted = [key for key in node.get("required", []) if "default" not in node["properties"].get(key, {})]
        made.pop("required", None)
        if wanted:
            made["required"] = wanted
    if node.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if node.get("nullable") and "type" in made:
        made["type"] = [made["type"], "null"]
    return made


def mistakes(document: dict[str, Any]) -> list[str]:
    """What KubeRay's schema says against a RayJob or RayCluster."""
    plural = document["kind"].lower() + "s"
    whole = dict(schema(plural))
    whole["properties"] = {**whole["properties"], "metadata": {"type": "object"}}
    found = jsonschema.Draft202012Validator(whole).iter_errors(document)
    return sorted(f"{'.'.join(map(str, one.path))}: {one.message}" for one in found)
