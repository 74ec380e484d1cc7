"""CLIP's image tower through OpenVINO: on a CPU faster than PyTorch, in fp32, bf16 or int8."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from tagger.core.errors import ConfigError, ModelError
from tagger.core.files import note_use
from tagger.encoders.int8_file import Int8Model, int8_file, read_int8, write_int8

if TYPE_CHECKING:
    import openvino

log = logging.getLogger(__name__)

Images = Callable[[], Iterator[Tensor]]  # batches of the manifest's images, uint8 (B, 3, H, W), to quantise with


class OpenVinoTower:
    """Compute what the fp32 tower that it is made from computes: uint8 (at_once, 3, H, W) -> float32 (at_once, D).

    shape: that of its input, (at_once, 3, H, W). precision: auto (bf16 where the CPU has it, else fp32), fp32, bf16, or int8, for
    which `int8` returns the model. `version` tells towers of a precision apart. ConfigError on a CPU without the precision.
    """

    def __init__(self, tower: nn.Module, shape: tuple[int, ...], precision: str, int8: Callable[[], Int8Model]) -> None:
        with _keeping_signal_stack():
            self._make(tower, shape, precision, int8)

    def _make(self, tower: nn.Module, shape: tuple[int, ...], precision: str, int8: Callable[[], Int8Model]) -> None:
        openvino = _import("openvino")
        core = openvino.Core()
        able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "auto":
            precision = "bf16" if "BF16" in able else "fp32"
        if precision == "bf16" and "BF16" not in able:
            raise ConfigError("--precision bf16: expected a CPU that computes in it, found one without; use auto, fp32 or int8")
        self.precision = precision
        self.version = f"{version('openvino')} {shape}"
        if precision == "int8":
            description, weights = int8()
            # The tensor is a copy that lives as long as the model.
            model = core.read_model(description, openvino.Tensor(np.frombuffer(weights, np.uint8)))
            # Other images would have made other weights. The description is left out: its names differ from run to run.
            self.version += f" {hashlib.sha256(weights).hexdigest()}"
        else:
            model = _convert(tower, shape)
        hints = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision != "fp32" and "BF16" in able else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        self._compiled = core.compile_model(model, "CPU", hints)

    def __call__(self, pixels: Tensor) -> Tensor:
        return torch.from_numpy(self._compiled(pixels.contiguous().numpy())[0].copy())


def load_int8(
    tower: nn.Module, fingerprint: str, shape: tuple[int, ...], images: Images, checkpoint: Path | None, cache: Path | None
) -> Int8Model:
    """Return the int8 model of a tower from the checkpoint's own folder, else from the cache's, where there are such folders.

    Where neither has it, it is made with `images`, and kept in the cache: a run never writes into a checkpoint. ModelError.
    """
    if checkpoint:
        remedy = "going on without it; `tagger models quantise` makes it anew"
        if shared := read_int8(int8_file(checkpoint, fingerprint, shape), remedy):
            return shared
    if cache is None:
        return make_int8(tower, shape, images)
    file = int8_file(cache, fingerprint, shape)
    if kept := read_int8(file):
        note_use(file)
        return kept
    model = make_int8(tower, shape, images)
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_int8(file, model)
    except OSError as error:
        log.warning("%s: expected to keep the quantised model, found: %s; the next run makes it anew", file, error.strerror)
    return model


def make_int8(tower: nn.Module, shape: tuple[int, ...], images: Images) -> Int8Model:
    """Quantise a tower after training (NNCF; Jacob et al. 2018, SmoothQuant: Xiao et al. 2023) with these images.

    shape: that of its input, (at_once, 3, H, W). ModelError where there is no image.
    """
    with _keeping_signal_stack(), TemporaryDirectory(prefix="tagger-", ignore_cleanup_errors=True) as temporary:
        path = Path(temporary) / "model.xml"
        _import("openvino").save_model(_quantise(tower, shape, images), path, compress_to_fp16=False)
        return Int8Model(path.read_bytes(), path.with_suffix(".bin").read_bytes())


def _import(name: str) -> Any:
    # Both libraries would send statistics about their use to their maker. Without this package they cannot.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None is how to say so
    with _quietly():
        return __import__(name)


def _convert(tower: nn.Module, shape: tuple[int, ...]) -> openvino.Model:
    with _quietly(), torch.inference_mode(False), torch.no_grad():
        model = _import("openvino").convert_model(tower, example_input=torch.zeros((1, *shape[1:]), dtype=torch.uint8))
    model.reshape(list(shape))
    return model


def _quantise(tower: nn.Module, shape: tuple[int, ...], images: Images) -> openvino.Model:
    nncf = _import("nncf")
    logging.getLogger("nncf").setLevel(logging.ERROR)  # its own function for this would silence other loggers, too
    # On a CPU without VNNI the sum of two products overflows 16 bits, unless weights have seven bits.
    overflow_fix = nncf.OverflowFix.DISABLE if torch.cpu._is_vnni_supported() else nncf.OverflowFix.ENABLE
    batches = _whole_batches(images(), shape[0])
    log.info("quantising the model to int8 with %d images of the manifest", sum(map(len, batches)))
    with _quietly():
        return nncf.quantize(
            _convert(tower, shape),
            nncf.Dataset([batch.numpy() for batch in batches]),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(batches),
            # The first and the last layer, 3 % of the work: of 938 labels three change instead of five (tests/benchmarks).
            # SigLIP's last layer is its head; other architectures have neither.
            ignored_scope=nncf.IgnoredScope(types=["Convolution"], patterns=[".*projection.*", ".*head.*"], validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=overflow_fix),
        )


def _whole_batches(images: Iterator[Tensor], at_once: int) -> list[Tensor]:
    """Return batches uint8 (at_once, 3, H, W), the one shape that the model takes; too few images are repeated."""
    pixels = [batch for batch in images if len(batch)]
    if not pixels:
        raise ModelError("--precision int8: expected images that can be read, to quantise with, found none; use fp32")
    together = torch.cat(pixels)
    while len(together) < at_once:
        together = torch.cat([together, together])
    return list(torch.split(together[: len(together) // at_once * at_once], at_once))


@contextmanager
def _keeping_signal_stack() -> Iterator[None]:
    """Restore the thread's signal stack, so that each OpenVINO core finds the thread's own one.

    A core sets a stack for the thread's signals (its pull request 11894), and restores the previous one when it is freed. Cores
    freed in another order would restore a stack that is freed already, and the next signal, such as a worker's end, would end
    the process. Only cores on Linux, x86, do this.
    """
    if sys.platform != "linux":
        yield
        return
    before = ctypes.create_string_buffer(24)  # struct stack_t
    libc = ctypes.CDLL(None)
    libc.sigaltstack(None, before)
    try:
        yield
    finally:
        gc.collect()  # frees the cores that NNCF made
        libc.sigaltstack(before, None)


@contextmanager
def _quietly() -> Iterator[None]:
    """Suppress the warnings of tracers and the progress bars of libraries."""
    logger = logging.getLogger("torch.utils.cpp_extension")  # NNCF makes it look for CUDA, and it complains
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
