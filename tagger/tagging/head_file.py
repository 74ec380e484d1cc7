"""The file of a head: one that `tagger train head` fitted on labelled rows, read whole and checked before any model is loaded.

One safetensors file: the head's tensors, the SHA-256 of the images that fitted it ("fitted", uint8 (N, 32)), and in its metadata,
under "tagger", a `HeadDescription` as JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from tagger.core.errors import ConfigError, ModelError
from tagger.core.files import reason
from tagger.core.frozen import Frozen
from tagger.core.text import first_line

if TYPE_CHECKING:
    from torch import Tensor, device

    from tagger.tagging.heads import KernelHead, LinearHead

HEAD = "head"  # the source of what it decides
METADATA_KEY, FITTED = "tagger", "fitted"
LINEAR, KERNEL = ("weight", "bias"), ("weight", "bias", "keys", "values")  # names of the tensors


class HeldOut(Frozen):
    """Say how good a head is on rows that it was not fitted on; accuracies are shares of 1.

    interval: 95 %, of the gain in mean recall over zero-shot. probability: that
    this is above zero. folds: into how many parts the rows were
    cut, each judged by what the others fitted. Where they cannot be cut, folds is 0 and the figures are None.
    """

    accuracy: float | None
    zero_shot_accuracy: float | None
    interval: tuple[float, float] | None
    probability: float | None
    folds: int


class HeadDescription(Frozen):
    """Describe a head. encoder, prompts: the hashes of the weights and prompts that it was fitted for. beta: of a KernelHead.

    blend: its share beside zero-shot, which is in its tensors already. rows: how many fitted it. manifest: SHA-256 of theirs.
    """

    schema_version: Literal[1] = 1
    kind: Literal["head"] = "head"
    attribute: str
    labels: tuple[str, ...] = Field(min_length=2)
    encoder: str
    prompts: str
    method: str
    blend: float
    beta: float | None
    held_out: HeldOut
    rows: int
    manifest: str
    seed: int
    versions: dict[str, str]


@dataclass(frozen=True, eq=False)
class HeadFile:
    """A head as its file has it. fingerprint: SHA-256 of all that its logits depend on,
    and not of where it is from: the same rows fit the same head every night. fitted: the SHA-256 of the images that fitted it."""

    path: str
    description: HeadDescription
    tensors: dict[str, NDArray[np.float32]]
    fitted: frozenset[bytes]
    fingerprint: str

    def check(self, attribute: str, labels: tuple[str, ...], prompts: str) -> None:
        """Raise ConfigError unless the head was fitted for this attribute, these labels and the prompts with this hash."""
        found, where = self.description, f'attribute "{attribute}": head {self.path}'
        if found.attribute != attribute:
            raise ConfigError(f"{where}: expected a head of this attribute, found one of {found.attribute}; train one for it")
        if found.labels != labels:
            raise ConfigError(
                f"{where}: expected one fitted for the labels {', '.join(labels)}, found one for {', '.join(found.labels)}; run "
                "`tagger train head` again"
            )
        if found.prompts != prompts:
            raise ConfigError(
                f"{where}: expected one fitted beside these prompts, found other prompts, and zero-shot is a part of it; run "
                "`tagger train head` again, or restore the prompts"
            )

    def check_encoder(self, weights: str) -> None:
        """Raise ConfigError unless the head was fitted on embeddings of the encoder with these weights."""
        if self.description.encoder != weights:
            raise ConfigError(
                f'attribute "{self.description.attribute}": head {self.path}: expected one fitted on embeddings of this model, '
                "found one of other weights; run `tagger train head` again, or name the model that it was fitted for"
            )

    def has_seen(self, digests: NDArray[np.uint8] | None) -> NDArray[np.bool_]:
        """Return bool (N,): which images fitted the head, by their SHA-256, uint8 (N, 32)."""
        rows = () if digests is None else digests
        return np.fromiter((row.tobytes() in self.fitted for row in rows), np.bool_, len(rows))

    def head(self, on: device) -> LinearHead | KernelHead:
        """Return what scores embeddings on this device."""
        import torch

        from tagger.tagging.heads import KernelHead, LinearHead

        tensors = {name: torch.from_numpy(tensor).to(on) for name, tensor in self.tensors.items()}
        if (beta := self.description.beta) is None:
            return LinearHead(**tensors, fingerprint=self.fingerprint)
        return KernelHead(**tensors, beta=beta, fingerprint=self.fingerprint)


def to_bytes(
    head: LinearHead | KernelHead, describe: Callable[[float | None], HeadDescription], digests: NDArray[np.uint8]
) -> bytes:
    """Return the content of a head's file. describe: called with the head's beta. digests: of the fitting images, (N, 32).

    Raises ModelError for a head that is not finite.
    """
    from safetensors.numpy import save

    beta = getattr(head, "beta", None)
    names = LINEAR if beta is None else KERNEL
    tensors: dict[str, NDArray[Any]] = {name: _array(getattr(head, name)) for name in names}
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise ModelError("train head: expected weights that are finite, found NaN or infinity; try another --method")
    return save({**tensors, FITTED: digests}, {METADATA_KEY: describe(beta).model_dump_json()})


def read_head(path: str) -> HeadFile:
    """Read a head's file; ModelError where there is none, or one that is damaged, of another kind, or not finite."""
    from safetensors.numpy import load

    where = f"head {path}"
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ModelError(f"{where}: expected a readable file, found: {reason(error)}; run `tagger train head`") from error
    try:
        tensors: dict[str, NDArray[Any]] = load(data)
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    except Exception as error:  # a damaged file can raise anything
        raise ModelError(
            f"{where}: expected a whole safetensors file, found: {first_line(error)}; run `tagger train head` again"
        ) from error
    if METADATA_KEY not in metadata:
        raise ModelError(f"{where}: expected a file of `tagger train head`, found other weights; train one")
    try:
        description = HeadDescription.model_validate_json(metadata[METADATA_KEY])
    except ValidationError as error:
        problem = error.errors()[0]
        named = ".".join(map(str, problem["loc"]))
        raise ModelError(
            f"{where}: expected what `tagger train head` writes, found {named}: {problem['msg']}; train it again"
        ) from error
    digests = tensors.pop(FITTED, np.empty((0, 0)))
    _check_tensors(where, description, tensors, digests)
    fitted = frozenset(row.tobytes() for row in digests)
    return HeadFile(path, description, tensors, fitted, _fingerprint(description, tensors))


def _check_tensors(where: str, description: HeadDescription, tensors: dict[str, NDArray[Any]], digests: NDArray[Any]) -> None:
    """Raise ModelError unless these are the tensors of such a head, and finite."""
    labels, names = len(description.labels), LINEAR if description.beta is None else KERNEL
    width = tensors["weight"].shape[-1] if "weight" in tensors and tensors["weight"].ndim == 2 else 0
    rows = len(tensors["keys"]) if "keys" in tensors and tensors["keys"].ndim == 2 else 0
    shapes = {"weight": (labels, width), "bias": (labels,), "keys": (rows, width), "values": (rows, labels)}
    expected = {name: (shapes[name], np.dtype(np.float32)) for name in names}
    found = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    if found != expected or digests.dtype != np.uint8 or digests.shape[1:] != (32,):
        shown = ", ".join(f"{name} {shape}" for name, (shape, _) in sorted(found.items())) or "none"
        raise ModelError(
            f"{where}: expected the tensors {', '.join(names)} and {FITTED} of a head for {labels} labels, found {shown}; run "
            "`tagger train head` again"
        )
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise ModelError(f"{where}: expected finite weights, found NaN or infinity; run `tagger train head` again")


def _fingerprint(description: HeadDescription, tensors: dict[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(description.model_dump_json(include={"labels", "encoder", "prompts", "beta"}).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.shape}".encode())
        digest.update(tensor.data)
    return digest.hexdigest()


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())
