"""The Slurm script under a real Slurm of one node, with a stand-in for tagger that notes its calls and ends as it is told."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.jobs.test_files import JOBS, needs

pytestmark = [needs(tool) for tool in ("munged", "slurmctld", "slurmd", "sbatch")]

SETTINGS = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
NodeName={host} NodeAddr=127.0.0.1 CPUs=64 RealMemory=256000
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE
SlurmdParameters=config_overrides
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
# A requeued job waits until its credential has expired, two minutes by default.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
MpiDefault=none
ReturnToService=2
"""
# Exit codes of tries to come are the lines of `1`, `2`, ... for the parts and of `merge`; where none is left, it ends with 0.
STAND_IN = """#!/bin/bash
echo "$*" >>calls
codes=${SLURM_ARRAY_TASK_ID-merge}
[[ -s $codes ]] || exit 0
code=$(head -n 1 "$codes")
sed -i 1d "$codes"
exit "$code"
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Start a cluster of this machine; returns the environment in which Slurm's commands find it."""
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(64))
    (folder / "munge.key").chmod(0o400)
    host = socket.gethostname().split(".")[0]
    ports = dict(zip(("controller_port", "node_port"), free_ports(2), strict=True))
    settings = SETTINGS.format(folder=folder, host=host, user=pwd.getpwuid(os.getuid()).pw_name, **ports)
    (folder / "slurm.conf").write_text(settings)
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    munge = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    daemons = [
        start(
            folder / "munged.out", "munged", "--foreground", "--force", *(f"--{k}={folder}/munge.{v}" for k, v in munge.items())
        )
    ]
    try:
        wait_until(lambda: (folder / "munge.socket").exists(), folder)
        daemons.append(start(folder / "slurmctld.out", "slurmctld", "-D", "-f", folder / "slurm.conf"))
        daemons.append(start(folder / "slurmd.out", "slurmd", "-D", "-N", host, "-f", folder / "slurm.conf"))
        wait_until(lambda: "idle" in ask(environment, "sinfo", "--noheader", "--format=%T"), folder)
        yield environment
        ask(environment, "scancel", f"--user={os.getuid()}")
        wait_until(lambda: not ask(environment, "squeue", "--noheader"), folder)
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(timeout=20)


def free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start(log: Path, *command: object) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(list(map(str, command)), stdout=output, stderr=output)


def ask(environment: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout


def wait_until(condition: Callable[[], bool], logs: Path) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "\n".join(path.read_text()[-3000:] for path in sorted(logs.glob("*.out")))
        time.sleep(0.2)


def submit(slurm: dict[str, str], folder: Path, **codes: list[int]) -> tuple[str, str]:
    """Submit two parts and the merge; returns the jobs' numbers. codes: how tries of `part_2` or `merge` end."""
    folder.mkdir()
    for step, ends in codes.items():
        (folder / step.removeprefix("part_")).write_text("".join(f"{code}\n" for code in ends))
    (folder / "stand-in").write_text(STAND_IN)
    (folder / "stand-in").chmod(0o755)
    done = subprocess.run(
        [JOBS / "slurm" / "tagger.sh", "--attribute", "category"],
        cwd=folder,
        env=slurm | {"PARTS": "2", "CACHE": "cache", "TAGGER": str(folder / "stand-in")},
        capture_output=True,
        text=True,
        check=False,
    )
    said = re.fullmatch(
        r"tagger: job (\d+) tags manifest.parquet in 2 parts, and job (\d+) merges them into tagged.parquet\n", done.stdout
    )
    assert said, done.stdout + done.stderr
    return said[1], said[2]


def states(slurm: dict[str, str], job: str) -> list[str]:
    """How the job, or each task of an array, ended, and how often it was started again."""
    shown = ask(slurm, "scontrol", "show", "job", "--oneliner", job)
    return sorted(" ".join(found) for found in re.findall(r"JobState=(\w+).*? Restarts=(\d+)", shown))


def test_the_merge_follows_the_parts_and_a_stop_is_started_again_and_a_failure_is_not(slurm: dict[str, str], tmp_path: Path):
    stopped = submit(slurm, tmp_path / "stopped", part_2=[75])
    failed = submit(slurm, tmp_path / "failed", part_2=[78])
    rejected = submit(slurm, tmp_path / "rejected", merge=[3])
    wait_until(lambda: not ask(slurm, "squeue", "--noheader"), tmp_path)

    part = "run manifest.parquet --output tagged.parquet --overwrite --quiet --cache cache --shard {}/2 --attribute category"
    merge = "merge tagged.parquet --overwrite --quiet"
    calls = {path.parent.name: path.read_text().splitlines() for path in tmp_path.glob("*/calls")}
    assert sorted(calls["stopped"][:3]) == [part.format(1), part.format(2), part.format(2)]
    assert calls["stopped"][3:] == [merge]
    assert sorted(calls["failed"]) == [part.format(1), part.format(2)]
    assert calls["rejected"][2:] == [merge]
    assert [states(slurm, job) for job in stopped] == [["COMPLETED 0", "COMPLETED 1"], ["COMPLETED 0"]]
    assert [states(slurm, job) for job in failed] == [["COMPLETED 0", "FAILED 0"], ["CANCELLED 0"]]
    assert [states(slurm, job) for job in rejected] == [["COMPLETED 0", "COMPLETED 0"], ["FAILED 0"]]


def test_a_job_that_is_stopped_again_and_again_fails(tmp_path: Path):
    """Slurm counts its starts: the fifth is the last."""
    for name, code in (("srun", 75), ("scontrol", 0)):
        (tmp_path / name).write_text(f"#!/bin/bash\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    environment = {"PATH": path, "TAGGER_STEP": "merge", "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "4"}
    bash = shutil.which("bash")
    assert subprocess.run([str(bash), JOBS / "slurm" / "tagger.sh"], env=environment, check=False, timeout=20).returncode == 75
