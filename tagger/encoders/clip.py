"""CLIP's image tower as an encoder, and its text tower for the prompts (Radford et al. 2021), through transformers."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Before transformers is imported: no messages for people who did not call it, and tokenizers without threads.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer, PreTrainedConfig
from transformers.utils.logging import disable_progress_bar

from tagger.errors import ConfigError, ModelError
from tagger.types import Preprocessing

DTYPES = {"auto": torch.float32, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
RESAMPLES = (0, 2, 3)  # Pillow's numbers; images/decode.py has no others


class ClipEncoder:
    """pixels -> embeddings. `fingerprint` is the SHA-256 of weights, preprocessing and precision."""

    source = "clip"

    def __init__(self, model: CLIPModel, tokenizer: CLIPTokenizer, preprocessing: Preprocessing, device: torch.device) -> None:
        model.eval().requires_grad_(False)
        self.preprocessing = preprocessing
        self.device = device
        self.logit_scale = float(model.logit_scale.exp())
        self.fingerprint = _fingerprint(model, preprocessing)
        self._model = model.to(device)
        self._tokenizer = tokenizer
        scale = [value / preprocessing.rescale for value in (*preprocessing.mean, *preprocessing.std)]
        self._mean = torch.tensor(scale[:3], device=device)[:, None, None]
        self._std = torch.tensor(scale[3:], device=device)[:, None, None]

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """uint8 (N, 3, H, W), on any device -> float32 (N, D) on the encoder's, L2-normalised."""
        images = (pixels.to(self.device, non_blocking=True).float() - self._mean) / self._std
        pooled = self._model.vision_model(pixel_values=images.to(self._model.dtype)).pooler_output
        return F.normalize(self._model.visual_projection(pooled).float(), dim=1)

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """float32 (number of prompts, D), L2-normalised. ConfigError for a prompt longer than the model reads."""
        limit = self._model.config.text_config.max_position_embeddings
        tokens = self._tokenizer(list(prompts), padding=True, return_tensors="pt")
        lengths = tokens["attention_mask"].sum(1).tolist()
        for prompt, length in zip(prompts, lengths, strict=True):
            if length > limit:
                raise ConfigError(
                    f"prompt {prompt!r}: expected at most {limit} tokens, which the model reads, found {length}; shorten it"
                )
        pooled = self._model.text_model(**tokens.to(self.device)).pooler_output
        return F.normalize(self._model.text_projection(pooled).float(), dim=1)


def load_clip(name: str, revision: str | None, device: torch.device, precision: str) -> ClipEncoder:
    """Load a CLIP checkpoint from a local folder or from the hub: safetensors only, and no code of its own ever runs.

    ModelError when it cannot be had: no such folder, hub out of reach, damaged or pickled weights, not a CLIP.
    """
    for library in ("transformers", "huggingface_hub"):  # they log what the one line of a ModelError says better
        logging.getLogger(library).setLevel(logging.CRITICAL)
    disable_progress_bar()
    if name.startswith((".", "/", "~")) and not Path(name).is_dir():
        raise ModelError(f"model {name}: expected a folder with a CLIP checkpoint, found none; correct --model or [model] name")
    common: dict[str, Any] = {"revision": revision or "main"}
    try:
        kind = PreTrainedConfig.get_config_dict(name, **common)[0].get("model_type")
        if kind != "clip":
            found = "no config.json" if kind is None else f"a {kind}"
            raise ModelError(f"model {name}: expected a CLIP checkpoint in transformers' format, found {found}; name another")
        model, loaded = CLIPModel.from_pretrained(
            name, **common, use_safetensors=True, dtype=DTYPES[precision], output_loading_info=True
        )
        tokenizer = CLIPTokenizer.from_pretrained(name, **common)
        preprocessing = read_preprocessing(CLIPImageProcessor.from_pretrained(name, **common), name)
    # What transformers raises for a file that is absent, of another kind, damaged or of the wrong shape.
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise ModelError(_explain(name, error)) from error
    # transformers makes up an empty tokenizer where the files lack one; a real one has a token for every byte.
    if len(tokenizer) < 256:
        raise ModelError(f"model {name}: expected a tokenizer (tokenizer.json), found {len(tokenizer)} tokens; get it again")
    # transformers would go on with random values for weights that the file lacks.
    if lacking := sorted(loaded["missing_keys"]):
        raise ModelError(
            f"model {name}: expected all weights of a CLIP, found {len(lacking)} missing ({lacking[0]} …); get it again"
        )
    if not all(bool(weight.isfinite().all()) for weight in model.state_dict().values() if weight.is_floating_point()):
        raise ModelError(f"model {name}: expected finite weights, found NaN or infinity; get it again")
    return ClipEncoder(model, tokenizer, preprocessing, device)


def read_preprocessing(processor: CLIPImageProcessor, name: str) -> Preprocessing:
    """The checkpoint's own preprocessing; ModelError for one that cannot give batches of one shape."""
    size = processor.size
    shortest, height, width = size.get("shortest_edge"), size.get("height"), size.get("width")
    resize = shortest or (height, width)
    steps = (processor.do_resize, processor.do_rescale, processor.do_normalize)
    if not all(steps) or (not shortest and not (height and width)) or (shortest and not processor.do_center_crop):
        raise ModelError(
            f"model {name}: expected an image processor that resizes, crops to one size, rescales and normalises, found "
            f"size {dict(size)} with do_resize, do_rescale, do_normalize = {steps}; correct its preprocessor_config.json"
        )
    if processor.resample not in RESAMPLES:
        raise ModelError(
            f"model {name}: expected an image processor that resamples nearest (0), bilinear (2) or bicubic (3), found "
            f"{processor.resample}; correct its preprocessor_config.json"
        )
    crop = processor.crop_size if processor.do_center_crop else None
    return Preprocessing(
        resize=resize,
        crop=crop and (crop["height"], crop["width"]),
        resample=int(processor.resample),
        rescale=processor.rescale_factor,
        mean=tuple(processor.image_mean),
        std=tuple(processor.image_std),
    )


def _fingerprint(model: CLIPModel, preprocessing: Preprocessing) -> str:
    digest = hashlib.sha256(repr(preprocessing).encode())
    for key, weight in sorted(model.state_dict().items()):
        digest.update(f"{key} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _explain(name: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "connect to" in reason:
        return (
            f"model {name}: expected it in the local cache or on the hub, found no connection; download it where there is "
            "one, or name a local folder with --model or [model] name"
        )
    return (
        f"model {name}: expected a CLIP checkpoint in transformers' format with safetensors weights, found: "
        f"{reason.rstrip('.')}; get it again, or name another with --model or [model] name"
    )
