"""Run what other people would run over a folder of JPEGs, each in an environment of its own (peer_environment.py).

python tests/benchmarks/peer_loops.py transformers FOLDER --model CHECKPOINT

Prints JSON: the number of images, and images per second from the first read to the last result, without the loading of the model.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

BATCH = 32
WORKERS = 2
ARCHITECTURE = "ViT-B-32"
PACKAGES = {
    "transformers": ("transformers",),
    "open_clip": ("open_clip_torch",),
    "clip_retrieval": ("clip_retrieval", "open_clip_torch"),
}


def find_images(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jpg"))


class Images:
    """Let Pillow decode images for open_clip's loop, as a dataset."""

    def __init__(self, paths: list[Path], transform: Any) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        from PIL import Image

        with Image.open(self.paths[index]) as image:
            return self.transform(image)


def transformers(folder: Path, model: Path, labels: list[str], dtype: str, batch: int, workers: int) -> tuple[int, float]:
    """Run the zero-shot-image-classification pipeline, which opens the files itself; return images and seconds."""
    from transformers import pipeline

    classify = pipeline("zero-shot-image-classification", model=str(model), dtype=dtype, batch_size=batch, num_workers=workers)
    paths = [str(path) for path in find_images(folder)]
    began = time.perf_counter()
    count = sum(1 for _ in classify(paths, candidate_labels=labels))
    return count, time.perf_counter() - began


def open_clip(folder: Path, labels: list[str], device: str, dtype: str, batch: int, workers: int) -> tuple[int, float]:
    """Run open_clip behind a torch DataLoader, whose processes decode; return images and seconds."""
    import torch
    from open_clip import create_model_and_transforms, get_tokenizer
    from torch.utils.data import DataLoader

    torch.manual_seed(0)
    model, _, transform = create_model_and_transforms(ARCHITECTURE, device=device)
    model = model.to(getattr(torch, dtype)).eval()
    loader = DataLoader(Images(find_images(folder), transform), batch, num_workers=workers, pin_memory=device != "cpu")
    scores: list[torch.Tensor] = []
    with torch.inference_mode():
        prompts = get_tokenizer(ARCHITECTURE)([f"This is a photo of {label}." for label in labels]).to(device)
        texts = model.encode_text(prompts, normalize=True)
        began = time.perf_counter()
        for pixels in loader:
            images = model.encode_image(pixels.to(device, getattr(torch, dtype), non_blocking=True), normalize=True)
            scores.append((model.logit_scale.exp() * images @ texts.T).softmax(1).max(1).indices)
        found = torch.cat(scores).cpu()
    return len(found), time.perf_counter() - began


def clip_retrieval(folder: Path) -> tuple[int, float]:
    """Run its inference with open_clip's architecture; the seconds are those that it counts itself, batch by batch."""
    import torch
    from clip_retrieval.clip_inference.main import main
    from open_clip import create_model

    with tempfile.TemporaryDirectory() as output:
        torch.manual_seed(0)
        weights = f"{output}/weights.pt"
        torch.save(create_model(ARCHITECTURE).state_dict(), weights)
        name = f"open_clip:{ARCHITECTURE}/{weights}"
        main(str(folder), output, batch_size=64, num_prepro_workers=WORKERS, enable_text=False, clip_model=name)
        counted = json.loads(Path(output, "stats", "0.json").read_text())
    return counted["sample_count"], counted["total_duration"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PACKAGES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, help="checkpoint; transformers only, the others make their own")
    parser.add_argument("--labels", type=lambda text: text.split(","), default=["shirt", "dress", "shoes"])
    parser.add_argument("--device", default="cpu", help="open_clip only")
    parser.add_argument("--dtype", default="float32", help="transformers and open_clip only")
    parser.add_argument("--batch", type=int, default=BATCH, help="this and the following: all but clip_retrieval")
    parser.add_argument("--workers", type=int, default=WORKERS, help="processes that decode")
    options = parser.parse_args()
    how = (options.batch, options.workers)
    if options.peer == "transformers":
        images, seconds = transformers(options.folder, options.model, options.labels, options.dtype, *how)
    elif options.peer == "open_clip":
        images, seconds = open_clip(options.folder, options.labels, options.device, options.dtype, *how)
    else:
        images, seconds = clip_retrieval(options.folder)
    versions = {package: version(package) for package in (*PACKAGES[options.peer], "torch", "pillow")}
    print("\n" + json.dumps({"images": images, "images_per_second": images / seconds, "versions": versions}))


if __name__ == "__main__":  # the workers are separate processes
    main()
