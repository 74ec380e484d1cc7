"""Compare models of full size, with random weights, with the libraries that they come from.

python tests/benchmarks/full_size.py

For each architecture: the largest difference of a number in an embedding of unit length from the library's own, in fp32, over
random pictures and ten prompts; the smallest cosine between a picture's embeddings in bf16 and by the library; and how many
pictures a second the image tower encodes. Probabilities would say little: with random weights they are all nearly equal.
Tokenizers are small ones, as trained ones come with trained weights.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from common import LABELS, machine, print_table
from safetensors.torch import save_file
from transformers import (
    AutoModel,
    AutoTokenizer,
    CLIPImageProcessor,
    MetaClip2Config,
    MetaClip2Model,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

sys.path.insert(0, str(Path(__file__).parents[2]))

from tagger.encoders.backends import in_precision
from tagger.encoders.clip import load_clip
from tests.helpers.checkpoints import make_metaclip2, make_siglip, make_siglip2

CPU = torch.device("cpu")
PROMPTS = [f"a photo of a {label}." for label in LABELS]
SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
HEADS = ["model", "images: largest difference", "texts", "bf16: smallest cosine", "bf16: pictures a second"]


def siglip(folder: Path, make: Callable[[Path], Path], vocabulary: int, side: int, **sizes: int) -> Path:
    make(folder)
    pad = json.loads((folder / "config.json").read_text())["text_config"]["pad_token_id"]
    text, vision = {"vocab_size": vocabulary, "pad_token_id": pad}, {"image_size": side}
    SiglipModel(SiglipConfig(text_config=text | sizes, vision_config=vision | sizes)).save_pretrained(folder)
    SiglipImageProcessor(size={"height": side, "width": side}).save_pretrained(folder)
    return folder


def metaclip2(folder: Path) -> Path:
    make_metaclip2(folder)
    text = {"vocab_size": 901_629, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    MetaClip2Model(MetaClip2Config(text_config=text)).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)
    return folder


def open_clip(folder: Path, architecture: str) -> Path:
    import open_clip as library

    make_siglip2(folder)
    for path in folder.iterdir():
        if "token" not in path.name:
            path.unlink()
    config = library.get_model_config(architecture)
    model = library.create_model(architecture)
    pixels = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": pixels}))
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


def expected(folder: Path, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the library's own embeddings, of unit length, of normalised images (N, 3, H, W) and of the prompts."""
    if (folder / "open_clip_config.json").exists():
        import open_clip as library

        model, tokenizer = library.create_model(f"local-dir:{folder}").eval(), library.get_tokenizer(f"local-dir:{folder}")
        return model.encode_image(images, normalize=True), model.encode_text(tokenizer(PROMPTS), normalize=True)
    model, tokenizer = AutoModel.from_pretrained(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(folder)
    filled = {"padding": "max_length", "max_length": model.config.text_config.max_position_embeddings}
    padding = filled if model.config.model_type == "siglip" else {"padding": True}
    found = model(input_ids=tokenizer(PROMPTS, return_tensors="pt", **padding)["input_ids"], pixel_values=images)
    return found.image_embeds, found.text_embeds


@torch.inference_mode()
def measure(name: str, folder: Path, count: int) -> list[object]:
    encoder = load_clip(str(folder), None, CPU)
    pixels = torch.randint(0, 256, (count, 3, *encoder.preprocessing.size), dtype=torch.uint8, generator=torch.manual_seed(0))
    images, texts = expected(folder, encoder.tower.normalise(pixels))
    found = [(encoder.encode(pixels) - images).abs().max(), (encoder.encode_prompts(PROMPTS) - texts).abs().max()]
    narrow = in_precision(encoder, "torch", "bf16", at_once=count, folder=None, images=lambda: iter(()))
    narrow.encode(pixels)
    began = time.perf_counter()
    cosines = (narrow.encode(pixels) * images).sum(1)
    seconds = time.perf_counter() - began
    return [name, *(f"{float(one):.1e}" for one in found), f"{float(cosines.min()):.5f}", f"{count / seconds:.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=32, help="pictures")
    options = parser.parse_args()
    torch.manual_seed(0)
    models: dict[str, Callable[[Path], Path]] = {
        "SigLIP B/16, 224": lambda folder: siglip(folder, make_siglip, 32_000, 224),
        "SigLIP 2 B/16, 256": lambda folder: siglip(folder, make_siglip2, 256_000, 256),
        "SigLIP 2 so400m/16, 384": lambda folder: siglip(folder, make_siglip2, 256_000, 384, **SO400M),
        "MetaCLIP 2 B/32, 224": metaclip2,
        "open_clip ViT-B-16-SigLIP (FashionSigLIP's)": lambda folder: open_clip(folder, "ViT-B-16-SigLIP"),
        "open_clip PE-Core-B-16": lambda folder: open_clip(folder, "PE-Core-B-16"),
        "open_clip MobileCLIP2-S0": lambda folder: open_clip(folder, "MobileCLIP2-S0"),
    }
    rows = []
    for name, make in models.items():
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(name, make(Path(folder) / "model"), options.count))
    print(machine("open_clip_torch", "timm"))
    print_table(HEADS, rows)


if __name__ == "__main__":
    main()
