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


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((JOBS / "kubernetes" / "cronjob.yaml").read_text()))


@pytest.mark.parametrize("version", ["1.31", "1.37"])
@pytest.mark.parametrize("document", documents(), ids=lambda document: f"{document['kind']} {document['metadata']['name']}")
def test_kubernetes_knows_every_field(document: dict[str, Any], version: str):
    kubernetes_validate.validate(document, version, strict=True)


def test_the_schemas_are_strict():
    wrong = copy.deepcopy(documents()[-1])
    wrong["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"][0]["onPodCondition"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="onPodCondition"):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


def test_hadolint_finds_nothing():
    judge(Path(sys.executable).with_name("hadolint"), JOBS / "container" / "Dockerfile")
