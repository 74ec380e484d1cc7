"""Write how a run ended for Prometheus: metrics.prom in its run folder, in the text format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tagger.core.files import write_bytes
from tagger.reports.summary import RunSummary

METRICS = "metrics.prom"
LAST_SUCCESS = "tagger_last_success_timestamp_seconds"


def write_metrics(folder: Path, exit_code: int, ended: float, last_success: float, summary: RunSummary | None) -> None:
    """Write metrics.prom, whole or not at all. Raises OSError.

    ended, last_success: seconds since 1970; the latter is 0 where no run has succeeded. summary: the one of a run that has
    written results, published or not; else None.
    """
    registry = CollectorRegistry()

    def gauge(name: str, meaning: str, value: float | Mapping[str, float | None], label: str = "") -> None:
        family = Gauge(name, meaning, [label] if label else [], registry=registry)
        if not isinstance(value, Mapping):
            family.set(value)
            return
        for key, one in value.items():
            if one is not None:
                family.labels(key).set(one)

    gauge(LAST_SUCCESS, "When a run last published results; 0 for never.", last_success)
    gauge("tagger_last_end_timestamp_seconds", "When the last run ended.", ended)
    gauge("tagger_exit_code", "How the last run ended.", exit_code)
    if summary is not None:
        rows = {"tagged": summary.tagged, "review": summary.review, "error": summary.errors.total()}
        evaluated = summary.evaluation.attributes if summary.evaluation else {}
        accuracy = {name: one.accuracy for name, one in evaluated.items()}
        macro_f1 = {name: one.macro_f1 for name, one in evaluated.items()}
        changed = {name: one.changed / one.rows if one.rows else None for name, one in summary.changed_labels.items()}
        gauge("tagger_rows", "Rows of the results.", rows, "status")
        gauge("tagger_errors", "Rows with an error.", summary.errors, "code")
        gauge("tagger_accuracy", "Accuracy on the labelled rows.", accuracy, "attribute")
        gauge("tagger_macro_f1", "Macro F1 on the labelled rows.", macro_f1, "attribute")
        gauge("tagger_changed_labels_ratio", "Share of the labels that differ from the earlier result.", changed, "attribute")
        drift = {one.attribute or "": one.size for one in summary.drift.shifts if one.figure == "labels"}
        gauge("tagger_label_stability_index", "Population stability index since the earlier result.", drift, "attribute")
        gauge("tagger_drift_warnings", "Shifts since the earlier result.", len(summary.drift.warnings()))
        gauge("tagger_encoded_images", "Images that went through the encoder.", summary.encoded_images)
        gauge("tagger_images_per_second", "Rows of the results, divided by the run's seconds.", summary.images_per_second)
        gauge("tagger_stage_seconds", "Seconds that each stage took.", summary.stage_seconds, "stage")
        gauge("tagger_peak_memory_bytes", "Peak memory of the process that encodes.", summary.peak_memory_bytes)
    write_bytes(folder / METRICS, generate_latest(registry))


def read_last_success(folder: Path) -> float:
    """Return when a run last published results, in seconds since 1970, by this run folder's metrics.prom; 0 if not known."""
    try:
        families = text_string_to_metric_families((folder / METRICS).read_text(encoding="utf-8"))
        return max((sample.value for family in families for sample in family.samples if sample.name == LAST_SUCCESS), default=0.0)
    except (OSError, ValueError):
        return 0.0
