"""Time an image tower alone on a device, launched plainly, compiled, or as a CUDA graph, and compare their embeddings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from tagger.core.text import first_line

SMALLEST = 32
ENOUGH = 1.02  # times the best rate so far, for a batch of twice the size to be worth trying the next
WARM_UP = 3  # calls

Encode = Callable[[Tensor], Tensor]  # uint8 (N, 3, H, W) -> float32 (N, D), for one N


def plain(tower: Encode, _pixels: Tensor) -> Encode:
    return tower


def compiled(tower: Encode, _pixels: Tensor) -> Encode:
    torch.compiler.reset()  # or the limit of recompilations would hand later batch sizes to the plain tower
    return torch.compile(tower, dynamic=False)


def graphed(tower: Encode, pixels: Tensor) -> Encode:
    """Record the tower's kernels once for this shape; a call copies its pixels to where they read, and launches all at once."""
    if pixels.device.type != "cuda":
        raise RuntimeError(f"expected an NVIDIA GPU, found {pixels.device}")
    static, beside = pixels.clone(), torch.cuda.Stream(pixels.device)
    beside.wait_stream(torch.cuda.current_stream(pixels.device))
    with torch.cuda.stream(beside):  # libraries allocate at their first calls, which must not be recorded
        for _ in range(WARM_UP):
            tower(static)
    torch.cuda.current_stream(pixels.device).wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        embeddings = tower(static)

    def replay(images: Tensor) -> Tensor:
        static.copy_(images)
        graph.replay()
        return embeddings

    return replay


VARIANTS = {"plain": plain, "torch.compile": compiled, "CUDA graph": graphed}


@dataclass
class Probe:
    """What one variant reached: images per second by batch size, seconds until it was ready for the first, and why it ended."""

    rates: dict[int, float] = field(default_factory=dict)
    ready: float = float("nan")
    end: str = ""

    @property
    def best(self) -> int:
        """Return the batch size of the highest rate."""
        return max(self.rates, key=self.rates.__getitem__)


def synchronise(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def per_second(call: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Return calls per second, once warm; the device works on what was launched while the next is launched, as in a run."""
    for _ in range(WARM_UP):
        began = time.perf_counter()
        call()
        synchronise(device)
        once = time.perf_counter() - began
    calls = max(round(seconds / once), 1)
    began = time.perf_counter()
    for _ in range(calls):
        call()
    synchronise(device)
    return calls / (time.perf_counter() - began)


def random_pixels(batch: int, size: tuple[int, int], device: torch.device) -> Tensor:
    return torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8).to(device)


@torch.inference_mode()
def rate_at(tower: Encode, batch: int, size: tuple[int, int], device: torch.device, seconds: float) -> float:
    """Return images per second of the plain tower over pixels that are on its device already."""
    return batch * per_second(partial(tower, random_pixels(batch, size, device)), device, seconds)


@torch.inference_mode()
def probe(variant: str, tower: Encode, size: tuple[int, int], device: torch.device, seconds: float, largest: int) -> Probe:
    """Double the batch until the memory ends, the rate no longer rises by 2 %, or it is the largest that is wanted."""
    found = Probe()
    batch = SMALLEST
    while not found.end:
        best = max(found.rates.values(), default=0.0)
        try:
            began = time.perf_counter()
            pixels = random_pixels(batch, size, device)
            encode = VARIANTS[variant](tower, pixels)
            encode(pixels)
            synchronise(device)
            if batch == SMALLEST:
                found.ready = time.perf_counter() - began
            found.rates[batch] = batch * per_second(partial(encode, pixels), device, seconds)
            if found.rates[batch] < ENOUGH * best:
                found.end = f"at {batch:,} it no longer rose by 2 %"
            elif batch >= largest:
                found.end = f"{batch:,} was the largest tried"
        except torch.OutOfMemoryError:
            found.end = f"out of memory at {batch:,}"
        except Exception as error:  # noqa: BLE001  # compilers and drivers raise anything at all; the sheet says what
            found.end = f"not measured at {batch:,}: {type(error).__name__}: {first_line(error)}"
        encode = pixels = None  # before the next ones are made
        if device.type == "cuda":
            torch.cuda.empty_cache()
        batch *= 2
    return found


@torch.inference_mode()
def embed(variant: str, tower: Encode, pixels: Tensor, device: torch.device) -> Tensor:
    """Encode uint8 (N, 3, H, W), N a multiple of SMALLEST, with pieces of so many, as float32 (N, D) on the CPU."""
    pieces = [piece.to(device) for piece in pixels.split(SMALLEST)]
    encode = VARIANTS[variant](tower, pieces[0])
    return torch.cat([encode(piece).cpu() for piece in pieces])


def differences(found: Tensor, reference: Tensor, prompts: Tensor) -> tuple[float, int]:
    """Return the largest difference of embeddings (N, D), and how many of N have another best label of prompts (K, D)."""
    changed = (found @ prompts.T).argmax(1) != (reference @ prompts.T).argmax(1)
    return float((found - reference).abs().max()), int(changed.sum())


def rows_of(probes: dict[str, Probe]) -> Iterator[list[str]]:
    """Give a table's row for each batch size, with the rate of each variant."""
    for batch in sorted({batch for one in probes.values() for batch in one.rates}):
        yield [f"{batch:,}", *(f"{one.rates[batch]:,.1f}" if batch in one.rates else "" for one in probes.values())]
