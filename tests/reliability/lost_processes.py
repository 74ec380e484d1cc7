"""Kill what tags for a run: processes of devices, actors of a Ray cluster, a node of it, and the run itself.

    python tests/reliability/lost_processes.py --engine devices --kills 10 --driver-kills 2
    python tests/reliability/lost_processes.py --engine ray --kills 10 --driver-kills 2 --node

A run of the sample catalogue's pictures, repeated, in shards of 64 rows, is disturbed at random moments, and the same command
started again where it ends with exit code 75 or was killed. In the end its result must be that of an undisturbed run in one
process, to the byte.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

SAMPLE = Path(__file__).parents[2] / "sample_catalog"
WIDE = 32 << 20 >> 6  # bytes of a row, so that a shard has 64 (catalog/manifest.py)
STOPPED = 75


def write_manifest(path: Path, rows: int) -> None:
    """Write embedded pictures, each with its row number behind it: equal bytes would be encoded only once."""
    pictures = [(SAMPLE / "images" / f"{number:04d}.png").read_bytes() for number in range(100)]
    images = [pictures[row % 100] + f"row {row}".encode() for row in range(rows)]
    schema = pa.schema([("image", pa.binary()), ("padding", pa.binary())])
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
        for start in range(0, rows, 64):
            some = images[start : start + 64]
            writer.write_table(pa.table({"image": some, "padding": pa.array([bytes(WIDE)] * len(some), pa.binary())}))


def tag(manifest: Path, output: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tagger", "run", str(manifest), "--output", str(output), "--labels", "shirt,dress,shoes"]
    command += ["--model", str(SAMPLE / "model"), "--no-cache", "--no-report", "--quiet", *options]
    return subprocess.Popen(command, stdout=-1, stderr=-1, text=True, start_new_session=True)


def workers_of(run: subprocess.Popen[str], engine: str) -> list[psutil.Process]:
    """Return the processes that encode."""
    if engine == "ray":
        return [one for one in psutil.process_iter(["cmdline"]) if (one.info["cmdline"] or [""])[0].startswith("ray::Actor")]
    try:
        return [one for one in psutil.Process(run.pid).children() if "spawn_main" in " ".join(one.cmdline())]
    except psutil.Error:
        return []


def parts_of(output: Path) -> int:
    """Return how many shards are done."""
    return len(list((output.parent / f"{output.stem}.run" / "parts").glob("*.parquet")))


def disturb(manifest: Path, output: Path, options: list[str], arguments: argparse.Namespace, node: Any) -> Counter[str]:
    """Run until the result is there, and kill on the way; returns what was done and what came of it."""
    chance, found = random.Random(arguments.seed), Counter[str]()
    deadline = time.monotonic() + arguments.timeout
    while not output.exists():
        run, done = tag(manifest, output, *options), parts_of(output)
        found["starts"] += 1
        while run.poll() is None:
            time.sleep(chance.uniform(0.2, 0.6))
            if time.monotonic() > deadline:
                os.killpg(run.pid, signal.SIGKILL)
                raise SystemExit(f"no result after {arguments.timeout} s: {dict(found)}")
            if parts_of(output) <= done:  # whoever is killed before it has done anything never gets anywhere
                continue
            done = parts_of(output)
            workers = workers_of(run, arguments.engine)
            if found["driver kills"] < arguments.driver_kills and found["worker kills"] * 2 >= arguments.kills:
                run.kill()
                found["driver kills"] += 1
            elif node is not None and found["worker kills"] * 3 >= arguments.kills and not found["nodes removed"]:
                node()
                found["nodes removed"] += 1
            elif found["worker kills"] < arguments.kills and workers:
                chance.choice(workers).kill()
                found["worker kills"] += 1
        _, errors = run.communicate()
        found[f"exit code {run.returncode}"] += 1
        if run.returncode not in (0, STOPPED, -signal.SIGKILL):
            raise SystemExit(f"exit code {run.returncode}: {errors}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("devices", "ray"), required=True)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--driver-kills", type=int, default=2)
    parser.add_argument("--node", action="store_true", help="remove a node of the Ray cluster")
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=1800)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        manifest, output, expected = (Path(folder) / name for name in ("manifest.parquet", "out.parquet", "expected.parquet"))
        write_manifest(manifest, arguments.rows)
        cluster, node, options = None, None, ["--devices", "cpu,cpu"]
        if arguments.engine == "ray":
            from ray.cluster_utils import Cluster

            cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
            second = cluster.add_node(num_cpus=2)
            options = ["--engine", "ray", "--ray-address", cluster.address, "--ray-workers", "2"]
            node = (lambda: cluster.remove_node(second)) if arguments.node else None
        try:
            found = disturb(manifest, output, options, arguments, node)
        finally:
            if cluster is not None:
                cluster.shutdown()
        undisturbed = tag(manifest, expected)
        _, errors = undisturbed.communicate()
        if undisturbed.returncode:
            raise SystemExit(errors)
        same = output.read_bytes() == expected.read_bytes()
    print(f"{arguments.rows} rows, {dict(sorted(found.items()))}: {'the same bytes' if same else 'OTHER BYTES'}")
    raise SystemExit(not same)


if __name__ == "__main__":
    main()
