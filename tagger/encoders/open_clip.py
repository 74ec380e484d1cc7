"""A checkpoint of open_clip: FashionSigLIP, PE-Core and MobileCLIP2 are published in this format (extra `open-clip`).

It is two files, a configuration and safetensors weights, beside those of a tokenizer. The configuration may name models that
open_clip would fetch, and arguments of their classes: what would fetch anything, or run code that comes with it, is refused.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from torch import Tensor, nn

from tagger.core.errors import ModelError
from tagger.core.types import Preprocessing
from tagger.encoders.clip_files import OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS, read_json
from tagger.encoders.clip_text import check_tokens

RESAMPLING = {"bilinear": 2, "bicubic": 3}  # Pillow's numbers
TOO_LONG = 64  # tokens by which a prompt is looked at beyond what the model reads

Triple = tuple[float, float, float]


class _Values(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)


class _Text(_Values, extra="allow"):
    context_length: int = Field(default=77, gt=0)
    hf_tokenizer_name: str | None = None
    tokenizer_kwargs: dict[Literal["clean", "strip_sep_token"], Any] = {}
    tokenizer_mode: None = None  # another order of tokens, which is not tested here
    hf_model_name: None = None  # of the hub, with code of its own


class _Vision(_Values, extra="allow"):
    timm_model_name: str | None = Field(default=None, pattern=r"^\w[\w.]*$")  # one of timm's own, not a place to fetch it from
    timm_model_pretrained: Literal[False] = False


class _Model(_Values, extra="allow"):
    embed_dim: int = Field(gt=0)
    text_cfg: _Text
    vision_cfg: _Vision
    multimodal_cfg: None = None


class _Preprocess(_Values):
    size: tuple[int, int]
    mean: Triple = (0.48145466, 0.4578275, 0.40821073)
    std: Triple = (0.26862954, 0.26130258, 0.27577711)
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    resize_mode: Literal["shortest", "squash"] = "shortest"
    mode: Literal["RGB"] = "RGB"

    @field_validator("size", mode="before")
    @classmethod
    def _height_and_width(cls, size: Any) -> Any:
        return (size, size) if isinstance(size, int) else size


class _Config(_Values):
    # Named otherwise, as pydantic keeps names that begin with model_ for itself.
    architecture: _Model = Field(alias="model_cfg")
    preprocess: dict[str, Any] = Field(default={}, alias="preprocess_cfg")


class OpenClip(nn.Module):
    """open_clip's model, with the parts that an encoder is made of by the names of Clip."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.visual_projection = nn.Identity()  # the image tower has it

    @property
    def vision_model(self) -> nn.Module:
        found: nn.Module = self.model.visual
        return found

    @property
    def logit_scale(self) -> Tensor:
        found: Tensor = self.model.logit_scale
        return found


@dataclass(frozen=True)
class OpenClipCheckpoint:
    """A checked folder and what its configuration says. ModelError of `open_open_clip`."""

    folder: Path
    config: Mapping[str, Any]
    preprocessing: Preprocessing
    dimension: int
    longest: int
    has_tokenizer: bool

    @property
    def architecture(self) -> str:
        """What embeddings depend on beside the weights, as one text."""
        return json.dumps(self.config, sort_keys=True)

    def shell(self) -> OpenClip:
        """Return the model without its weights: shapes that take no memory."""
        with torch.device("meta"):
            return self._create("meta", load_weights=False)

    def load(self) -> OpenClip:
        """Return the model, in fp32. ValueError where it makes something else of its pixels than the configuration says."""
        from timm.layers.attention_pool import AttentionPoolLatent

        model = self._create("cpu", load_weights=True).eval()
        for module in model.modules():
            if isinstance(module, AttentionPoolLatent):
                module.fused_attn = False  # of one query an image: the last bits would depend on its place in the batch
        with torch.inference_mode():
            found = model.vision_model(torch.zeros(1, 3, *self.preprocessing.size))
        if found.shape != (1, self.dimension):
            raise ValueError(f"embeddings of the shape {tuple(found.shape[1:])} instead of ({self.dimension},)")
        return model

    def _create(self, device: str, load_weights: bool) -> OpenClip:
        import open_clip

        with _quietly():
            return OpenClip(open_clip.create_model(f"local-dir:{self.folder}", device=device, load_weights=load_weights))

    def tokenizer(self) -> Any:
        """Return open_clip's tokenizer: of the folder's own files, or CLIP's where the configuration names none."""
        import open_clip

        with _quietly():
            own = {"trust_remote_code": False} if self.has_tokenizer else {}
            return open_clip.get_tokenizer(f"local-dir:{self.folder}", **own)


class OpenClipText:
    """A TextTower (encoders/clip.py)."""

    def __init__(self, model: OpenClip, longest: int, tokenizer: Any) -> None:
        self._model, self._longest, self._tokenizer = model.model, longest, tokenizer

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return each prompt's tokens, filled up to what the model reads. ConfigError for a longer one."""
        filling = self._tokenizer([""], context_length=self._longest)[0, -1]
        # open_clip would cut a prompt off without a word.
        tokens: Tensor = self._tokenizer(list(prompts), context_length=self._longest + TOO_LONG)
        lengths = self._longest + (tokens[:, self._longest :] != filling).sum(1)
        found = [ids[:length].tolist() for ids, length in zip(tokens, lengths.tolist(), strict=True)]
        embedding = getattr(self._model, "text", self._model).token_embedding
        check_tokens(prompts, found, embedding.num_embeddings, self._longest)
        return found

    def __call__(self, ids: Tensor) -> Tensor:
        output: Tensor = self._model.encode_text(ids)
        return output


def open_open_clip(folder: Path, name: str) -> OpenClipCheckpoint:
    """Check a folder of open_clip's format, without loading its weights. ModelError, ValueError for a file that is no JSON."""
    if find_spec("open_clip") is None:
        raise ModelError(
            f"model {name}: expected open_clip, to read this checkpoint, found none; pip install 'tagger[open-clip]'"
        )
    if not (folder / OPEN_CLIP_WEIGHTS).is_file():
        raise ModelError(
            f"model {name}: expected safetensors weights, found no {OPEN_CLIP_WEIGHTS}; get it again, or name another"
        )
    content = read_json(folder / OPEN_CLIP_CONFIG)
    try:
        config = _Config.model_validate(content)
        vision = (config.architecture.vision_cfg.model_extra or {}).get("image_size", 224)
        pixels = _Preprocess.model_validate({"size": vision, **config.preprocess})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ModelError(
            f"model {name}: expected a configuration that fetches nothing and that tagger can give pixels to, found {where} = "
            f"{first['input']!r:.60} ({first['msg']}); name another"
        ) from error
    height, width = pixels.size
    squash = pixels.resize_mode == "squash"
    text = config.architecture.text_cfg
    if text.hf_tokenizer_name and not (folder / "tokenizer_config.json").is_file():
        raise ModelError(f"model {name}: expected a tokenizer (tokenizer_config.json), found none; get it again")
    return OpenClipCheckpoint(
        folder,
        content["model_cfg"],
        Preprocessing(
            resize=(height, width) if squash else min(height, width),
            crop=None if squash else (height, width),
            resample=RESAMPLING[pixels.interpolation],
            rescale=1 / 255,
            mean=pixels.mean,
            std=pixels.std,
        ),
        config.architecture.embed_dim,
        text.context_length,
        bool(text.hf_tokenizer_name),
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep what open_clip logs to itself: it uses the root logger, which would get a handler by that."""
    root, nothing = logging.getLogger(), logging.NullHandler()
    level = root.level
    root.addHandler(nothing)
    root.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeHandler(nothing)
        root.setLevel(level)
