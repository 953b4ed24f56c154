"""Manifests for KubeRay, held against KubeRay's own schema."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from cluster._errors import InputError
from cluster.deploy.job import Wishes
from cluster.deploy.kuberay import Kubernetes, manifests

from .jobs import CPU, GPU
from .schema import problems

PLACE = Kubernetes(volume="models", secret="keys", namespace="team")
WISHES = Wishes(image="reg.io/mergefront:0.1.0-cuda", most=5)


def written(
    job: Any = GPU, wishes: Wishes = WISHES, place: Kubernetes = PLACE
) -> tuple[dict[str, Any], dict[str, Any]]:
    (text,) = manifests(job, wishes, place, "2.60.0").values()
    recipe, main = yaml.safe_load_all(text)
    return recipe, main


@pytest.mark.parametrize("stay", [False, True])
@pytest.mark.parametrize("job", [GPU, CPU])
@pytest.mark.parametrize("most", [None, 5])
def test_kuberays_schema_accepts_them(stay: bool, job: Any, most: int | None) -> None:
    _, main = written(job, replace(WISHES, most=most), replace(PLACE, stay=stay, service_account="bucket-user"))
    assert main["kind"] == ("RayCluster" if stay else "RayJob")
    assert problems(main) == []


def test_the_schema_finds_mistakes() -> None:
    _, main = written()
    wrong = copy.deepcopy(main)
    wrong["spec"]["shutdownAfterJobFinish"] = True
    wrong["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplicas"] = "5"
    del wrong["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["name"]
    found = "\n".join(problems(wrong))
    assert "shutdownAfterJobFinish" in found
    assert "maxReplicas: '5' is not of type 'integer'" in found
    assert "'name' is a required property" in found


def test_resources_come_from_the_recipe() -> None:
    cluster = written()[1]["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (2, 2, 5)
    assert cluster["enableInTreeAutoscaling"]
    (worker,) = group["template"]["spec"]["containers"]
    assert worker["resources"]["limits"] == {"cpu": "65", "memory": "278Gi", "nvidia.com/gpu": "8"}
    (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    assert "nvidia.com/gpu" not in head["resources"]["limits"]
    assert cluster["rayVersion"] == "2.60.0"


def test_secrets_are_references_and_choices_are_stated() -> None:
    recipe, main = written()
    cluster = main["spec"]["rayClusterSpec"]
    for spec in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = spec["template"]["spec"]["containers"]
        stated = {entry["name"]: entry for entry in container["env"]}
        assert stated["RAY_AUTH_MODE"]["value"] == "token"
        assert stated["RAY_USAGE_STATS_ENABLED"]["value"] == "0"
        assert stated["OPENAI_API_KEY"] == {
            "name": "OPENAI_API_KEY",
            "valueFrom": {"secretKeyRef": {"name": "keys", "key": "OPENAI_API_KEY"}},
        }
        assert stated["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"]["optional"]
        assert {"name": "shared", "persistentVolumeClaim": {"claimName": "models"}} in spec["template"]["spec"][
            "volumes"
        ]
        assert spec["template"]["spec"]["securityContext"]["runAsNonRoot"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert recipe["data"]["recipe.yaml"] == GPU.text
    assert main["spec"]["entrypoint"] == (
        "mergefront run /etc/mergefront/recipe.yaml --directory /mnt/mergefront --out s3://bucket/six --cluster auto"
        " --elastic"  # nodes that are still to come are waited for
    )
    fixed = written(wishes=Wishes(image=WISHES.image))[1]["spec"]
    assert fixed["entrypoint"].endswith("--cluster auto"), "what does not fit is refused at once"


def test_a_recipe_stays_readable() -> None:
    text = "name: demo   # a comment\nlanguages: [en]\n"
    (written_text,) = manifests(replace(CPU, text=text), WISHES, PLACE, "2.60.0").values()
    assert "  recipe.yaml: |\n    name: demo   # a comment\n    languages: [en]\n" in written_text


@pytest.mark.parametrize(
    ("job", "wishes", "place", "says"),
    [
        (GPU, Wishes(), PLACE, "--image: say which image"),
        (GPU, Wishes(image="reg/mergefront:1-cpu"), PLACE, "--image: the recipe needs GPUs and this image has no CUDA"),
        (GPU, WISHES, replace(PLACE, volume=""), "--volume: name the PersistentVolumeClaim"),
        (GPU, WISHES, replace(PLACE, secret=""), "--secret: the job needs OPENAI_API_KEY"),
    ],
)
def test_what_is_missing_is_one_line(job: Any, wishes: Wishes, place: Kubernetes, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)) as error:
        manifests(job, wishes, place, "2.60.0")
    assert "\n" not in str(error.value)
