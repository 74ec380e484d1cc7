"""CLIP's image tower as an encoder, and its text tower for the prompts (Radford et al. 2021)."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from tagger.core.text import first_line

# Before transformers is imported, so that its tokenizers start no threads and print nothing about them.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.utils.logging import disable_progress_bar

from tagger.core.errors import ConfigError, ModelError
from tagger.core.types import Preprocessing
from tagger.encoders.base import fingerprint_of
from tagger.encoders.clip_checkpoint import Checkpoint, open_checkpoint, open_untrained
from tagger.encoders.clip_model import Clip
from tagger.encoders.clip_preprocessing import read_preprocessing
from tagger.encoders.clip_text import ClipText
from tagger.encoders.clip_tower import ImageTower
from tagger.encoders.open_clip import OpenClip, OpenClipCheckpoint, OpenClipText
from tagger.encoders.siglip_model import Siglip
from tagger.encoders.siglip_text import SiglipText

PROMPTS_AT_ONCE = 16


class TextTower(Protocol):
    """What encodes prompts, in fp32."""

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return each prompt's tokens, as many as the tower is given. ConfigError for a prompt longer than the model reads."""

    def __call__(self, ids: Tensor) -> Tensor:
        """Encode int64 (P, T) as float32 (P, D), not normalised."""


class ClipEncoder:
    """Encode pixels and prompts as embeddings, L2-normalised; an Encoder (encoders/base.py) with a text tower.

    The image tower is loaded in fp32 and may be replaced (`with_tower`). Prompts are always encoded in fp32: they are few, and
    every row depends on them.
    """

    source, reads_prompts = "clip", True
    backend, precision = "torch", "fp32"

    def __init__(
        self,
        tower: ImageTower,
        text: TextTower,
        *,
        logit_scale: float,
        dimension: int,
        weights: str,
        device: torch.device,
    ) -> None:
        self.preprocessing: Preprocessing = tower.preprocessing
        self.device, self.device_type = str(device), device.type
        self.dimension, self.logit_scale = dimension, logit_scale
        self.weights = self.fingerprint = weights
        self.text = text
        self.tower: Callable[[Tensor], Tensor] = tower.to(device)

    def with_tower(self, tower: Callable[[Tensor], Tensor], backend: str, precision: str, version: str = "") -> ClipEncoder:
        """Return the same encoder with another image tower; `version` tells towers of one back-end and precision apart."""
        other = copy.copy(self)
        other.tower, other.backend, other.precision = tower, backend, precision
        other.fingerprint = hashlib.sha256(f"{self.fingerprint} {backend} {precision} {version}".encode()).hexdigest()
        return other

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Encode uint8 (N, 3, H, W), on any device, as float32 (N, D) on the encoder's, L2-normalised."""
        return self.tower(pixels.to(self.device, non_blocking=True))

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Encode P prompts as float32 (P, D), L2-normalised. ConfigError for a prompt longer than the model reads.

        They are encoded PROMPTS_AT_ONCE at a time, those of about one length together, in one shape for each length: kernels
        differ with the shape, and a prompt's embedding is to be the same whatever others there are (the cache keeps it).
        """
        tokens = self.text.tokenize(prompts)
        found = torch.empty((len(prompts), self.dimension), device=self.device)
        for length in sorted(set(map(len, tokens))):
            rows = [row for row, ids in enumerate(tokens) if len(ids) == length]
            for start in range(0, len(rows), PROMPTS_AT_ONCE):
                piece = rows[start : start + PROMPTS_AT_ONCE]
                found[piece] = self._encode_tokens([tokens[row] for row in piece])
        return found

    def _encode_tokens(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """Encode up to PROMPTS_AT_ONCE prompts' tokens, all of one length, filled up to so many prompts, as float32 (P, D)."""
        filled = [*tokens, *[tokens[0]] * (PROMPTS_AT_ONCE - len(tokens))]
        return F.normalize(self.text(torch.tensor(filled, device=self.device)), dim=1)[: len(tokens)]

    def embed_words(self, text: str) -> Tensor:
        """Return the embeddings that the text tower begins with, float32 (M, W), of a text's M tokens. ConfigError: as below."""
        return self._learning_text.embed_words(text)

    def encode_with_context(self, context: Tensor, prompts: Sequence[str]) -> Tensor:
        """Encode P prompts behind learned words, as ClipText does, L2-normalised. ConfigError where no word can be learned."""
        return F.normalize(self._learning_text.encode_with_context(context, prompts), dim=1)

    @property
    def _learning_text(self) -> ClipText:
        if not isinstance(self.text, ClipText):
            raise ConfigError("learned prompts: expected CLIP's text tower, found another; choose another --method, or a CLIP")
        return self.text


class Parts(NamedTuple):
    """What an encoder is made of: the checkpoint, its model in fp32, its tokenizer, and what its pixels are to be."""

    checkpoint: Checkpoint | OpenClipCheckpoint
    model: Clip | Siglip | OpenClip
    tokenizer: Any
    preprocessing: Preprocessing

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights and of all else that embeddings depend on."""
        return fingerprint_of(self.model.state_dict(), self.preprocessing, self.checkpoint.architecture)


def load_clip(name: str, revision: str | None, device: torch.device, exact_preprocessing: bool = False) -> ClipEncoder:
    """Load a CLIP checkpoint in fp32 from a local folder or from the hub. ModelError: see load_parts."""
    return _encoder(load_parts(name, revision, exact_preprocessing), device)


def load_parts(name: str, revision: str | None, exact_preprocessing: bool = False) -> Parts:
    """Load a checkpoint of any kind, on the CPU: safetensors only, and never code that it brings.

    ModelError where that fails: no such folder, no connection to the hub, damaged or pickled weights, not a CLIP.
    """
    disable_progress_bar()
    if name.startswith((".", "/", "~")) and not Path(name).is_dir():
        raise ModelError(f"model {name}: expected a folder with a CLIP checkpoint, found none; correct --model or [model] name")
    try:
        checkpoint = open_checkpoint(name, revision)
        model = checkpoint.load()
        tokenizer = _load_tokenizer(checkpoint)
        preprocessing = replace(_read_preprocessing(checkpoint, name), exact=exact_preprocessing)
    except (ModelError, KeyboardInterrupt):
        raise
    except BaseException as error:  # damaged files make libraries raise anything at all, Rust's panics included
        raise ModelError(_describe_load_error(name, error)) from error
    # transformers invents an empty tokenizer where there are no files; a real one has a token for every byte.
    if isinstance(checkpoint, Checkpoint) and len(tokenizer) < 256:
        raise ModelError(f"model {name}: expected a tokenizer (tokenizer.json), found {len(tokenizer)} tokens; get it again")
    weights = model.state_dict()
    if not all(bool(weight.isfinite().all()) for weight in (*weights.values(), model.logit_scale.exp())):
        raise ModelError(f"model {name}: expected finite weights, found NaN or infinity; get it again")
    return Parts(checkpoint, model, tokenizer, preprocessing)


def load_untrained(config: Path, seed: int) -> Parts:
    """Return a CLIP of random weights, with the tokenizer and the preprocessing beside its config.json. ModelError."""
    try:
        checkpoint = open_untrained(config)
        model = checkpoint.random(seed)
        return Parts(checkpoint, model, _load_tokenizer(checkpoint), _read_preprocessing(checkpoint, str(config)))
    except (ModelError, KeyboardInterrupt):
        raise
    except BaseException as error:  # as above
        raise ModelError(
            f"--init {config}: expected a config.json of a CLIP, and its tokenizer and preprocessor_config.json beside it, "
            f"found: {first_line(error)}; correct them"
        ) from error


def _read_preprocessing(checkpoint: Checkpoint | OpenClipCheckpoint, name: str) -> Preprocessing:
    if isinstance(checkpoint, OpenClipCheckpoint):
        return checkpoint.preprocessing
    preprocessing, config = read_preprocessing(checkpoint.folder, name, checkpoint.kind), cast(Any, checkpoint.config)
    side = config.vision_config.image_size
    if preprocessing.size != (side, side):
        raise ModelError(
            f"model {name}: expected an image processor that gives {side} x {side} pixels, as its config.json says, found "
            f"{preprocessing.size}; correct its preprocessor_config.json"
        )
    return preprocessing


def _load_tokenizer(checkpoint: Checkpoint | OpenClipCheckpoint) -> Any:
    """Return the tokenizer of a checkpoint; never code that it brings."""
    if isinstance(checkpoint, OpenClipCheckpoint):
        return checkpoint.tokenizer()
    if checkpoint.kind != "clip":
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True, trust_remote_code=False)
    from transformers import CLIPTokenizer

    # Named here, because transformers 5.3 would rather want the file that a tokenizer_config.json may name.
    file = checkpoint.folder / "tokenizer.json"
    named = {"tokenizer_file": str(file)} if file.exists() else {}
    return CLIPTokenizer.from_pretrained(checkpoint.folder, local_files_only=True, **named)


def _encoder(parts: Parts, device: torch.device) -> ClipEncoder:
    model, checkpoint = parts.model, parts.checkpoint
    model.eval().requires_grad_(False)
    scale, weights = float(model.logit_scale.exp()), parts.fingerprint
    model.to(device)
    text: TextTower
    config: Any = checkpoint.config
    if isinstance(checkpoint, OpenClipCheckpoint):
        text, dimension = OpenClipText(cast(OpenClip, model), checkpoint.longest, parts.tokenizer), checkpoint.dimension
    elif isinstance(model, Siglip):
        text = SiglipText(model, config.text_config.max_position_embeddings, parts.tokenizer)
        dimension = config.vision_config.hidden_size
    else:
        text, dimension = clip_text(parts), config.projection_dim
    tower = ImageTower(model.vision_model, model.visual_projection, parts.preprocessing, torch.float32)
    return ClipEncoder(tower, text, logit_scale=scale, dimension=dimension, weights=weights, device=device)


def clip_text(parts: Parts) -> ClipText:
    """Return the text tower of a CLIP or MetaCLIP 2."""
    longest = cast(Any, parts.checkpoint.config).text_config.max_position_embeddings
    return ClipText(cast(Clip, parts.model), longest, lambda prompts: parts.tokenizer(list(prompts))["input_ids"])


def _describe_load_error(name: str, error: BaseException) -> str:
    reason = first_line(error)
    if "connect to" in reason:
        return (
            f"model {name}: expected it in the local cache or on the hub, found no connection; download it where there is "
            "one, or name a local folder with --model or [model] name"
        )
    return (
        f"model {name}: expected a CLIP checkpoint in transformers' format with safetensors weights, found: "
        f"{reason}; get it again, or name another with --model or [model] name"
    )
