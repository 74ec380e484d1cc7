"""`tagger train`, `tagger calibrate`, `tagger compare`: learn from labelled rows."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from tagger.cli import options
from tagger.cli.console import log_to_stderr


@click.group()
def train() -> None:
    """Train a model on the rows of a manifest that carry ground truth.

    \b
    Example:
      tagger train resnet18 labelled.parquet --output resnet18.safetensors
    """


@train.command()
@click.argument("manifest")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The checkpoint, *.safetensors.")
@options.config
@options.learned_labels
@options.attribute
@options.recipe
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all that is left to chance.")
@click.option("--ensemble", is_flag=True, help="Choose the weight beside CLIP, for [fallback] mode ensemble.")
@click.option("--model", help="That CLIP: a hub id or a local folder.")
@options.image_column
@options.image_root
@options.device
@options.workers
@click.option("--overwrite", is_flag=True, help="Replace an existing checkpoint.")
def resnet18(
    manifest: str,
    output: Path,
    config: Path | None,
    labels: list[str] | None,
    attribute: str | None,
    seed: int,
    ensemble: bool,
    model: str | None,
    image_column: str | None,
    image_root: Path | None,
    device: str | None,
    workers: int | None,
    overwrite: bool,
    **recipe: Any,
) -> None:
    """Fine-tune torchvision's ResNet18; use it with `tagger run --model`, or as [fallback] beside CLIP.

    \b
    Example:
      tagger train resnet18 labelled.parquet --output resnet18.safetensors --epochs 10
    """
    log_to_stderr(logging.INFO)
    from tagger.training.resnet18 import Recipe
    from tagger.workflows.train import train_resnet18

    trained = train_resnet18(
        manifest,
        output,
        config,
        recipe=Recipe(seed=seed, **recipe),
        labels=labels,
        attribute=attribute,
        model=model,
        image_column=image_column,
        image_root=image_root,
        device=device,
        workers=workers,
        ensemble=ensemble,
        overwrite=overwrite,
        progress=True,
    )
    best = trained.metrics["best"]
    if trained.metrics["validation_rows"]:
        click.echo(
            f"epoch {best['epoch']} of {recipe['epochs']}: accuracy {best['accuracy']:.1%}, macro F1 {best['macro_f1']:.3f} on "
            f"{trained.metrics['validation_rows']} validation rows"
        )
    if trained.ensemble is not None:
        click.echo(f"weight beside CLIP: {trained.ensemble.weight:.2f}, chosen on {trained.ensemble.rows} validation rows")
    click.echo(output)
