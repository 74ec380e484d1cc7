"""`tagger calibrate`: confidences that are right as often as they say."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tagger.cli import options
from tagger.cli.console import log_to_stderr
from tagger.cli.options import manifest_options, take_machine, take_overrides
from tagger.core.errors import UsageError
from tagger.settings.options import Target

if TYPE_CHECKING:
    from tagger.tagging.calibration import Accepted


@click.command()
@click.argument("manifest")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The calibration, for example calibration.json.")
@manifest_options
@click.option("--target-precision", type=float, help="Choose review_below so that this share is right of what needs no review.")
@click.option("--confidence", type=float, default=Target.confidence, show_default=True, help="With which that is so.")
@click.option("--per-label", is_flag=True, help="Choose a review_below for each label.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the split into two halves.")
@options.overwrite
def calibrate(
    manifest: str, output: Path, target_precision: float | None, confidence: float, per_label: bool, **options: Any
) -> None:  # the others are those of settings/options.py, by the same names
    """Fit temperatures on half of the labelled rows of MANIFEST and judge them on the others.

    The others also choose review_below, or none where they are too few, and the thresholds of an attribute's prediction_sets. The
    rows should be drawn from what is tagged, and be used for nothing else. An attribute takes the file by calibration =
    "calibration.json".

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
        target=_target(target_precision, confidence, per_label),
        seed=options.pop("seed"),
        overwrite=options.pop("overwrite"),
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
        if sets := calibration.prediction_sets:
            chosen = "all labels" if sets.threshold is None else f"labels from probability {sets.threshold:.4f} on"
            click.echo(f"  prediction sets {sets.coverage:g}: {chosen}, {sets.mean_size:.2f} a set on {sets.rows} held-out rows")
        if unknown := calibration.unknown:
            told = ", ".join(f"AUROC {value:.3f} by {method}" for method, value in unknown.auroc.items())
            found = "" if unknown.found is None else f", {unknown.found:.1%} of {unknown.strangers} strangers found"
            click.echo(f"  unknown below {unknown.below:.4f} ({unknown.method}): {unknown.recall:.1%} of the known kept{found}")
            if told:
                click.echo(f"  unknown: {told}, on rows that did not fit it")
        if (review := calibration.review) and calibration.thresholds:
            for label, threshold in calibration.review_below_by_label.items():
                click.echo(f"  {label}: review_below {threshold:.4f}: {_describe(review.by_label[label])}")
            chosen = "all labels" if calibration.review_below is None else f"review_below {calibration.review_below:.4f}"
            click.echo(f"  {chosen}: {_describe(review)}, {1 - review.accepted / review.rows:.1%} to review")
    click.echo(output)


def _target(precision: float | None, confidence: float, per_label: bool) -> Target | None:
    if precision is None and (per_label or confidence != Target.confidence):
        raise UsageError("--confidence, --per-label: expected a --target-precision beside them, found none; add it")
    return None if precision is None else Target(precision=precision, confidence=confidence, per_label=per_label)


def _describe(found: Accepted) -> str:
    bound = "" if found.lower_bound is None else f", its tested lower bound {found.lower_bound:.1%}"
    return f"precision {found.precision:.1%} on the {found.accepted} held-out rows that chose it{bound}"
