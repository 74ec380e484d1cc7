"""`tagger train`, `tagger calibrate`, `tagger compare`: learn from labelled rows."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tagger import options
from tagger.errors import UsageError
from tagger.log import log_to_stderr

_image_column = click.option("--image-column", help="Column with paths or embedded images.")
_labels = click.option("--labels", callback=options.split, help="Labels to learn, separated by commas.")
_attribute = click.option("--attribute", help="Which attribute of the settings.")
_RECIPE = (
    click.option("--init", default="imagenet", show_default=True, help="imagenet, random, or a file with a ResNet18's weights."),
    click.option("--epochs", type=click.IntRange(1), default=5, show_default=True, help="Passes over the rows."),
    click.option("--batch-size", type=click.IntRange(2), default=32, show_default=True, help="Images of a step."),
    click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=1e-3, show_default=True, help="Of Adam."),
    click.option("--image-size", type=click.IntRange(32), default=224, show_default=True, help="Pixels of a side."),
    click.option(
        "--validation",
        type=click.FloatRange(0, 0.5),
        default=0.2,
        show_default=True,
        help="Share of each label's rows.",
    ),
)


def _recipe(command: Callable[..., None]) -> Callable[..., None]:
    """The options of a training."""
    for option in reversed(_RECIPE):
        command = option(command)
    return command


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
@_labels
@_attribute
@_recipe
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all that is left to chance.")
@click.option("--ensemble", is_flag=True, help="Choose the weight beside CLIP, for [fallback] mode ensemble.")
@click.option("--model", help="That CLIP: a hub id or a local folder.")
@_image_column
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
    from tagger.learning import train_resnet18
    from tagger.training.resnet18 import Recipe

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


@click.command()
@click.argument("manifest")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The calibration, for example calibration.json.")
@options.config
@options.labels
@click.option("--model", help="The model whose confidences are calibrated.")
@click.option("--precision", type=click.FloatRange(0, 1), help="Choose review_below so that this share of the rest is right.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the split into two halves.")
@_image_column
@options.image_root
@options.device
@options.workers
def calibrate(
    manifest: str,
    output: Path,
    config: Path | None,
    labels: list[str] | None,
    model: str | None,
    precision: float | None,
    seed: int,
    image_column: str | None,
    image_root: Path | None,
    device: str | None,
    workers: int | None,
) -> None:
    """Fit temperatures on half of the labelled rows of MANIFEST, which should be used for nothing else, and judge them on the
    other half. Name the file in the attribute: calibration = "calibration.json".

    \b
    Example:
      tagger calibrate labelled.parquet --output calibration.json --precision 0.98
    """
    log_to_stderr(logging.INFO)
    from tagger.calibrating import calibrate

    content = calibrate(
        manifest,
        output,
        config,
        labels=labels,
        model=model,
        precision=precision,
        seed=seed,
        image_column=image_column,
        image_root=image_root,
        device=device,
        workers=workers,
    )
    for name, calibration in content.attributes.items():
        click.echo(f"{name}: {calibration.fitted_rows} rows fitted, {calibration.held_out_rows} held out")
        for source, fitted in calibration.sources.items():
            changes = ", ".join(
                f"{metric} {fitted.before[key]:.3f} -> {fitted.after[key]:.3f}"
                for key, metric in (("ece", "calibration error"), ("log_loss", "log loss"), ("brier", "Brier score"))
            )
            click.echo(f"  {source}: temperature {fitted.temperature:.3f}; {changes}")
        if (review := calibration.review) and calibration.review_below is not None:
            reached = "no row" if review["precision"] is None else f"precision {review['precision']:.1%}"
            click.echo(f"  review_below {calibration.review_below:.4f}: {reached}, {review['review_share']:.1%} to review")
    click.echo(output)


@click.command()
@click.argument("manifest")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder for tables and pictures.")
@click.option(
    "--systems",
    callback=options.split,
    default="zero-shot,resnet18,hybrid",
    show_default=True,
    help="What is compared, the yardstick first.",
)
@click.option(
    "--shots",
    callback=options.split,
    default="12",
    show_default=True,
    help="Rows of each label to learn from; 1,2,4,8 draws curves.",
)
@click.option("--test", default="4", show_default=True, help="Rows of each label to test with; all: of --test-manifest.")
@click.option("--seeds", type=click.IntRange(1), default=20, show_default=True, help="How often rows are drawn.")
@click.option("--test-manifest", help="Where the rows to test with come from; default: MANIFEST.")
@options.config
@_labels
@_attribute
@_recipe
@click.option("--model", help="CLIP: a hub id or a local folder.")
@_image_column
@options.image_root
@options.device
@options.workers
@click.option("--overwrite", is_flag=True, help="Replace an existing comparison.")
def compare(
    manifest: str,
    output: Path,
    systems: list[str],
    shots: list[str],
    test: str,
    seeds: int,
    test_manifest: str | None,
    config: Path | None,
    labels: list[str] | None,
    attribute: str | None,
    model: str | None,
    image_column: str | None,
    image_root: Path | None,
    device: str | None,
    workers: int | None,
    overwrite: bool,
    **recipe: Any,
) -> None:
    """Compare zero-shot CLIP, a ResNet18 and both together: each learns from a few rows and is tested with others, --seeds times.

    \b
    Example:
      tagger compare labelled.parquet --shots 12 --test 4 --seeds 20 --output comparison
    """
    log_to_stderr(logging.INFO)
    from tagger.comparing import compare
    from tagger.training.resnet18 import Recipe

    compared = compare(
        manifest,
        output,
        config,
        systems=systems,
        shots=[_number(count, "--shots") for count in shots],
        test=None if test == "all" else _number(test, "--test"),
        seeds=seeds,
        test_manifest=test_manifest,
        recipe=Recipe(**recipe),
        labels=labels,
        attribute=attribute,
        model=model,
        image_column=image_column,
        image_root=image_root,
        device=device,
        workers=workers,
        overwrite=overwrite,
        progress=True,
    )
    click.echo(f"{compared.to_text()}\n\n{output}")


def _number(text: str, option: str) -> int:
    if not text.isdecimal() or not int(text):
        raise UsageError(f"{option}: expected a number of rows from 1 on, found {text}; correct it")
    return int(text)
