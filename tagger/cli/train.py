"""`tagger train`: models from labelled rows."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from tagger.cli import options
from tagger.cli.console import log_to_stderr
from tagger.cli.options import manifest_options, recipe_options, take_machine, take_overrides, take_recipe
from tagger.settings.options import CLIP_METHODS, HEAD_METHODS, ClipRecipe, DaptRecipe, HeadRecipe


@click.group()
def train() -> None:
    """Train a model on the rows of a manifest that carry ground truth.

    \b
    Example:
      tagger train head labelled.parquet --output head.safetensors
      tagger train resnet18 labelled.parquet --output resnet18.safetensors
      tagger train clip labelled.parquet --output fashion-clip
      tagger train prompts-dapt labelled.parquet --output prompted-clip
    """


@train.command()
@click.argument("manifest")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The head, *.safetensors.")
@manifest_options
@options.attribute
@click.option(
    "--method", type=click.Choice(HEAD_METHODS), default="auto", show_default=True, help="auto: what wins; not prompts."
)
@options.product_column
@click.option("--hold-out", type=float, default=0.0, help="Share of the rows that is left, for example for calibrate.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all that is left to chance.")
@click.option("--force", is_flag=True, help="Write the head even if it is no better.")
@options.overwrite
def head(manifest: str, output: Path, attribute: str | None, overwrite: bool, **options: Any) -> None:
    """Fit a head on the labelled rows of MANIFEST and judge it on rows that it was not fitted on; no image is decoded again.

    An attribute takes the file by head = "head.safetensors". Where zero-shot is not beaten, the exit code is 3, and nothing is
    written. A head that is there, with --overwrite, stays where it is the better one on rows that neither was fitted on.

    \b
    Example:
      tagger train head labelled.parquet --attribute category --output head.safetensors
    """
    log_to_stderr(logging.INFO)
    from tagger.workflows.train_head import train_head

    trained = train_head(
        manifest,
        output,
        options.pop("config"),
        recipe=HeadRecipe(**{name: options.pop(name) for name in ("method", "product_column", "hold_out", "force", "seed")}),
        attribute=attribute,
        overwrite=overwrite,
        machine=take_machine(options),
        **take_overrides(options),
    )
    click.echo(trained.to_text())
    click.echo(output)


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


@train.command()
@click.argument("manifest")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The model's folder.")
@manifest_options
@options.attribute
@click.option(
    "--method", type=click.Choice(CLIP_METHODS), default="auto", show_default=True, help="What learns; auto: lora for few rows."
)
@click.option("--init", help="A config.json whose model is trained from nothing.")
@click.option("--epochs", type=click.IntRange(1), default=10, show_default=True, help="Passes over the rows.")
@click.option("--training-batch-size", type=click.IntRange(2), default=64, show_default=True, help="Images of a step.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="Of AdamW; default: the method's own.")
@click.option(
    "--validation",
    type=click.FloatRange(0, 0.5),
    default=0.2,
    show_default=True,
    help="Share that chooses epoch and blend.",
)
@options.product_column
@click.option("--less-memory", is_flag=True, help="Compute activations twice instead of keeping them.")
@click.option("--force", is_flag=True, help="Write the model even if it is no better.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all that is left to chance.")
@options.overwrite
def clip(manifest: str, output: Path, attribute: str | None, overwrite: bool, **options: Any) -> None:
    """Fine-tune CLIP on the labelled rows of MANIFEST; use it with `tagger run --model FOLDER`.

    Images are trained against the prompts of their labels; the best epoch and its blend with what was there are those that
    held-out rows choose. Where that is no better, the exit code is 3, and nothing is written. Interrupted, it goes on.

    \b
    Example:
      tagger train clip labelled.parquet --output fashion-clip
    """
    log_to_stderr(logging.INFO)
    from tagger.workflows.train_clip import train_clip

    names = ("method", "init", "epochs", "learning_rate", "validation", "product_column", "less_memory", "force", "seed")
    recipe = ClipRecipe(batch_size=options.pop("training_batch_size"), **{name: options.pop(name) for name in names})
    tuned = train_clip(
        manifest,
        output,
        options.pop("config"),
        recipe=recipe,
        attribute=attribute,
        overwrite=overwrite,
        machine=take_machine(options),
        **take_overrides(options),
    )
    click.echo(tuned.to_text())
    click.echo(output)


@train.command("prompts-dapt")
@click.argument("manifest")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The folder of the model and its head.")
@manifest_options
@options.attribute
@click.option(
    "--validation", type=click.FloatRange(0, 0.5), default=0.2, show_default=True, help="Share that judges the prompts."
)
@options.product_column
@click.option("--force", is_flag=True, help="Write the prompts even if they are no better.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all that is left to chance.")
@options.overwrite
def prompts_dapt(manifest: str, output: Path, attribute: str | None, overwrite: bool, **options: Any) -> None:
    """Learn words before the labels of MANIFEST and further tokens of its images, in a CLIP that stays as it is (DAPT).

    `tagger run --model FOLDER` encodes with these tokens; an attribute takes the words by head = "FOLDER/head.safetensors". Where
    held-out rows find the prompts of the settings as good, the exit code is 3, and nothing is written.

    \b
    Example:
      tagger train prompts-dapt labelled.parquet --output prompted-clip
    """
    log_to_stderr(logging.INFO)
    from tagger.workflows.train_dapt import train_dapt

    recipe = DaptRecipe(**{name: options.pop(name) for name in ("validation", "product_column", "force", "seed")})
    tuned = train_dapt(
        manifest,
        output,
        options.pop("config"),
        recipe=recipe,
        attribute=attribute,
        overwrite=overwrite,
        machine=take_machine(options),
        **take_overrides(options),
    )
    click.echo(tuned.to_text())
    click.echo(output)
