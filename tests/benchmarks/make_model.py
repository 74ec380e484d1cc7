"""A checkpoint of CLIP ViT-B/32's full size with random weights of a fixed seed: for speed, trained ones are not needed.

python tests/benchmarks/make_model.py FOLDER
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

SAMPLE = Path(__file__).parents[2] / "sample_catalog" / "model"


def make(folder: Path) -> Path:
    """Write it, with the sample's tokenizer; does nothing where it is."""
    if (folder / "model.safetensors").exists():
        return folder
    torch.manual_seed(0)
    CLIPModel(CLIPConfig()).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SAMPLE / name, folder / name)
    return folder


if __name__ == "__main__":
    make(Path(sys.argv[1]))
