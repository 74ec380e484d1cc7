"""Measure prompts on real photos: sets of them, and learned ones that are fitted on `adapt` and judged on `validation`.

python tests/benchmarks/prompts.py
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from common import DATA, LABELS, machine, print_table

import tagger
from tagger.catalog.object_storage import Workspace
from tagger.evaluation.intervals import share_interval
from tagger.inference.job import open_job
from tagger.inference.load import open_engine
from tagger.settings.load import load_settings
from tagger.tagging.heads import LinearHead
from tagger.training import prompt_learning
from tagger.training.dataset import embed, read_labelled
from tagger.training.labelled_embeddings import LabelledEmbeddings
from tagger.training.prompt_learning import fit_prompts

MODEL = Path(__file__).parents[2] / "sample_catalog" / "model"
DESCRIPTIONS = {
    "dress": "A dress is a one-piece garment that covers the body and the legs.",
    "hat": "A hat is worn on the head, with a brim or a visor.",
    "longsleeve": "A longsleeve is a knitted top with sleeves that reach the wrists.",
    "outwear": "Outwear is a coat or a jacket with a zip or buttons, worn over other clothes.",
    "pants": "Pants have two long legs and a waistband.",
    "shirt": "A shirt has a collar and a row of buttons in front.",
    "shoes": "A pair of shoes, with soles and laces.",
    "shorts": "Shorts have two legs that end above the knee.",
    "skirt": "A skirt hangs from the waist, without legs or sleeves.",
    "t-shirt": "A t-shirt has short sleeves and a round neck.",
}


def write_manifest(photos: Path, folder: Path, split: str) -> Path:
    """Write a manifest of a split's photos; their folders are their labels."""
    files = sorted((photos / split).glob("*/*.jpg"))
    table = pa.table(
        {"image_path": [str(file.relative_to(photos)) for file in files], "label": [file.parent.name for file in files]}
    )
    pq.write_table(table, folder / f"{split}.parquet")
    return folder / f"{split}.parquet"


def embedded(manifest: Path, config: dict[str, Any]) -> tuple[LabelledEmbeddings, Any]:
    """Return a manifest's labelled rows, and CLIP."""
    with Workspace() as space:
        job = open_job(str(manifest), load_settings(str(manifest), config), space)
        with open_engine(job, tagger.Machine()) as engine:
            found = embed(read_labelled(job.manifest, job.attributes), engine, lambda _: None)
            encoder = engine.predictor.encoder
            labels = encoder.encode_prompts([f"A photo of a {label}." for label in LABELS]).clone()
    rows = LabelledEmbeddings(
        embeddings=F.normalize(torch.from_numpy(found.embeddings).float(), dim=1),
        truth=torch.from_numpy(found.truth),
        label_embeddings=labels,
        logit_scale=encoder.logit_scale,
    )
    return rows, encoder


def accuracy(head: LinearHead, rows: LabelledEmbeddings) -> str:
    right = int((head(rows.embeddings).argmax(1) == rows.truth).sum())
    low, high = share_interval(right, len(rows))
    return f"{right / len(rows):.1%} ({low:.1%} to {high:.1%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=DATA / "clothing", help="folder with adapt and validation")
    parser.add_argument("--seeds", type=int, default=5, help="learned prompts")
    options = parser.parse_args()
    print(machine("tagger"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        attribute = {"name": "category", "labels": list(LABELS), "truth_column": "label"}
        config = {
            "model": {"name": str(MODEL)},
            "manifest": {"image_root": str(options.photos)},
            "cache": {"folder": str(folder / "cache")},
            "attribute": [attribute],
        }
        manifests = [write_manifest(options.photos, folder, split) for split in ("adapt", "validation")]
        (folder / "descriptions.json").write_text(json.dumps({label: [text] for label, text in DESCRIPTIONS.items()}))
        adapt, encoder = embedded(manifests[0], config)
        validation, _ = embedded(manifests[1], config)
        for manifest in manifests:
            started = time.perf_counter()
            found = tagger.prompts(manifest, config, trial=tagger.PromptTrial(descriptions=folder / "descriptions.json"))
            print(f"\n{manifest.name}, {time.perf_counter() - started:.1f} s\n{found.to_text()}")
        rows = [["A photo of a {label}.", accuracy(adapt.zero_shot, adapt), accuracy(adapt.zero_shot, validation), ""]]
        for weight in (0.0, prompt_learning.DISPERSION):
            prompt_learning.DISPERSION = weight
            for seed in range(options.seeds):
                started = time.perf_counter()
                head = fit_prompts(adapt, seed, encoder, LABELS)
                seconds = time.perf_counter() - started
                rows.append(
                    [
                        f"learned, dispersion {weight:g}, seed {seed}",
                        accuracy(head, adapt),
                        accuracy(head, validation),
                        f"{seconds:.1f}",
                    ]
                )
        print()
        print_table(["prompts", "adapt", "validation", "seconds"], rows)


if __name__ == "__main__":  # workers are separate processes
    main()
