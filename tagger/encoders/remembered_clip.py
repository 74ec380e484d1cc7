"""A CLIP as it was when it was loaded last: all that a night needs to know of it in which nothing is encoded.

What a loaded encoder says of itself is kept in the cache folder, under the device, inode, size and times of each of its files
and under all else that it follows from. A checkpoint whose files are touched is loaded again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from tagger.core.files import note_use, reason, write_bytes
from tagger.core.frozen import Frozen
from tagger.core.types import Preprocessing
from tagger.encoders.clip_files import INT8, readable_files

if TYPE_CHECKING:
    from torch import Tensor

    from tagger.encoders.clip import ClipEncoder

log = logging.getLogger(__name__)

LIBRARIES = ("tagger", "torch", "torchvision", "transformers", "pillow", "openvino", "nncf")
CPU_FLAGS = Path("/proc/cpuinfo")


class ClipDescription(Frozen):
    """Say of a loaded CLIP what the Encoder protocol (encoders/base.py) asks for."""

    preprocessing: Preprocessing
    device: str
    device_type: str
    dimension: int
    logit_scale: float
    backend: str
    precision: str
    weights: str
    fingerprint: str


class RememberedClip:
    """A PromptEncoder that `load` loads when it has to encode something."""

    source, reads_prompts = "clip", True

    def __init__(self, description: ClipDescription, load: Callable[[], ClipEncoder]) -> None:
        self.preprocessing, self.dimension = description.preprocessing, description.dimension
        self.device, self.device_type = description.device, description.device_type
        self.logit_scale = description.logit_scale
        self.backend, self.precision = description.backend, description.precision
        self.weights, self.fingerprint = description.weights, description.fingerprint
        self._load = load
        self._loaded: ClipEncoder | None = None

    def encode(self, pixels: Tensor) -> Tensor:
        """Encode uint8 (N, 3, H, W) as float32 (N, D), L2-normalised. ModelError, StoppedError: as `load` does."""
        return self._encoder().encode(pixels)

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Encode P prompts as float32 (P, D), L2-normalised. ConfigError for a prompt longer than the model reads."""
        return self._encoder().encode_prompts(prompts)

    def _encoder(self) -> ClipEncoder:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded


class ClipMemory:
    """The place of one description. folder: of the cache. checkpoint: a folder. settings: all else that is asked for."""

    def __init__(self, folder: Path, checkpoint: Path, settings: Sequence[object]) -> None:
        # A folder's times tell of an int8 model that is put there.
        stats = [(file.name, file.stat()) for file in (*readable_files(checkpoint), *checkpoint.glob(INT8))]
        files = [(name, one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for name, one in stats]
        known = [str(checkpoint.resolve()), files, list(map(str, settings)), _machine(), _versions()]
        key = hashlib.sha256(json.dumps(known).encode()).hexdigest()
        self._path = folder / "models" / f"{key}.json"

    def recall(self) -> ClipDescription | None:
        """Return what was kept, None where there is nothing, or something damaged."""
        try:
            seal, _, content = self._path.read_bytes().partition(b"\n")
            if hashlib.sha256(content).hexdigest().encode() == seal:
                note_use(self._path)
                return ClipDescription.model_validate_json(content)
        except (OSError, ValidationError):
            pass
        return None

    def keep(self, encoder: ClipEncoder) -> None:
        """Keep what the encoder says of itself; where that fails, a warning says that the next run loads the model again."""
        content = ClipDescription(**{name: getattr(encoder, name) for name in ClipDescription.model_fields}).model_dump_json()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_bytes(self._path, f"{hashlib.sha256(content.encode()).hexdigest()}\n{content}".encode())
        except OSError as error:
            log.warning("%s: expected to keep it, found: %s; the next run loads the model again", self._path, reason(error))

    def forget(self) -> None:
        """Remove what was kept."""
        self._path.unlink(missing_ok=True)


def _machine() -> list[str]:
    """Name what a device and a precision are chosen by: the processor's abilities and the accelerators that can be seen."""
    flags = ""
    if CPU_FLAGS.exists():
        lines = CPU_FLAGS.read_text(errors="replace").splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    accelerators = sorted(map(str, Path("/dev").glob("nvidia[0-9]*")))
    return [platform.platform(), flags, *accelerators, os.environ.get("CUDA_VISIBLE_DEVICES", "all")]


@cache
def _versions() -> list[str]:
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # of an extra
            found.append(f"{name} none")
    return found
