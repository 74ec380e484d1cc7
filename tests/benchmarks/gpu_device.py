"""Describe an accelerator, and watch how busy it is."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def device_rows(device: torch.device) -> list[tuple[str, str]]:
    """Return what is known of the device, as rows of a table."""
    if device.type != "cuda":
        return [("name", device.type), ("CUDA", f"none: torch {torch.__version__}, built for CUDA {torch.version.cuda}")]
    found = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    driver = _nvidia_smi(device, "driver_version", "--format=csv,noheader")
    return [
        ("name", found.name),
        ("compute capability", f"{found.major}.{found.minor}, {found.multi_processor_count} multiprocessors"),
        ("memory", f"{total / 1e9:.1f} GB, {free / 1e9:.1f} GB of it free"),
        ("driver", driver or "not known: nvidia-smi does not say"),
        ("CUDA, cuDNN", f"{torch.version.cuda}, {torch.backends.cudnn.version()}"),
    ]


def _query(device: torch.device, what: str, *options: str) -> list[str]:
    # By its UUID: CUDA_VISIBLE_DEVICES may number the devices otherwise than nvidia-smi.
    uuid = torch.cuda.get_device_properties(device).uuid
    return ["nvidia-smi", f"--id=GPU-{uuid}", f"--query-gpu={what}", *options]


def _nvidia_smi(device: torch.device, what: str, *options: str) -> str:
    """Return what nvidia-smi says about this device, nothing where it does not."""
    if shutil.which("nvidia-smi") is None:
        return ""
    done = subprocess.run(_query(device, what, *options), capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


@contextmanager
def utilisation(device: torch.device) -> Iterator[list[tuple[float, float]]]:
    """Yield a list that holds (moment, percent) of an NVIDIA GPU, several times a second, once the block has ended.

    It stays empty without such a GPU, and without nvidia-smi.
    """
    samples: list[tuple[float, float]] = []
    if shutil.which("nvidia-smi") is None or device.type != "cuda":
        yield samples
        return
    query = _query(device, "utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=200")
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(query, stdout=output, stderr=subprocess.DEVNULL)
        try:
            yield samples
        finally:
            process.terminate()
            process.wait()
        seconds = time.perf_counter() - began
        output.seek(0)
        lines = [float(line) for line in output.read().splitlines() if line.strip().isdigit()]
        samples += [(seconds * (number + 1) / len(lines), percent) for number, percent in enumerate(lines)]
