"""What a checkpoint wants its images to be: the JSON of transformers' image processor, read without importing that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tagger.core.errors import ModelError
from tagger.core.types import Preprocessing
from tagger.encoders.clip_files import read_json

FILE, OLDER_FILE = "processor_config.json", "preprocessor_config.json"

Side = Annotated[int, Field(gt=0)]  # pixels
Positive = Annotated[float, Field(gt=0)]


class _Values(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Size(_Values, extra="forbid"):
    height: Side
    width: Side

    @model_validator(mode="before")
    @classmethod
    def _square(cls, value: Any) -> Any:
        return {"height": value, "width": value} if isinstance(value, int) else value  # as older files have it


class _ShortestEdge(_Values, extra="forbid"):
    shortest_edge: Side


class _ImageProcessor(_Values):
    """The values that decide on pixels; what is not there is as transformers' CLIPImageProcessor has it."""

    do_resize: Literal[True] = True
    do_center_crop: bool = True
    do_rescale: Literal[True] = True
    do_normalize: Literal[True] = True
    size: Side | _ShortestEdge | _Size = 224
    crop_size: _Size | None = _Size(height=224, width=224)
    resample: Literal[0, 2, 3] = 3  # Pillow's numbers of the filters that images/decode.py has
    rescale_factor: Positive = 1 / 255
    image_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    image_std: tuple[Positive, Positive, Positive] = (0.26862954, 0.26130258, 0.27577711)

    @property
    def resize(self) -> int | tuple[int, int]:
        """The short side, or (height, width)."""
        if isinstance(self.size, _Size):
            return self.size.height, self.size.width
        return self.size.shortest_edge if isinstance(self.size, _ShortestEdge) else self.size

    @property
    def crop(self) -> tuple[int, int] | None:
        """The height and width from the centre."""
        return (self.crop_size.height, self.crop_size.width) if self.do_center_crop and self.crop_size else None

    def to_preprocessing(self) -> Preprocessing:
        """Return the same as a Preprocessing."""
        return Preprocessing(
            resize=self.resize,
            crop=self.crop,
            resample=self.resample,
            rescale=self.rescale_factor,
            mean=self.image_mean,
            std=self.image_std,
        )


class _SiglipImageProcessor(_ImageProcessor):
    """As above, with what transformers' SiglipImageProcessor has where nothing is said."""

    do_center_crop: bool = False
    size: Side | _ShortestEdge | _Size = _Size(height=224, width=224)
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_std: tuple[Positive, Positive, Positive] = (0.5, 0.5, 0.5)


CLIP_PREPROCESSING = _ImageProcessor().to_preprocessing()  # ViT-B/32's


def read_preprocessing(folder: Path, name: str, kind: str = "clip") -> Preprocessing:
    """Return the preprocessing of the checkpoint in a folder; ModelError for one that cannot give batches of one shape.

    kind: whose values count where the checkpoint's image processor has none, and does not say of which kind it is.
    Newer checkpoints have it in a part of processor_config.json, which decides where both files are there. ValueError where
    there is none, OSError for files that cannot be read.
    """
    content = _find(folder)
    of_siglip = str(content.get("image_processor_type", kind)).lower().startswith("siglip")
    try:
        # From JSON, as only there a list may be a tuple where all else is strict.
        found = (_SiglipImageProcessor if of_siglip else _ImageProcessor).model_validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise _refusal(name, f"{key} = {content[key]!r:.60} ({first['msg']})") from error
    if (found.crop is not None) != found.do_center_crop or (found.crop is None and isinstance(found.resize, int)):
        raise _refusal(name, f"do_center_crop = {found.do_center_crop}, size = {found.resize}, crop_size = {found.crop}")
    return found.to_preprocessing()


def _find(folder: Path) -> dict[str, Any]:
    if (folder / FILE).exists() and (content := read_json(folder / FILE).get("image_processor")) is not None:
        return dict(content)
    if not (folder / OLDER_FILE).exists():
        raise ValueError(f"no image_processor in {FILE}, and no {OLDER_FILE}")
    return read_json(folder / OLDER_FILE)


def _refusal(name: str, found: str) -> ModelError:
    return ModelError(
        f"model {name}: expected an image processor that resizes, crops to one size, rescales and normalises, with the filter "
        f"nearest (0), bilinear (2) or bicubic (3), found {found}; correct its {OLDER_FILE}"
    )
