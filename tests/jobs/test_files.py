"""Each job file, judged by the tool that will read it."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[2]
JOBS = ROOT / "jobs"


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"needs {tool}; .ci/run installs it")


def judge(*command: object, expected: str = "") -> None:
    """The tool is content, and says on stderr no more than expected."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, expected), done.stdout + done.stderr


@needs("shellcheck")
@pytest.mark.parametrize("script", [*JOBS.rglob("*.sh"), *(ROOT / "tests" / "jobs").rglob("*.sh")], ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path):
    judge("shellcheck", script)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, as if the repository were at /opt/tagger."""
    for unit in (JOBS / "systemd").iterdir():
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/tagger/jobs", str(JOBS)))
    return tmp_path


@needs("systemd-analyze")
def test_systemd_knows_every_line(units: Path):
    judge("systemd-analyze", "verify", *units.iterdir())


@needs("systemd-analyze")
def test_the_service_is_exposed_to_little(units: Path):
    judge("systemd-analyze", "security", "--offline=true", "--threshold=20", units / "tagger.service")  # 2.0 of 10


@needs("crontab")
def test_cron_accepts_the_crontab():
    said = "The syntax of the crontab file was successfully checked.\n"
    judge("crontab", "-n", JOBS / "cron" / "tagger.cron", expected=said)


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((JOBS / "kubernetes" / name).read_text()))


ALL = [*documents("cronjob.yaml"), *documents("parts.yaml"), *documents("merge.yaml")]


@pytest.mark.parametrize("version", ["1.31", "1.37"])
@pytest.mark.parametrize("document", ALL, ids=lambda document: f"{document['kind']} {document['metadata']['name']}")
def test_kubernetes_knows_every_field(document: dict[str, Any], version: str):
    kubernetes_validate.validate(document, version, strict=True)


def test_the_schemas_are_strict():
    wrong = copy.deepcopy(documents("cronjob.yaml")[-1])
    wrong["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"][0]["onPodCondition"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="onPodCondition"):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


def test_each_pod_tags_the_part_of_its_index_and_the_merge_reads_where_they_write(tmp_path: Path):
    """Run the pods' commands as a container does, with a stand-in for tagger."""
    parts, merge = documents("parts.yaml")[-1]["spec"], documents("merge.yaml")[-1]["spec"]
    (tmp_path / "tagger").write_text('#!/bin/sh\necho "$*"\n')
    (tmp_path / "tagger").chmod(0o755)
    tag, publish = (job["template"]["spec"]["containers"][0] for job in (parts, merge))
    calls = []
    for container, index in ((tag, 0), (tag, parts["completions"] - 1), (publish, 0)):
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        environment |= {"JOB_COMPLETION_INDEX": str(index), "PATH": f"{tmp_path}:/usr/bin:/bin"}
        command = [str(tmp_path / "tagger"), *container["command"][1:]] if container is publish else container["command"]
        calls.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    run = (
        "run /catalogue/manifest.parquet --config /etc/tagger/tagger.toml --output /results/tagged.parquet --overwrite --quiet "
        "--shard {}/16\n"
    )
    assert calls == [run.format(1), run.format(16), "merge /results/tagged.parquet --overwrite --quiet\n"]


@pytest.mark.parametrize("file", sorted(JOBS.rglob("Dockerfile")), ids=lambda path: path.parent.name)
def test_hadolint_finds_nothing(file: Path):
    judge(Path(sys.executable).with_name("hadolint"), file)
