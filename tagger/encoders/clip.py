"""CLIP's image tower as an encoder, and its text tower for the prompts (Radford et al. 2021)."""

from __future__ import annotations

import copy
import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tagger.core.text import first_line

# Before transformers is imported, so that its tokenizers start no threads and print nothing about them.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPTokenizer
from transformers.utils.logging import disable_progress_bar

from tagger.core.errors import ConfigError, ModelError
from tagger.core.types import Preprocessing
from tagger.encoders.base import fingerprint_of
from tagger.encoders.clip_checkpoint import open_checkpoint
from tagger.encoders.clip_model import Clip
from tagger.encoders.clip_preprocessing import read_preprocessing
from tagger.encoders.clip_tower import ImageTower

PROMPTS_AT_ONCE = 16
PROMPT_STEP = 16  # of the lengths, in tokens, that prompts are filled up to


class ClipEncoder:
    """Encode pixels and prompts as embeddings, L2-normalised; an Encoder (encoders/base.py) with a text tower.

    The image tower is loaded in fp32 and may be replaced (`with_tower`). Prompts are always encoded in fp32: they are few, and
    every row depends on them.
    """

    source, reads_prompts = "clip", True
    backend, precision = "torch", "fp32"

    def __init__(
        self, model: Clip, config: CLIPConfig, tokenizer: CLIPTokenizer, preprocessing: Preprocessing, device: torch.device
    ) -> None:
        model.eval().requires_grad_(False)
        self.preprocessing = preprocessing
        self.device, self.device_type = str(device), device.type
        self.dimension = int(config.projection_dim)
        self.logit_scale = float(model.logit_scale.exp())
        self.weights = self.fingerprint = fingerprint_of(model.state_dict(), preprocessing)
        model.to(device)
        self._text_model, self._text_projection = model.text_model, model.text_projection
        self._text_config = config.text_config
        self._tokenizer = tokenizer
        self.tower: Callable[[Tensor], Tensor] = ImageTower(
            model.vision_model, model.visual_projection, preprocessing, torch.float32
        ).to(device)

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
        tokens = self._tokenize(prompts)
        found = torch.empty((len(prompts), self.dimension), device=self.device)
        longest = self._text_config.max_position_embeddings
        lengths = [min(-(-len(ids) // PROMPT_STEP) * PROMPT_STEP, longest) for ids in tokens]
        for length in sorted(set(lengths)):
            rows = [row for row, own in enumerate(lengths) if own == length]
            for start in range(0, len(rows), PROMPTS_AT_ONCE):
                piece = rows[start : start + PROMPTS_AT_ONCE]
                found[piece] = self._encode_tokens([tokens[row] for row in piece], length)
        return found

    def _encode_tokens(self, tokens: Sequence[Sequence[int]], length: int) -> Tensor:
        """Encode up to PROMPTS_AT_ONCE prompts' tokens, filled up to so many and to `length`, as float32 (P, D)."""
        filled = [*tokens, *[tokens[0]] * (PROMPTS_AT_ONCE - len(tokens))]
        return self._embed(_to_tensor(filled, length).to(self.device))[: len(tokens)]

    def _embed(self, ids: Tensor, context: Tensor | None = None) -> Tensor:
        return F.normalize(self._text_projection(self._text_model(ids, context)), dim=1)

    @torch.no_grad()
    def embed_words(self, text: str) -> Tensor:
        """Return the embeddings that the text tower begins with, float32 (M, W), of a text's M tokens."""
        ids = torch.tensor(self._tokenize([text])[0][1:-1], device=self.device)
        words: Tensor = self._text_model.embeddings.token_embedding(ids)
        return words

    def encode_with_context(self, context: Tensor, prompts: Sequence[str]) -> Tensor:
        """Encode P prompts that learned words stand before, as float32 (P, D), L2-normalised, with gradients for `context`.

        context: float32 (M, W), between the start token and the prompt's words, as the embeddings of M tokens would be (CoOp:
        Zhou et al. 2022, section 3.2). ConfigError for a prompt that is longer with it than the model reads.
        """
        size = len(context)
        # The start token, once more for each vector, holds their places.
        tokens = [[ids[0]] * size + list(ids) for ids in self._tokenize(prompts, size)]
        return self._embed(_to_tensor(tokens, max(map(len, tokens))).to(self.device), context)

    def _tokenize(self, prompts: Sequence[str], context: int = 0) -> list[list[int]]:
        """Return each prompt's tokens; ConfigError where one and `context` more are too many."""
        limit, known = self._text_config.max_position_embeddings - context, self._text_config.vocab_size
        tokens: list[list[int]] = self._tokenizer(list(prompts))["input_ids"]
        for prompt, ids in zip(prompts, tokens, strict=True):
            if max(ids) >= known:
                raise ModelError(f"expected a tokenizer with the model's {known} tokens, found more; get the model again")
            if len(ids) > limit:
                read = f"reads behind {context} learned ones" if context else "reads"
                raise ConfigError(
                    f"prompt {prompt!r}: expected at most {limit} tokens, which the model {read}, found {len(ids)}; shorten it"
                )
        return tokens


def load_clip(name: str, revision: str | None, device: torch.device, exact_preprocessing: bool = False) -> ClipEncoder:
    """Load a CLIP checkpoint in fp32 from a local folder or from the hub: safetensors only, and never code that it brings.

    ModelError where that fails: no such folder, no connection to the hub, damaged or pickled weights, not a CLIP.
    """
    for library in ("transformers", "huggingface_hub"):  # the one line of a ModelError says it better
        logging.getLogger(library).setLevel(logging.CRITICAL)
    disable_progress_bar()
    if name.startswith((".", "/", "~")) and not Path(name).is_dir():
        raise ModelError(f"model {name}: expected a folder with a CLIP checkpoint, found none; correct --model or [model] name")
    try:
        checkpoint = open_checkpoint(name, revision)
        model = checkpoint.load()
        # Named here, because transformers 5.3 would rather want the file that a tokenizer_config.json may name.
        file = checkpoint.folder / "tokenizer.json"
        named = {"tokenizer_file": str(file)} if file.exists() else {}
        tokenizer = CLIPTokenizer.from_pretrained(checkpoint.folder, local_files_only=True, **named)
        preprocessing = replace(read_preprocessing(checkpoint.folder, name), exact=exact_preprocessing)
    except (ModelError, KeyboardInterrupt):
        raise
    except BaseException as error:  # damaged files make libraries raise anything at all, Rust's panics included
        raise ModelError(_describe_load_error(name, error)) from error
    side = checkpoint.config.vision_config.image_size
    if preprocessing.size != (side, side):
        raise ModelError(
            f"model {name}: expected an image processor that gives {side} x {side} pixels, as its config.json says, found "
            f"{preprocessing.size}; correct its preprocessor_config.json"
        )
    # transformers invents an empty tokenizer where there are no files; a real one has a token for every byte.
    if len(tokenizer) < 256:
        raise ModelError(f"model {name}: expected a tokenizer (tokenizer.json), found {len(tokenizer)} tokens; get it again")
    weights = model.state_dict()
    if not all(bool(weight.isfinite().all()) for weight in (*weights.values(), model.logit_scale.exp())):
        raise ModelError(f"model {name}: expected finite weights, found NaN or infinity; get it again")
    return ClipEncoder(model, checkpoint.config, tokenizer, preprocessing, device)


def _to_tensor(tokens: Sequence[Sequence[int]], length: int) -> Tensor:
    """Return int64 (P, length), filled up with each prompt's end token, of which the text tower takes the first."""
    return torch.tensor([[*ids, *[ids[-1]] * (length - len(ids))] for ids in tokens])


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
