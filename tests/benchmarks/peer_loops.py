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
    "fastembed": ("fastembed", "onnxruntime"),
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


def export_vision(model: Path) -> Path:
    """Write a checkpoint's image tower as ONNX in a folder beside it, as fastembed expects it, unless it is there."""
    import torch
    from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

    class Vision(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tower = CLIPVisionModelWithProjection.from_pretrained(model)

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return self.tower(pixel_values=pixel_values).image_embeds

    folder = model.with_name(f"{model.name}-onnx")
    if not (folder / "preprocessor_config.json").exists():  # written last: the export is complete
        folder.mkdir(exist_ok=True)
        shapes = {"pixel_values": {0: torch.export.Dim.DYNAMIC}}
        vision, pixels = Vision().eval(), torch.zeros(2, 3, 224, 224)
        torch.onnx.export(vision, (pixels,), folder / "model.onnx", dynamic_shapes=shapes, external_data=False, dynamo=True)
        CLIPImageProcessorPil.from_pretrained(model).save_pretrained(folder)
    return folder


def fastembed(folder: Path, model: Path, labels: list[str], batch: int, workers: int) -> tuple[int, float]:
    """Run fastembed's ImageEmbedding over ONNX Runtime, in processes of one thread each; return images and seconds.

    Each process loads the model before its first batch. The clock starts when they have returned one batch each, which is of
    images that come again. By then some are in their next batch already, which favours fastembed by less than a batch each.
    """
    import numpy as np
    import torch
    from fastembed import ImageEmbedding
    from transformers import CLIPModel, CLIPTokenizer

    clip = CLIPModel.from_pretrained(model)
    prompts = CLIPTokenizer.from_pretrained(model)([f"This is a photo of {label}." for label in labels], padding=True)
    with torch.inference_mode():
        texts = clip.get_text_features(**prompts.convert_to_tensors("pt")).pooler_output
        head = (clip.logit_scale.exp() * torch.nn.functional.normalize(texts)).T.numpy()
    # The name only says what to do with the result; the model itself is the one in the folder.
    encoder = ImageEmbedding("Qdrant/clip-ViT-B-32-vision", specific_model_path=str(export_vision(model)), lazy_load=workers > 0)
    paths = find_images(folder)
    first = paths[: workers * batch]
    embeddings = iter(encoder.embed([*first, *paths], batch_size=batch, parallel=workers or None))
    for _ in first:
        next(embeddings)
    began = time.perf_counter()
    logits = np.stack(list(embeddings)) @ head
    odds = np.exp(logits - logits.max(1, keepdims=True))
    found = (odds / odds.sum(1, keepdims=True)).argmax(1)
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
    parser.add_argument("--model", type=Path, help="checkpoint; transformers and fastembed only, the others make their own")
    parser.add_argument("--labels", type=lambda text: text.split(","), default=["shirt", "dress", "shoes"])
    parser.add_argument("--device", default="cpu", help="open_clip only")
    parser.add_argument("--dtype", default="float32", help="transformers and open_clip only")
    parser.add_argument("--batch", type=int, default=BATCH, help="this and the following: all but clip_retrieval")
    parser.add_argument("--workers", type=int, default=WORKERS, help="processes that decode; for fastembed, that do everything")
    options = parser.parse_args()
    how = (options.batch, options.workers)
    if options.peer == "transformers":
        images, seconds = transformers(options.folder, options.model, options.labels, options.dtype, *how)
    elif options.peer == "open_clip":
        images, seconds = open_clip(options.folder, options.labels, options.device, options.dtype, *how)
    elif options.peer == "fastembed":
        images, seconds = fastembed(options.folder, options.model, options.labels, *how)
    else:
        images, seconds = clip_retrieval(options.folder)
    versions = {package: version(package) for package in (*PACKAGES[options.peer], "torch", "pillow")}
    print("\n" + json.dumps({"images": images, "images_per_second": images / seconds, "versions": versions}))


if __name__ == "__main__":  # the workers are separate processes
    main()
