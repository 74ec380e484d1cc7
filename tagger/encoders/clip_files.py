"""The files of a CLIP checkpoint: which are fetched and pinned, and which a library might read. Imports nothing heavy."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from huggingface_hub import constants

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
WEIGHT_PARTS = "model-*-of-*.safetensors"
TEXTS = (
    *(CONFIG, "preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json"),
)
PATTERNS = [*TEXTS, WEIGHTS, INDEX, WEIGHT_PARTS]  # of every file that a CLIP may consist of
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
    return "/" not in name and any(fnmatchcase(name, pattern) for pattern in PATTERNS)


def select_files(names: Collection[str]) -> set[str]:
    """Return the files of a repository that a run reads: the texts, and the weights in one file or else in parts."""
    in_parts = WEIGHTS not in names
    return {name for name in names if is_clip_file(name) and (name in TEXTS or name == WEIGHTS or in_parts)}


def readable_files(folder: Path) -> list[Path]:
    """Return the files in a folder that a library which loads it might read, whether or not a CLIP consists of them."""
    paths = (*folder.iterdir(), *folder.glob("additional_chat_templates/*"))
    return sorted(path for path in paths if path.suffix in (".json", ".txt", ".jinja", ".safetensors"))


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; ValueError, with the file's name, where there is none."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name}: {str(content)[:40]} instead of an object")
    return content
