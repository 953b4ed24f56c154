"""Kubernetes' reading of an OpenAPI schema, for `jsonschema`: unknown fields are errors, some fields take two types."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

FILE = Path(__file__).with_name("kuberay-v1.7.0-crds.json.xz")


def problems(manifest: dict[str, Any]) -> list[str]:
    """What KubeRay's own schema has against a RayJob or RayCluster."""
    schema = json.loads(lzma.decompress(FILE.read_bytes()))[manifest["kind"]]
    errors = Draft202012Validator(_strict(schema)).iter_errors(manifest)
    return [f"{'/'.join(map(str, error.path))}: {error.message}" for error in errors]


def _strict(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    found = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes")}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"], "pattern": schema.get("pattern", "")}
    if "properties" in schema:
        found["properties"] = {name: _strict(value) for name, value in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in schema:
            # The schema's own metadata is that of every Kubernetes object, which is not written out here.
            found["additionalProperties"] = False
    elif schema.get("type") == "object" and "additionalProperties" in schema:
        found["additionalProperties"] = _strict(schema["additionalProperties"])
    if "items" in schema:
        found["items"] = _strict(schema["items"])
    return found
