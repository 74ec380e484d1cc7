"""The processes that decode: how many, and started early. Imports nothing heavy."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing import forkserver

FEW_BATCHES = 4  # a run this short ends before workers would have started


def start_early(rows: int, batch_size: int, workers: int | None) -> None:
    """Let the process that workers are forked from import torch while this one imports transformers and loads the model."""
    needed = workers > 0 if workers is not None else rows > FEW_BATCHES * batch_size
    if needed and start_method() == "forkserver":
        multiprocessing.get_context("forkserver").set_forkserver_preload(["tagger.images.loader"])
        forkserver.ensure_running()


def start_method() -> str:
    """Workers are forked from a small clean process where the system has that: forking this one, with its threads, may
    deadlock, and would count its memory in every worker's."""
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def choose_workers(rows: int, batch_size: int, device: str) -> int:
    """Decoding processes for this machine and device type; none for a run so short that they do not pay."""
    if rows <= FEW_BATCHES * batch_size:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # On a CPU the encoder itself wants the cores: one process in four decodes.
    return min(cores, 16) if device != "cpu" else max(cores // 4, 1)
