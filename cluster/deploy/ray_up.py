"""Machines that Ray's own launcher starts: the file for `ray up`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from .._errors import InputError
from ..session import ENVIRONMENT
from .job import Job, Nodes, Wishes, check_image, nodes_for

PROVIDERS = ("aws", "gcp", "local")
HOME = "/home/mergefront"  # of our images
_DISK_GB = 500
_HEAD_INSTANCES = {"aws": "m6i.xlarge", "gcp": "n2-standard-4"}
_PORT = 6379


@dataclass(frozen=True)
class Machines:
    """What `ray up` starts, or finds.

    Attributes:
        provider: aws, gcp, or local = machines that exist.
        share: directory that all machines see at the same path (NFS, EFS, Filestore): base, data, results.
        region, zone, project: of a cloud; project is GCP's.
        instance, head_instance: types of the machines for workers and head; "" = a small one for the head.
        disk_image: that machines boot from: AMI, or GCP source image; "" = Ray's choice on AWS.
        head_ip, worker_ips: of machines that exist.
        ssh_user: that logs in.
    """

    provider: str
    share: str = ""
    region: str = ""
    zone: str = ""
    project: str = ""
    instance: str = ""
    head_instance: str = ""
    disk_image: str = ""
    head_ip: str = ""
    worker_ips: tuple[str, ...] = ()
    ssh_user: str = "ubuntu"


def manifests(job: Job, wishes: Wishes, place: Machines) -> dict[str, str]:
    """File name -> YAML.

    Raises:
        InputError: what is missing or does not fit.
    """
    if place.provider not in PROVIDERS:
        raise InputError(f"--provider: must be one of {', '.join(PROVIDERS)}, got {place.provider!r}")
    if not wishes.image:
        raise InputError("--image: say which image the machines run; docs/cluster.md says how to build one")
    check_image(job, wishes.image)
    nodes = nodes_for(job, wishes)
    if not place.share.startswith("/"):
        raise InputError("--share: name the directory (absolute) that all machines see: base and data lie there")
    missing = [f"--{name.replace('_', '-')}" for name in _required(place) if not getattr(place, name)]
    if missing:
        raise InputError(f"{', '.join(missing)}: needed for provider {place.provider}")
    if place.provider == "local" and len(place.worker_ips) < nodes.count:
        raise InputError(f"--worker-ip: the recipe needs {nodes.count} worker machines, got {len(place.worker_ips)}")
    config: dict[str, Any] = {
        "cluster_name": f"mergefront-{job.slug}",
        "max_workers": len(place.worker_ips) if place.provider == "local" else nodes.most,
        "idle_timeout_minutes": 15,
        "provider": _provider(place),
        "auth": {"ssh_user": place.ssh_user},
        "docker": {
            "image": wishes.image,
            "container_name": "mergefront",
            "pull_before_run": True,
            "run_options": ["--ulimit nofile=65536:65536", f"--volume {place.share}:{place.share}"],
        },
        # Made by `ray get-auth-token --generate`; the launcher copies it, this file does not hold it.
        "file_mounts": {f"{HOME}/.ray/auth_token": "~/.ray/auth_token", f"{HOME}/recipe.yaml": job.recipe},
        **_start(nodes, place),
    }
    if place.provider != "local":
        config |= _node_types(nodes, place)
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=120)
    return {"cluster.yaml": _header(job, place) + text}


def run_command(job: Job, place: Machines) -> str:
    """What the head is told to do once it is up: workers may still be starting, so what is missing is waited for."""
    out = job.storage if "://" in job.storage or job.storage.startswith("/") else f"{place.share}/{job.storage}"
    exports = " ".join(f"{name}={value}" for name, value in _environment(place).items())
    return f"{exports} mergefront run {HOME}/recipe.yaml --directory {place.share} --out {out} --cluster auto --elastic"


def _required(place: Machines) -> tuple[str, ...]:
    return {
        "aws": ("region", "instance"),
        "gcp": ("region", "zone", "project", "instance", "disk_image"),
        "local": ("head_ip", "worker_ips"),
    }[place.provider]


def _provider(place: Machines) -> dict[str, Any]:
    if place.provider == "local":
        return {"type": "local", "head_ip": place.head_ip, "worker_ips": list(place.worker_ips)}
    found: dict[str, Any] = {"type": place.provider, "region": place.region}
    if place.zone:
        found["availability_zone"] = place.zone
    if place.provider == "gcp":
        found["project_id"] = place.project
    else:
        found["cache_stopped_nodes"] = False  # a stopped machine keeps its disk, and its price
    return found


def _node_types(nodes: Nodes, place: Machines) -> dict[str, Any]:
    head, worker = place.head_instance or _HEAD_INSTANCES[place.provider], place.instance
    resources = {"CPU": nodes.cpus} | ({"GPU": nodes.gpus} if nodes.gpus else {})
    return {
        "available_node_types": {
            # One CPU for the searches, which stay with the driver and the database; no room for a model.
            "head": {"node_config": _machine(head, place, False), "resources": {"CPU": 1}},
            "worker": {
                "node_config": _machine(worker, place, bool(nodes.gpus)),
                "resources": resources,
                "min_workers": nodes.count,
                "max_workers": nodes.most,
            },
        },
        "head_node_type": "head",
    }


def _machine(instance: str, place: Machines, gpus: bool) -> dict[str, Any]:
    if place.provider == "aws":
        disk = {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": _DISK_GB, "VolumeType": "gp3"}}
        image = {"ImageId": place.disk_image} if place.disk_image else {}
        return {"InstanceType": instance, **image, "BlockDeviceMappings": [disk]}
    first = {"diskSizeGb": _DISK_GB, "sourceImage": place.disk_image}
    found: dict[str, Any] = {
        "machineType": instance,
        "disks": [{"boot": True, "autoDelete": True, "type": "PERSISTENT", "initializeParams": first}],
    }
    if gpus:
        found["scheduling"] = [{"onHostMaintenance": "TERMINATE"}]  # machines with GPUs cannot be moved alive
    return found


def _start(nodes: Nodes, place: Machines) -> dict[str, Any]:
    exports = "; ".join(f"export {name}={value}" for name, value in _environment(place).items())
    before = f"{exports}; ulimit -n 65536; ray start --disable-usage-stats"
    amounts = f" --num-cpus={nodes.cpus} --num-gpus={nodes.gpus}" if place.provider == "local" else ""
    on_head = " --num-cpus=1 --num-gpus=0" if place.provider == "local" else ""
    head = f"{before} --head --port={_PORT} --autoscaling-config=~/ray_bootstrap_config.yaml{on_head}"
    return {
        "head_start_ray_commands": ["ray stop", head],
        "worker_start_ray_commands": ["ray stop", f"{before} --address=$RAY_HEAD_IP:{_PORT}{amounts}"],
    }


def _environment(place: Machines) -> dict[str, str]:
    return {**ENVIRONMENT, "RAY_AUTH_MODE": "token", "MERGEFRONT_CACHE": f"{place.share}/cache"}


def _header(job: Job, place: Machines) -> str:
    secrets = (
        f"#   export {' '.join(job.variables)} on the head first: the recipe needs them\n" if job.variables else ""
    )
    return (
        "# ray get-auth-token --generate > /dev/null     once: the token of your clusters, ~/.ray/auth_token\n"
        "# ray up -y cluster.yaml\n"
        f"# ray exec --tmux cluster.yaml '{run_command(job, place)}'\n"
        f"{secrets}"
        "# ray down -y cluster.yaml\n"
    )
