"""Summarise what a run did, for summary.json and for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from tagger.catalog.object_storage import Workspace
from tagger.catalog.results import open_results
from tagger.core.text import one_line, to_json
from tagger.evaluation.changes import NO_EARLIER, Changed
from tagger.evaluation.drift import Drift
from tagger.evaluation.gates import GateResult
from tagger.evaluation.metrics import Evaluation


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """The summary of a run; its fields are those of summary.json (summary.schema.json).

    output: where the results are, at the place that was asked for if they are `published`, else aside; a URL on an object
    store. exit_code: 0, or 3 where one of the `gates` failed. errors: code -> rows. confidence: attribute -> "calibrated" or
    "uncalibrated". guarantees: attribute -> the precision that its calibration promises of rows that need no review, the
    confidence of that, whether each label has it, and the number of labelled rows that it rests on; of those attributes
    whose calibration promises one, unless their settings have thresholds of their own. encoded_images, fallback_images: images
    that went through the encoder, and through the fallback's. busy: stage -> the share of its time in which it was at work.
    evaluation: None where no attribute has a truth column. previous: the earlier result that `changed_labels` (by attribute)
    are counted against, and drift is measured against; the former are empty without one, or where its rows cannot be matched.
    """

    schema_version: int = 3
    run_id: str
    started: str
    ended: str | None = None
    exit_code: int | None = None
    published: bool = False
    output: Path | str
    settings: dict[str, Any]
    model: dict[str, Any]
    rows: int
    tagged: int = 0
    review: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    confidence: dict[str, str] = field(default_factory=dict)
    guarantees: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    encoded_images: int = 0
    fallback_images: int = 0
    images_per_second: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)
    peak_memory_bytes: int = 0
    evaluation: Evaluation | None = None
    previous: str | None = None
    changed_labels: Mapping[str, Changed] = field(default_factory=dict)
    drift: Drift = field(default_factory=lambda: Drift(missing=NO_EARLIER.reason))
    gates: Sequence[GateResult] = ()

    def read(self) -> pa.Table:
        """Read the whole results. Raises ManifestError."""
        with Workspace() as space, open_results(space.local(self.output)) as file:
            return file.read()

    def to_text(self) -> str:
        """Return the evaluation and the counts, for a terminal."""
        errors = ", ".join(f"{count} {code}" for code, count in self.errors.most_common())
        counts = (
            f"{self.rows} rows: {self.tagged} tagged, {self.review} to review, {self.errors.total()} errors"
            f"{f' ({errors})' if errors else ''}; {self.images_per_second:.0f} images/s"
        )
        if self.busy:
            stage, share = max(self.busy.items(), key=lambda item: item[1])
            fallback = f", {self.fallback_images} by the fallback" if self.fallback_images else ""
            counts += f"; {self.encoded_images} encoded{fallback}; limited by: {stage} ({share:.0%} busy)"
        if uncalibrated := [name for name, kind in self.confidence.items() if kind == "uncalibrated"]:
            counts += f"\nconfidence: uncalibrated ({', '.join(uncalibrated)}); see `tagger calibrate`"
        for name, one in self.guarantees.items():
            of_each = ", each label's" if one["per_label"] else ""
            counts += f"\nprecision of {name} where it needs no review{of_each}: {one['target_precision']:g} or more, "
            counts += f"with confidence {one['confidence']:g}"
        if self.changed_labels:
            shares = (f"{name} {one.changed} of {one.rows} rows" for name, one in self.changed_labels.items())
            counts += f"\nlabels changed since {one_line(self.previous or '')}: {', '.join(shares)}"
        for line in self.drift.warnings():
            counts += f"\ndrift: {line}"
        for gate in self.gates:
            counts += f"\n{'passed' if gate.passed else 'failed'}: {gate.to_text()}"
        return f"{self.evaluation.to_text()}\n\n{counts}" if self.evaluation else counts

    def to_json(self) -> str:
        evaluation = self.evaluation.to_dict() if self.evaluation else None
        changed = {name: asdict(one) for name, one in self.changed_labels.items()}
        gates = [asdict(gate) for gate in self.gates]
        values = {"output": str(self.output), "evaluation": evaluation, "changed_labels": changed, "gates": gates}
        values["drift"] = self.drift.to_dict()
        return to_json({**vars(self), **values})
