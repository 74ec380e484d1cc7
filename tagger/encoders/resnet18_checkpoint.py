"""The description in a checkpoint that `tagger train` wrote, read without loading the weights.

One safetensors file: the weights of torchvision's ResNet18, and in its metadata, under "tagger", a
`ResNet18Description` as JSON.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open

from tagger.core.errors import ModelError
from tagger.core.frozen import Frozen
from tagger.core.text import first_line
from tagger.core.types import Preprocessing

METADATA_KEY = "tagger"


class Ensemble(Frozen):
    """Say how its probabilities are averaged with CLIP's, as chosen on validation rows.

    weight: this model's share; CLIP has the rest. clip_temperature, temperature: those of CLIP and of this model, applied before
    averaging. clip, prompts: the hashes of CLIP's weights and of the attribute's prompts. rows: how many it was chosen on.
    """

    weight: float = Field(ge=0, le=1)
    clip_temperature: float = Field(gt=0)
    temperature: float = Field(gt=0)
    clip: str
    prompts: str
    rows: int


class ResNet18Description(Frozen):
    """Describe a trained ResNet18. labels: in the order of its outputs. manifest: SHA-256 of the manifest it was trained on."""

    schema_version: Literal[1] = 1
    architecture: Literal["resnet18"] = "resnet18"
    attribute: str
    labels: tuple[str, ...] = Field(min_length=2)
    preprocessing: Preprocessing
    recipe: dict[str, Any]
    metrics: dict[str, Any]
    manifest: str
    versions: dict[str, str]
    ensemble: Ensemble | None = None


def read_description(path: str) -> ResNet18Description:
    """Read a checkpoint's description; ModelError where there is no such file, or another kind of file."""
    if not Path(path).is_file():
        raise ModelError(
            f"model {path}: expected a checkpoint of `tagger train`, found no such file; train one, or correct the path"
        )
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
        if METADATA_KEY not in metadata:
            raise ModelError(
                f"model {path}: expected a checkpoint of `tagger train`, found other weights; train one from them (--init)"
            )
        return ResNet18Description.model_validate_json(metadata[METADATA_KEY])
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"model {path}: expected a whole safetensors file, found: {first_line(error)}; train it again"
        ) from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise ModelError(
            f"model {path}: expected the description of a checkpoint of this version, found {where}: {problem['msg']}; train it "
            "again"
        ) from error
