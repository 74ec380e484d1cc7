"""The files of a CLIP checkpoint: which are fetched and pinned, and which a library might read. Imports nothing heavy."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from huggingface_hub import constants

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
WEIGHT_PARTS = "model-*-of-*.safetensors"
OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
TEXTS = (
    *(CONFIG, "preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json", "spiece.model", "sentencepiece.bpe.model"),
)
PATTERNS = [*TEXTS, WEIGHTS, INDEX, WEIGHT_PARTS]  # of every file that a CLIP in transformers' format may consist of
OPEN_CLIP_PATTERNS = [*TEXTS, OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS]  # of one in open_clip's
KINDS = ("clip", "metaclip_2", "siglip")  # values of model_type in a config.json
INT8 = "int8"  # the folder, in a checkpoint's and in the cache's, of int8 models that were made of checkpoints
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".distcp")


def find_checkpoint(name: str, revision: str | None) -> Path | None:
    """Return the folder of a checkpoint that is known without asking the hub: a local one, or a commit in the hub's cache."""
    if Path(name).is_dir():
        return Path(name)
    if revision is None or not re.fullmatch("[0-9a-f]{40}", revision):
        return None
    folder = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "snapshots" / revision
    return folder if folder.is_dir() else None


def is_clip_file(name: str) -> bool:
    """Return whether a CLIP may consist of a file of this name, below the repository's or the folder's root."""
    return "/" not in name and any(fnmatchcase(name, pattern) for pattern in (*PATTERNS, *OPEN_CLIP_PATTERNS))


def is_known(config: Mapping[str, Any]) -> bool:
    """Return whether a config.json is one of transformers' format whose model is computed here, without code that it brings."""
    return config.get("model_type") in KINDS and "auto_map" not in config


def is_open_clip(folder: Path) -> bool:
    """Return whether what is read in a folder is a checkpoint of open_clip; ValueError for a config.json that is no JSON."""
    if not (folder / OPEN_CLIP_CONFIG).exists():
        return False
    return not ((folder / CONFIG).exists() and is_known(read_json(folder / CONFIG)))


def select_files(names: Collection[str], open_clip: bool = False) -> set[str]:
    """Return the files of a repository that a run reads: the texts, and the weights in one file or else in parts.

    open_clip: whether its checkpoint of open_clip is wanted, if it has one.
    """
    if open_clip and OPEN_CLIP_WEIGHTS in names:
        return set(OPEN_CLIP_PATTERNS) & set(names)
    weights = (WEIGHTS,) if WEIGHTS in names else (INDEX, WEIGHT_PARTS)
    return {name for name in names if any(fnmatchcase(name, pattern) for pattern in (*TEXTS, *weights))}


def readable_files(folder: Path) -> list[Path]:
    """Return the files in a folder that a library which loads it might read, whether or not a CLIP consists of them."""
    paths = (*folder.iterdir(), *folder.glob("additional_chat_templates/*"))
    return sorted(path for path in paths if path.suffix in (".json", ".txt", ".jinja", ".model", ".safetensors"))


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; ValueError, with the file's name, where there is none."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name}: {str(content)[:40]} instead of an object")
    return content
