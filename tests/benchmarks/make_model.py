"""Make a checkpoint of CLIP ViT-B/32's full size with random weights of a fixed seed: speed does not need trained ones.

python tests/benchmarks/make_model.py FOLDER
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

SAMPLE = Path(__file__).parents[2] / "sample_catalog" / "model"


def make(folder: Path) -> Path:
    """Write the checkpoint, with the sample's tokenizer, unless it is there; return its folder."""
    if (folder / "model.safetensors").exists():
        return folder
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SAMPLE / name, folder / name)
    CLIPImageProcessor().save_pretrained(folder)
    config = CLIPConfig()
    # The text tower reads its result where this token stands: it must be one that the tokenizer writes.
    config.text_config.eos_token_id = CLIPTokenizer.from_pretrained(folder).eos_token_id
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    make(Path(sys.argv[1]))
