"""`tagger train`, `tagger calibrate`, `tagger compare`: learn from labelled rows."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from tagger.cli import options
from tagger.cli.console import log_to_stderr


@click.command()
@click.argument("manifest")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The calibration, for example calibration.json.")
@options.config
@options.labels
@click.option("--model", help="The model whose confidences are calibrated.")
@click.option("--precision", type=click.FloatRange(0, 1), help="Choose review_below so that this share of the rest is right.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the split into two halves.")
@options.image_column
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
    from tagger.workflows.calibrate import calibrate

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
