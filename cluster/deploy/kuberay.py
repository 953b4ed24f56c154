"""Kubernetes: a RayJob that runs a recipe to its end, or a RayCluster that stays; needs KubeRay 1.6 or newer.

The head runs the driver and no models: it has no GPU, so GPU processes go to the workers. Every pod sees one shared
volume: bases, data and the run's files, or their cache where results go to a bucket.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

import yaml

from .._errors import InputError
from ..session import ENVIRONMENT
from .job import GIB, Job, Nodes, Wishes, check_image, nodes_for

SHARED = "/mnt/mergefront"
_RECIPES = "/etc/mergefront"
_RETRIES = 4
_HEAD_CPUS, _HEAD_BYTES = 2, 16 * GIB
_SHM_BYTES = 8 * GIB
_BUCKET_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION")


@dataclass(frozen=True)
class Kubernetes:
    """Where in Kubernetes.

    Attributes:
        namespace: "" = the one of the person's context.
        volume: PersistentVolumeClaim (ReadWriteMany) that holds base and data.
        secret: Secret whose keys are named like the variables that the job needs; "" = none.
        service_account: of the pods, such as one that may use a bucket; "" = the namespace's default.
        stay: make a cluster that stays instead of a job.
        hours: after which the job is ended.
    """

    namespace: str = ""
    volume: str = ""
    secret: str = ""
    service_account: str = ""
    stay: bool = False
    hours: float = 72.0


def manifests(job: Job, wishes: Wishes, place: Kubernetes, ray_version: str) -> dict[str, str]:
    """File name -> YAML: one file with all that `kubectl apply` needs.

    Raises:
        InputError: what is missing or does not fit.
    """
    if not wishes.image:
        raise InputError("--image: say which image the pods run; docs/cluster.md says how to build one")
    check_image(job, wishes.image)
    if not place.volume:
        raise InputError(
            "--volume: name the PersistentVolumeClaim (ReadWriteMany) that holds the base and the data: "
            "every node reads them"
        )
    if job.variables and not place.secret:
        raise InputError(
            f"--secret: the job needs {', '.join(job.variables)}; "
            "name a Secret of the namespace with keys of these names"
        )
    nodes = nodes_for(job, wishes)
    cluster = _cluster(job, wishes, nodes, place, ray_version)
    recipe = _object("v1", "ConfigMap", f"{job.slug}-recipe", job, place) | {"data": {"recipe.yaml": job.text}}
    if place.stay:
        main = _object("ray.io/v1", "RayCluster", job.slug, job, place) | {"spec": cluster}
    else:
        main = _object("ray.io/v1", "RayJob", job.slug, job, place) | {"spec": _job(job, nodes, place, cluster)}
    name = "raycluster.yaml" if place.stay else "rayjob.yaml"
    text = yaml.dump_all([recipe, main], Dumper=_Readable, sort_keys=False, allow_unicode=True, width=120)
    return {name: text}


class _Readable(yaml.SafeDumper):
    """Texts of several lines as blocks: a recipe stays a recipe to the eye."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """A block where the text has lines, and none ends in blanks, which a block cannot hold."""
        style = "|" if "\n" in data and not any(line != line.rstrip() for line in data.splitlines()) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    def ignore_aliases(self, data: Any) -> bool:
        """Every value in full."""
        return True


_Readable.add_representer(str, _Readable.represent_str)


def storage_on_nodes(storage: str) -> str:
    """Where results go as pods see it: a relative path counts from the shared volume."""
    return storage if "://" in storage or storage.startswith("/") else f"{SHARED}/{storage}"


def _job(job: Job, nodes: Nodes, place: Kubernetes, cluster: dict[str, Any]) -> dict[str, Any]:
    out = shlex.quote(storage_on_nodes(job.storage))
    command = f"mergefront run {_RECIPES}/recipe.yaml --directory {SHARED} --out {out} --cluster auto"
    command += " --elastic" if nodes.grows else ""
    return {
        "entrypoint": command,
        # A new cluster and the same command: the run goes on where it was.
        "backoffLimit": _RETRIES,
        "activeDeadlineSeconds": int(place.hours * 3600),
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "rayClusterSpec": cluster,
    }


def _cluster(job: Job, wishes: Wishes, nodes: Nodes, place: Kubernetes, ray_version: str) -> dict[str, Any]:
    on_head = {"cpu": str(_HEAD_CPUS), "memory": _quantity(_HEAD_BYTES)}
    on_worker: dict[str, str] = {"cpu": str(nodes.cpus), "memory": _quantity(nodes.memory)}
    if nodes.gpus:
        on_worker["nvidia.com/gpu"] = str(nodes.gpus)
    head = _pod(job, wishes, place, "ray-head", on_head)
    head["spec"]["containers"][0]["ports"] = [
        {"name": "gcs-server", "containerPort": 6379},
        {"name": "dashboard", "containerPort": 8265},
        {"name": "client", "containerPort": 10001},
    ]
    worker = _pod(job, wishes, place, "ray-worker", on_worker)
    if nodes.gpus:
        # Clouds taint GPU nodes by the resource's name.
        worker["spec"]["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    spec: dict[str, Any] = {
        "rayVersion": ray_version,
        "authOptions": {"mode": "token"},  # the operator makes the token, as a Secret, and gives it to every pod
        "enableInTreeAutoscaling": nodes.grows,
        "headGroupSpec": {
            # One CPU for the searches, which stay with the driver and the database; no room for a model.
            "rayStartParams": {"num-cpus": "1", "dashboard-host": "0.0.0.0"},
            "template": head,
        },
        "workerGroupSpecs": [
            {
                "groupName": "gpu" if nodes.gpus else "cpu",
                "replicas": nodes.count,
                "minReplicas": nodes.count,
                "maxReplicas": nodes.most,
                "rayStartParams": {},
                "template": worker,
            }
        ],
    }
    if nodes.grows:
        spec["autoscalerOptions"] = {"version": "v2", "upscalingMode": "Default", "idleTimeoutSeconds": 300}
    return spec


def _pod(job: Job, wishes: Wishes, place: Kubernetes, name: str, amounts: dict[str, str]) -> dict[str, Any]:
    container = {
        "name": name,
        "image": wishes.image,
        "env": _environment(job, place),
        "resources": {"requests": dict(amounts), "limits": dict(amounts)},
        "volumeMounts": [
            {"name": "shared", "mountPath": SHARED},
            {"name": "recipe", "mountPath": _RECIPES, "readOnly": True},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    spec: dict[str, Any] = {
        # The user of our images; files on the volume belong to the same group.
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000},
        "containers": [container],
        "volumes": [
            {"name": "shared", "persistentVolumeClaim": {"claimName": place.volume}},
            {"name": "recipe", "configMap": {"name": f"{job.slug}-recipe"}},
            # Kubernetes gives 64 MiB; Ray's object store and data loaders want more.
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": _quantity(_SHM_BYTES)}},
        ],
    }
    if place.service_account:
        spec["serviceAccountName"] = place.service_account
    return {"metadata": {"labels": {"app.kubernetes.io/name": "mergefront"}}, "spec": spec}


def _environment(job: Job, place: Kubernetes) -> list[dict[str, Any]]:
    """What every container is told: choices by value, secrets by reference."""
    stated = {
        **ENVIRONMENT,
        "RAY_AUTH_MODE": "token",
        "MERGEFRONT_CACHE": f"{SHARED}/cache",
        "HOME": "/home/mergefront",
    }
    found: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in stated.items()]
    bucket = _BUCKET_KEYS if job.storage.startswith("s3://") and place.secret else ()
    for name in (*job.variables, *bucket):
        reference: dict[str, Any] = {"name": place.secret, "key": name}
        if name in bucket:
            reference["optional"] = True  # the pods' service account may do instead
        found.append({"name": name, "valueFrom": {"secretKeyRef": reference}})
    return found


def _object(version: str, kind: str, name: str, job: Job, place: Kubernetes) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "labels": {"app.kubernetes.io/name": "mergefront"}}
    if place.namespace:
        metadata["namespace"] = place.namespace
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def _quantity(count: int) -> str:
    return f"{-(-count // GIB)}Gi"
