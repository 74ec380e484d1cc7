"""`tagger train`: models from labelled rows."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from tagger.cli import options
from tagger.cli.console import log_to_stderr
from tagger.cli.options import manifest_options, recipe_options, take_machine, take_overrides, take_recipe


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
@manifest_options
@options.attribute
@recipe_options
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all that is left to chance.")
@click.option("--ensemble", is_flag=True, help="Choose the weight beside the CLIP of --model, for [fallback] mode ensemble.")
@options.overwrite
def resnet18(
    manifest: str, output: Path, attribute: str | None, seed: int, ensemble: bool, overwrite: bool, **options: Any
) -> None:  # the others are those of settings/options.py, by the same names
    """Fine-tune torchvision's ResNet18; use it with `tagger run --model`, or as [fallback] beside CLIP.

    \b
    Example:
      tagger train resnet18 labelled.parquet --output resnet18.safetensors --epochs 10
    """
    log_to_stderr(logging.INFO)
    from tagger.workflows.train import train_resnet18

    recipe = take_recipe(options, seed=seed, ensemble=ensemble)
    trained = train_resnet18(
        manifest,
        output,
        options.pop("config"),
        recipe=recipe,
        attribute=attribute,
        overwrite=overwrite,
        machine=take_machine(options),
        **take_overrides(options),
    )
    best = trained.metrics["best"]
    if trained.metrics["validation_rows"]:
        click.echo(
            f"epoch {best['epoch']} of {recipe.epochs}: accuracy {best['accuracy']:.1%}, macro F1 {best['macro_f1']:.3f} on "
            f"{trained.metrics['validation_rows']} validation rows"
        )
    if trained.ensemble is not None:
        click.echo(f"weight beside CLIP: {trained.ensemble.weight:.2f}, chosen on {trained.ensemble.rows} validation rows")
    click.echo(output)
