"""Make a virtual environment for each peer when it is first needed, with the version of torch that is running."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from common import CACHE, HERE, last_json


class Peer(NamedTuple):
    """Name the environment where a peer lives, the loop of peer_loops.py that runs it, and that loop's options."""

    environment: str
    loop: str
    options: tuple[str, ...] = ()


PEERS = {
    "transformers": Peer("recent", "transformers", ("--workers", "0")),
    "transformers_bf16": Peer("recent", "transformers", ("--dtype", "bfloat16")),
    "open_clip": Peer("recent", "open_clip"),
    "open_clip_bf16": Peer("recent", "open_clip", ("--dtype", "bfloat16")),
    "fastembed": Peer("recent", "fastembed", ("--batch", "16", "--workers", str(os.cpu_count()))),  # 16 is its own default
    "clip_retrieval": Peer("clip-retrieval", "clip_retrieval"),
}
# What is installed in each environment; torch exports fastembed's model with onnx and onnxscript. clip-retrieval wants
# transformers 4 and numpy 1, and the CLIP package that it builds on imports pkg_resources, which setuptools 81 no longer has.
REQUIREMENTS = {
    "recent": (f"transformers=={version('transformers')}", "open-clip-torch", "fastembed", "onnx", "onnxscript"),
    "clip-retrieval": ("clip-retrieval>=2.45", "setuptools<81"),
}
DEFAULT = CACHE / "peers"


def make_environment(folder: Path, requirements: tuple[str, ...]) -> Path:
    """Return its Python. An environment made with other requirements, or only partly, is made anew."""
    python, done = folder / "bin" / "python", folder / "requirements.txt"
    wanted = "\n".join((*(f"{name}=={version(name)}" for name in ("torch", "torchvision")), *requirements))
    if not done.exists() or done.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        print(f"installing {', '.join(wanted.split())} ...", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted.split()], check=True, capture_output=True, text=True)
        done.write_text(wanted)
    return python


def run_peer(name: str, environments: Path, *arguments: object, python: Path | None = None) -> dict[str, Any]:
    """Return what peer_loops.py prints, or `failure` if it could not be installed or run. `python` has the peer already."""
    try:
        peer = PEERS[name]
        python = python or make_environment(environments / peer.environment, REQUIREMENTS[peer.environment])
        return last_json([python, HERE / "peer_loops.py", peer.loop, *peer.options, *arguments])
    except subprocess.CalledProcessError as error:
        last = (error.stderr or "").strip().splitlines()[-1:]
        return {"failure": f"could not be run: {' '.join(last) or error}"}
