"""A run over remote images whose servers fail a thousand times tags every image as if it were a local file."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import trustme

import tagger
from tests.helpers import https_server, s3_server
from tests.helpers.https_server import HttpsServer
from tests.helpers.s3_server import S3Server

FAULTS = 1000
STALLS = 4  # of each server; one costs seconds of waiting, the others tenths
SLOW = 60
SETTINGS = """
[images]
allow_hosts = ["127.0.0.1:{port}"]
allow_buckets = ["s3://photos"]
allow_private_networks = ["127.0.0.0/8"]
timeout = 12.0

[[attribute]]
name = "category"
labels = {labels}
"""
LABELS = ["shirt", "dress", "shoes"]


def tag(folder: Path, model: Path, environment: dict[str, str]) -> pa.Table:
    """Tag manifest.parquet with two decoding processes, which fetch; in a process of its own, for its environment."""
    command = [sys.executable, "-m", "tagger", "run", "manifest.parquet"]
    command += ["--workers", "2", "--model", str(model)]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=500
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    return pq.read_table(folder / "manifest.tagged.parquet")


def plan(server: HttpsServer | S3Server, paths: list[str], kinds: list[str], count: int, chance: random.Random) -> None:
    """Spread `count` faults over the paths, at most three on one and at most one of them a stall."""
    kinds = [kind for kind in kinds if kind not in ("slow", "stall")]
    for path in chance.sample(paths * 3, count):
        server.faults[path].append(chance.choice(kinds))
    struck = [path for path in paths if server.faults[path]]
    for path in chance.sample(struck, STALLS):
        server.faults[path][0] = "stall"
    if isinstance(server, HttpsServer):
        for path in chance.sample(struck, SLOW):
            server.faults[path][-1] = "slow"  # last, for this one ends well


def test_a_thousand_faults_lose_and_double_nothing(
    small_clip: Path, pictures: Path, tmp_path: Path, write_manifest: Callable[..., Path]
):
    names = sorted(path.name for path in pictures.iterdir())
    chance = random.Random(3)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    web, store = HttpsServer(authority, "127.0.0.1"), S3Server()
    (tmp_path / "tagger.toml").write_text(SETTINGS.format(port=web.port, labels=LABELS))
    contents = {name: (pictures / name).read_bytes() for name in names}
    web.files = {f"/{name}": content for name, content in contents.items()}
    images = [web.url(f"/{name}", "127.0.0.1") if chance.random() < 0.5 else f"s3://photos/{name}" for name in names]
    on_web = [f"/{name}" for name, image in zip(names, images, strict=True) if image.startswith("https:")]
    store.put("photos", {name: contents[name] for name, image in zip(names, images, strict=True) if image.startswith("s3:")})
    in_store = [f"/photos/{name}" for name, image in zip(names, images, strict=True) if image.startswith("s3:")]
    plan(web, on_web, list(https_server.FAULTS), FAULTS // 2, chance)
    kinds = [fault for fault in s3_server.FAULTS if fault != "403"]  # which does not pass
    plan(store, in_store, kinds, FAULTS // 2, chance)
    write_manifest(images, image_column="image", product_id=list(range(len(names))))
    local_manifest = write_manifest(names, "local.parquet", image_column="image", product_id=list(range(len(names))))
    environment = {"SSL_CERT_FILE": str(tmp_path / "authority.pem"), **store.environment}
    try:
        remote = tag(tmp_path, small_clip, environment)
    finally:
        web.stop()
        store.close()
    local = tagger.run(
        local_manifest, machine=tagger.Machine(workers=0), labels=LABELS, model=small_clip, image_root=pictures, cache=False
    ).read()
    assert web.happened.total() + store.happened.total() == FAULTS
    assert remote["image"].to_pylist() == images
    tags = [name for name in local.schema.names if name not in ("image", "tag_reason")]
    assert remote.select(tags).equals(local.select(tags))
    reasons = [None if reason is None else reason.partition(":")[0] for reason in local["tag_reason"].to_pylist()]
    assert [None if reason is None else reason.partition(":")[0] for reason in remote["tag_reason"].to_pylist()] == reasons
