"""The folder that a training writes a CLIP to: a checkpoint in transformers' format, and what it was made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagger.core.errors import UsageError
from tagger.core.files import flush, write_bytes, write_text
from tagger.core.write_check import require_writable_folder
from tagger.encoders.clip_files import CONFIG, TEXTS, WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor

    from tagger.encoders.clip import Parts

DESCRIPTION = "tagger-training.json"  # beside the checkpoint's own files
HEAD = "head.safetensors"  # of learned prompts
LIBRARIES = ("tagger", "torch", "torchvision", "transformers")


def require_clip_folder(folder: Path, origin: Path, *, overwrite: bool) -> None:
    """Require that a model can be written here, and that it is not the folder of the model to begin with. UsageError,
    StoppedError: as of require_writable.
    """
    if folder.resolve() == origin.resolve():
        raise UsageError(f"--output {folder}: expected another folder than that of the model to begin with; name another")
    require_writable_folder(folder, f"--output {folder}", (CONFIG, WEIGHTS, DESCRIPTION, HEAD), overwrite=overwrite)


def write_clip(
    folder: Path, parts: Parts, weights: Mapping[str, Tensor], described: Mapping[str, Any], head: bytes | None = None
) -> None:
    """Write the checkpoint whole: the new weights, and beside them what belongs to the old ones. OSError."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    # A checkpoint is complete by its configuration, which is written last.
    (folder / CONFIG).unlink(missing_ok=True)
    (folder / HEAD).unlink(missing_ok=True)
    for name in TEXTS:
        if name != CONFIG and (source := parts.checkpoint.folder / name).exists():
            write_bytes(folder / name, source.read_bytes())
    tensors = {key: weight.contiguous() for key, weight in weights.items()}
    write_bytes(folder / WEIGHTS, save(tensors, {"format": "pt"}))
    if head is not None:
        write_bytes(folder / HEAD, head)
    versions = {library: version(library) for library in LIBRARIES}
    write_text(folder / DESCRIPTION, json.dumps({**described, "versions": versions}, indent=2) + "\n")
    write_bytes(folder / CONFIG, (parts.checkpoint.folder / CONFIG).read_bytes())
    flush(folder)
