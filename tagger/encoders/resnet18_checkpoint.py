"""What a checkpoint that `tagger train` wrote says of itself, read without loading it.

One safetensors file: the weights of torchvision's ResNet18, and in its metadata, under "tagger", the JSON of `Trained`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open

from tagger.core.errors import ModelError
from tagger.core.frozen import Frozen
from tagger.core.types import Preprocessing

SUFFIX = ".safetensors"
METADATA_KEY = "tagger"


class Ensemble(Frozen):
    """How its probabilities are averaged with CLIP's, as chosen on validation rows.

    weight: of this model; CLIP has the rest. temperatures: of CLIP and of this model, before they are averaged. clip, prompts:
    what CLIP that was, and what it was asked.
    """

    weight: float = Field(ge=0, le=1)
    clip_temperature: float = Field(gt=0)
    temperature: float = Field(gt=0)
    clip: str
    prompts: str
    rows: int


class Trained(Frozen):
    """labels: in the order of the last layer's outputs. manifest: SHA-256 of the one it was trained on."""

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


def is_trained(name: str) -> bool:
    """Whether a model's name is that of a file such as these, and not of a CLIP: a folder or a hub id."""
    return name.endswith(SUFFIX) and not Path(name).is_dir()


def read_trained(path: str) -> Trained:
    """ModelError where there is no such file, or another kind of file."""
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
        return Trained.model_validate_json(metadata[METADATA_KEY])
    except (SafetensorError, OSError) as error:
        raise ModelError(f"model {path}: expected a whole safetensors file, found: {error}; train it again") from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise ModelError(
            f"model {path}: expected the description of a checkpoint of this version, found {where}: {problem['msg']}; train it "
            "again"
        ) from error
