"""Set how this process takes memory: keep what was freed for the next image or layer, or take no more than a limit."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
LARGEST_THRESHOLD = 32 << 20  # more than that glibc refuses


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, to use it again; do nothing where the allocator is not glibc's.

    glibc gives large blocks back to the system at once, which hands out the same pages anew, one fault and 4 KiB at a time:
    more than half of the time that a JPEG of 1600x2132 takes, and an eighth of ViT-B/32's in fp32 (2 cores, batches of 32).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def limit_address_space(more: int) -> None:
    """Let this process take at most `more` bytes on top of what it has; on Linux only: no other system keeps to such a limit."""
    if sys.platform == "linux":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + more, used + more))
