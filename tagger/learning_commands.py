"""`tagger train`, `tagger calibrate`: learn from labelled rows."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from tagger.log import log_to_stderr

_config = click.option(
    "--config", type=click.Path(path_type=Path), help="Settings; default: tagger.toml beside MANIFEST or here."
)
_image_column = click.option("--image-column", help="Column with paths or embedded images.")
_image_root = click.option(
    "--image-root", type=click.Path(path_type=Path), help="Where image paths start; default: MANIFEST's folder."
)
_device = click.option("--device", help="cpu, cuda, cuda:1, mps …; default: an accelerator if there is one.")
_workers = click.option("--workers", type=click.IntRange(0), help="Processes that decode images; default: by the machine.")


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
@_config
@click.option("--labels", help="Labels to learn, separated by commas.")
@click.option("--attribute", help="Which attribute of the settings.")
@click.option("--init", default="imagenet", show_default=True, help="imagenet, random, or a file with a ResNet18's weights.")
@click.option("--epochs", type=click.IntRange(1), default=5, show_default=True, help="Passes over the rows.")
@click.option("--batch-size", type=click.IntRange(2), default=32, show_default=True, help="Images of a step.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=1e-3, show_default=True, help="Of Adam.")
@click.option("--image-size", type=click.IntRange(32), default=224, show_default=True, help="Pixels of a side.")
@click.option("--validation", type=click.FloatRange(0, 0.5), default=0.2, show_default=True, help="Share of each label's rows.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all that is left to chance.")
@click.option("--ensemble", is_flag=True, help="Choose the weight beside CLIP, for [fallback] mode ensemble.")
@click.option("--model", help="That CLIP: a hub id or a local folder.")
@_image_column
@_image_root
@_device
@_workers
@click.option("--overwrite", is_flag=True, help="Replace an existing checkpoint.")
def resnet18(
    manifest: str,
    output: Path,
    config: Path | None,
    labels: str | None,
    attribute: str | None,
    init: str,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    image_size: int,
    validation: float,
    seed: int,
    ensemble: bool,
    model: str | None,
    image_column: str | None,
    image_root: Path | None,
    device: str | None,
    workers: int | None,
    overwrite: bool,
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
        recipe=Recipe(
            init=init,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            image_size=image_size,
            validation=validation,
            seed=seed,
        ),
        labels=_split(labels),
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
            f"epoch {best['epoch']} of {epochs}: accuracy {best['accuracy']:.1%}, macro F1 {best['macro_f1']:.3f} on "
            f"{trained.metrics['validation_rows']} validation rows"
        )
    if trained.ensemble is not None:
        click.echo(f"weight beside CLIP: {trained.ensemble.weight:.2f}, chosen on {trained.ensemble.rows} validation rows")
    click.echo(output)


@click.command()
@click.argument("manifest")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The calibration, for example calibration.json.")
@_config
@click.option("--labels", help="Labels to choose between, separated by commas.")
@click.option("--model", help="The model whose confidences are calibrated.")
@click.option("--precision", type=click.FloatRange(0, 1), help="Choose review_below so that this share of the rest is right.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the split into two halves.")
@_image_column
@_image_root
@_device
@_workers
def calibrate(
    manifest: str,
    output: Path,
    config: Path | None,
    labels: str | None,
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
        labels=_split(labels),
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


def _split(names: str | None) -> list[str] | None:
    return None if names is None else [name.strip() for name in names.split(",")]
