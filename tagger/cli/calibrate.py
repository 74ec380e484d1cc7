"""`tagger calibrate`: confidences that are right as often as they say."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from tagger.cli.console import log_to_stderr
from tagger.cli.options import manifest_options, take_machine, take_overrides


@click.command()
@click.argument("manifest")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The calibration, for example calibration.json.")
@manifest_options
@click.option("--target-precision", type=click.FloatRange(0, 1), help="Choose review_below so that this share is right.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the split into two halves.")
def calibrate(
    manifest: str, output: Path, target_precision: float | None, seed: int, **options: Any
) -> None:  # the others are those of settings/options.py, by the same names
    """Fit temperatures on half of the labelled rows of MANIFEST and judge them on the others.

    The rows should be used for nothing else. An attribute takes the file by calibration = "calibration.json".

    \b
    Example:
      tagger calibrate labelled.parquet --output calibration.json --target-precision 0.98
    """
    log_to_stderr(logging.INFO)
    from tagger.workflows.calibrate import calibrate

    content = calibrate(
        manifest,
        output,
        options.pop("config"),
        target_precision=target_precision,
        seed=seed,
        machine=take_machine(options),
        **take_overrides(options),
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
