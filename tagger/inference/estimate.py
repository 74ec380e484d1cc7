"""What a run will take, from what one image takes: seconds and bytes, as inference/local_engine.py shares them out."""

from __future__ import annotations

from dataclasses import dataclass

# Measured with the sample catalogue and with 256 photos and ViT-B/32 (tests/benchmarks/README.md, "What inspect says"):
START_SECONDS = 8.0  # of a process: imports, start of the decoding processes, end
BASE_BYTES = 1_000_000_000  # of the main process: Python, torch and transformers
DECODING_BYTES = 400_000_000  # of the server that decoding processes are forked from
DECODER_BYTES = 270_000_000  # of each of them, beside what they share
TOWER_SHARE = 0.6  # of the matrix product's speed, which a whole image tower reaches

OPEN_TABLES = 6  # shards whose rows are in memory at a time
DECODED_COPIES = 4  # of an image's pixels, while they are converted and resized


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """seconds: of the whole run, from nothing. start: those before the first image. encode, decode: seconds of one image, the
    latter of one process. workers: decoding processes. limited_by: "encoder" or "decoder". main_bytes, decoding_bytes: of memory,
    at the highest, of the main process and of the others together. device_bytes: of an accelerator's.
    """

    seconds: float
    start: float
    encode: float
    decode: float
    workers: int
    limited_by: str
    main_bytes: int
    decoding_bytes: int
    device_bytes: int


def estimate_seconds(
    rows: int, *, encode: float, decode: float, workers: int, cores: int, on_cpu: bool, extra: float
) -> tuple[float, str]:
    """Estimate the seconds from the first image to the last, and the stage that limits them.

    encode: of one image, with all cores or the accelerator. decode: of one image, on one core. Both go on at a time; on a CPU
    they share the cores, and neither is slower than alone. extra: for encoding prompts and trying a precision.
    """
    decoder = decode / max(min(workers, cores), 1)
    encoder = encode + (decode / cores if on_cpu or not workers else 0.0)
    return rows * max(decoder, encoder) + extra, "encoder" if encode >= decoder else "decoder"


def estimate_memory(
    *, weights: int, half_weights: int, activations: int, shard_bytes: int, pixels: int, workers: int, on_cpu: bool
) -> tuple[int, int, int]:
    """Estimate the bytes of the main process, of the decoding processes together, and of the accelerator.

    weights: numbers in fp32. half_weights: those of the image tower where it computes in two bytes, beside them. activations:
    numbers of a piece of images. shard_bytes: of one shard's rows. pixels: of the largest image.
    """
    model = 4 * weights + 2 * half_weights
    busy = 4 * activations
    main = BASE_BYTES + OPEN_TABLES * shard_bytes + (model + busy if on_cpu else 4 * weights)
    decoding = DECODING_BYTES * bool(workers) + workers * (DECODER_BYTES + 3 * DECODED_COPIES * pixels)
    return main, decoding, 0 if on_cpu else model + busy
