"""The file for `ray up`, held against Ray's own schema and read by Ray's own launcher."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from cluster._errors import InputError
from cluster.deploy.job import Wishes
from cluster.deploy.ray_up import Machines, manifests

from .jobs import CPU, GPU

AWS = Machines("aws", "/mnt/share", region="us-west-2", instance="p4d.24xlarge")
GCP = Machines(
    "gcp", "/mnt/share", region="us-central1", zone="us-central1-a", project="ours", instance="a2-highgpu-8g",
    disk_image="projects/ours/global/images/gpu",
)  # fmt: skip
LOCAL = Machines("local", "/mnt/share", head_ip="10.0.0.1", worker_ips=("10.0.0.2", "10.0.0.3"))
IMAGE = Wishes(image="reg.io/mergefront:0.1.0-cuda")


def config(job: Any, place: Machines, wishes: Wishes = IMAGE) -> dict[str, Any]:
    (text,) = manifests(job, wishes, place).values()
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@pytest.mark.parametrize("place", [AWS, GCP, LOCAL], ids=lambda place: place.provider)
@pytest.mark.parametrize("job", [GPU, CPU], ids=lambda job: job.name)
def test_rays_schema_and_its_launcher_accept_it(job: Any, place: Machines) -> None:
    import ray
    from ray.autoscaler._private.util import prepare_config, validate_config

    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(config(job, place))
    found = config(job, place)
    if place.provider == "local":
        found["cluster_synced_files"] = []
    prepared = prepare_config(found)
    validate_config(prepared)
    kinds = prepared["available_node_types"]
    assert prepared["head_node_type"] in kinds
    if place.provider != "local":
        amounts = {"CPU": 65, "GPU": 8} if job is GPU else {"CPU": 3}
        assert kinds["worker"]["resources"] == amounts
        assert kinds["worker"]["min_workers"] == (2 if job is GPU else 1)


def test_the_token_is_a_file_and_keys_are_names() -> None:
    (text,) = manifests(GPU, IMAGE, AWS).values()
    assert config(GPU, AWS)["file_mounts"]["/home/mergefront/.ray/auth_token"] == "~/.ray/auth_token"
    assert "export OPENAI_API_KEY on the head first" in text
    assert "--cluster auto --elastic'" in text, "the head is up before its workers"
    assert "RAY_AUTH_MODE=token" in config(GPU, AWS)["worker_start_ray_commands"][-1]


@pytest.mark.parametrize(
    ("wishes", "place", "says"),
    [
        (IMAGE, replace(AWS, provider="awx"), "--provider: must be one of aws, gcp, local, got 'awx'"),
        (IMAGE, replace(AWS, region=""), "--region: needed for provider aws"),
        (IMAGE, replace(GCP, zone="", project=""), "--zone, --project: needed for provider gcp"),
        (IMAGE, replace(LOCAL, head_ip=""), "--head-ip: needed for provider local"),
        (IMAGE, replace(LOCAL, worker_ips=("10.0.0.2",)), "--worker-ip: the recipe needs 2 worker machines, got 1"),
        (IMAGE, replace(AWS, share="share"), "--share: name the directory (absolute)"),
        (Wishes(), AWS, "--image: say which image"),
        (Wishes(image="reg/mergefront:1-cpu"), AWS, "--image: the recipe needs GPUs and this image has no CUDA"),
    ],
)
def test_what_is_missing_is_one_line(wishes: Wishes, place: Machines, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)) as error:
        manifests(GPU, wishes, place)
    assert "\n" not in str(error.value)


BOOTSTRAP = """
import json, sys
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.util import prepare_config, validate_config
with mock_aws():
    config = prepare_config(json.load(sys.stdin))
    validate_config(config)
    print(json.dumps(bootstrap_aws(config)["available_node_types"]))
"""


@pytest.mark.slow
def test_rays_launcher_works_out_keys_networks_and_rights(tmp_path: Path) -> None:
    """What `ray up` asks of AWS before it starts machines, asked of moto's EC2 and IAM."""
    (tmp_path / ".ssh").mkdir()
    environment = {
        **os.environ,
        "HOME": str(tmp_path),  # the launcher keeps the key that it makes
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_EC2_METADATA_DISABLED": "true",
        "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
    }
    done = subprocess.run(
        [sys.executable, "-c", BOOTSTRAP],
        input=json.dumps(config(GPU, AWS)),
        capture_output=True,
        text=True,
        env=environment,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    kinds = json.loads(done.stdout.splitlines()[-1])
    for kind, machine in (("head", "m6i.xlarge"), ("worker", "p4d.24xlarge")):
        assert kinds[kind]["node_config"]["InstanceType"] == machine
        assert kinds[kind]["node_config"]["SubnetIds"]
    assert kinds["worker"]["resources"] == {"CPU": 65, "GPU": 8}
