"""The files for Ray, judged by Ray's own readers, by the API of the cloud that they name and by Kubernetes' schemas."""

from __future__ import annotations

import copy
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import botocore.session
import botocore.validate
import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start

from tests.jobs.test_files import JOBS

CLUSTER: dict[str, Any] = yaml.safe_load((JOBS / "ray" / "cluster.yaml").read_text())
CONFIG_MAP, RAY_JOB = yaml.safe_load_all((JOBS / "ray" / "rayjob.yaml").read_text())
RAY_CLUSTER = RAY_JOB["spec"]["rayClusterSpec"]
# It notes its calls; its exit codes are the lines of a file.
STAND_IN = """#!/bin/bash
echo "$RAY_ADDRESS $*" >>calls
code=$(head -n 1 codes)
sed -i 1d codes
exit "$code"
"""
HEAD, WORKERS = RAY_CLUSTER["headGroupSpec"], RAY_CLUSTER["workerGroupSpecs"][0]


def test_ray_up_knows_every_field():
    validate_config(prepare_config(copy.deepcopy(CLUSTER)))


def test_the_schema_of_ray_up_is_strict():
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        validate_config(prepare_config({**copy.deepcopy(CLUSTER), "max_worker": 4}))


@pytest.mark.parametrize("node_type", CLUSTER["available_node_types"])
def test_the_cloud_knows_every_field_of_a_node(node_type: str):
    """Check them as boto3 does before it asks for an instance."""
    request = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances")
    node = {**CLUSTER["available_node_types"][node_type]["node_config"], "MinCount": 1, "MaxCount": 1}
    botocore.validate.validate_parameters(node, request.input_shape)


def fields(required: dict[str, Any], optional: dict[str, Any]) -> dict[str, Any]:
    """A schema of an object with these fields and no others."""
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


# Those fields of ray.io/v1 that the file uses, as the types in KubeRay's source have them; no package ships its schema.
NUMBER, TEXT, POD = {"type": "integer"}, {"type": "string"}, {"type": "object"}
GROUP = {"rayStartParams": {"type": "object", "additionalProperties": TEXT}, "template": POD}
WORKER = {**GROUP, "groupName": TEXT, "minReplicas": NUMBER, "maxReplicas": NUMBER}
KUBERAY = fields(
    {
        "entrypoint": TEXT,
        "rayClusterSpec": fields(
            {
                "headGroupSpec": fields(GROUP, {}),
                "workerGroupSpecs": {"type": "array", "items": fields(WORKER, {"replicas": NUMBER})},
            },
            {"rayVersion": TEXT},
        ),
    },
    {
        **dict.fromkeys(("activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"), NUMBER),
        "shutdownAfterJobFinishes": {"type": "boolean"},
    },
)


def test_the_ray_job_has_fields_that_kuberay_documents():
    assert (RAY_JOB["apiVersion"], RAY_JOB["kind"]) == ("ray.io/v1", "RayJob")
    jsonschema.validate(RAY_JOB["spec"], KUBERAY)


@pytest.mark.parametrize("version", ["1.31", "1.37"])
@pytest.mark.parametrize("group", [HEAD, WORKERS], ids=["head", "workers"])
def test_kubernetes_knows_every_field_of_the_pods(group: dict[str, Any], version: str):
    template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "ray"}, "template": group["template"]}
    kubernetes_validate.validate(template, version, strict=True)
    kubernetes_validate.validate(CONFIG_MAP, version, strict=True)


@pytest.mark.parametrize("group", [HEAD, WORKERS], ids=["head", "workers"])
def test_ray_start_knows_every_parameter(group: dict[str, Any]):
    assert {f"--{name}" for name in group["rayStartParams"]} <= {name for option in start.params for name in option.opts}


def test_ray_reads_from_the_ray_job_a_head_on_which_nobody_tags_and_as_many_gpus_as_the_command_names():
    config = _derive_autoscaling_config_from_ray_cr({"metadata": {"namespace": "ours", "name": "tagger"}, "spec": RAY_CLUSTER})
    nodes = config["available_node_types"]
    assert (nodes["headgroup"]["resources"]["CPU"], nodes["gpu"]["resources"]["GPU"]) == (0, 1)
    assert f"--ray-workers {nodes['gpu']['min_workers']}" in RAY_JOB["spec"]["entrypoint"]
    assert (
        f"--ray-workers {CLUSTER['available_node_types']['worker']['min_workers']}" in (JOBS / "ray" / "cluster.yaml").read_text()
    )


def test_the_ray_job_names_the_version_of_the_image():
    base = re.search(r"BASE=rayproject/ray:([0-9.]+)-", (JOBS / "ray" / "Dockerfile").read_text())
    assert base is not None
    assert RAY_CLUSTER["rayVersion"] == base[1]


@pytest.mark.parametrize(("codes", "ended"), [([0], 0), ([3], 3), ([75, 75, 0], 0), ([75] * 5, 75)])
def test_the_script_starts_tagger_again_after_a_stop_only(tmp_path: Path, codes: list[int], ended: int):
    (tmp_path / "tagger").write_text(STAND_IN)
    (tmp_path / "tagger").chmod(0o755)
    (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
    settings = {"MANIFEST": "s3://bucket/m.parquet", "OUTPUT": "s3://bucket/t.parquet", "PAUSE": "0"}
    environment = {**settings, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([JOBS / "ray" / "tag.sh", "--device", "cuda"], cwd=tmp_path, env=environment, check=False)
    call = "auto run s3://bucket/m.parquet --output s3://bucket/t.parquet --overwrite --quiet --engine ray --device cuda"
    assert (done.returncode, (tmp_path / "calls").read_text().splitlines()) == (ended, [call] * len(codes))
