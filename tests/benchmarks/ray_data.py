"""Tag a manifest by a plain script of Ray Data: what the actors of `--engine ray` are compared with (several_processes.py).

Tasks decode pictures to pixels, which cross the object store; two actors encode them with our own encoder, in the precision that
a run takes; labels are written as Parquet. No row is checked, cached, calibrated or evaluated.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from common import LABELS
from PIL import Image, ImageOps

from tagger.encoders.backends import in_precision
from tagger.encoders.clip import load_clip

Batch = dict[str, np.ndarray[Any, Any]]
AT_ONCE = 32


def decode(batch: Batch, root: str, side: int) -> Batch:
    pictures = []
    for name in batch["image_path"]:
        with Image.open(Path(root) / str(name)) as image:
            image.draft("RGB", (2 * side, 2 * side))
            picture = ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.BICUBIC)
        pictures.append(np.asarray(picture).transpose(2, 0, 1))
    return {"image_path": batch["image_path"], "pixels": np.stack(pictures)}


class Encode:
    def __init__(self, model: str) -> None:
        encoder = load_clip(model, None, torch.device("cpu"))
        self.encoder = in_precision(encoder, "torch", "auto", at_once=AT_ONCE, folder=None, images=lambda: iter(()))
        self.prompts = self.encoder.encode_prompts([f"A photo of a {label}." for label in LABELS])

    def __call__(self, batch: Batch) -> Batch:
        best = (self.encoder.encode(torch.from_numpy(batch["pixels"].copy())) @ self.prompts.T).argmax(1)
        return {"image_path": batch["image_path"], "label": np.array(LABELS)[best.numpy()]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    options = parser.parse_args()
    side = load_clip(str(options.model), None, torch.device("cpu")).preprocessing.size[0]
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as out:
        images = ray.data.read_parquet(str(options.manifest), columns=["image_path"]).repartition(target_num_rows_per_block=128)
        known = {"root": str(options.manifest.parent), "side": side}
        pixels = images.map_batches(decode, batch_size=AT_ONCE, fn_kwargs=known, num_cpus=1)
        named = {"fn_constructor_args": (str(options.model),), "num_cpus": 1}
        labels = pixels.map_batches(Encode, batch_size=AT_ONCE, compute=ray.data.ActorPoolStrategy(size=2), **named)
        labels.write_parquet(out)
    ray.shutdown()
    print(json.dumps({}))


if __name__ == "__main__":
    main()
