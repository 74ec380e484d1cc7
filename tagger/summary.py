"""What a run did, as it is written to summary.json and shown on a terminal."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from tagger.catalog.results import open_results
from tagger.catalog.storage import Workspace
from tagger.evaluation.metrics import Evaluation
from tagger.text import to_json


@dataclass(kw_only=True)
class RunSummary:
    """What summary.json holds; `errors` is code -> rows, `evaluation` is None where no attribute has a truth column.

    `output` is a URL where the results are on an object store. `busy` is each stage's share of the time that it had.
    `confidence`: of each attribute, "calibrated" or "uncalibrated". `fallback_images`: what the fallback's encoder has seen.
    """

    schema_version: int = 1
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    output: Path | str
    settings: dict[str, Any]
    model: dict[str, Any]
    rows: int
    tagged: int = 0
    review: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    confidence: dict[str, str] = field(default_factory=dict)
    encoded_images: int = 0
    fallback_images: int = 0
    images_per_second: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)
    peak_memory_bytes: int = 0
    evaluation: Evaluation | None = None

    def read(self) -> pa.Table:
        """The results, whole."""
        with Workspace() as space, open_results(space.local(self.output)) as file:
            return file.read()

    def to_text(self) -> str:
        """The evaluation and the counts, for a terminal."""
        errors = ", ".join(f"{count} {code}" for code, count in self.errors.most_common())
        counts = (
            f"{self.rows} rows: {self.tagged} tagged, {self.review} to review, {self.errors.total()} errors"
            f"{f' ({errors})' if errors else ''}; {self.images_per_second:.0f} images/s"
        )
        if self.busy:
            stage, share = max(self.busy.items(), key=lambda item: item[1])
            fallback = f", {self.fallback_images} by the fallback" if self.fallback_images else ""
            counts += f"; {self.encoded_images} encoded{fallback}; limited by: {stage} ({share:.0%} busy)"
        if loose := [name for name, kind in self.confidence.items() if kind == "uncalibrated"]:
            counts += f"\nconfidence: uncalibrated ({', '.join(loose)}); see `tagger calibrate`"
        return f"{self.evaluation.to_text()}\n\n{counts}" if self.evaluation else counts

    def to_json(self) -> str:
        evaluation = self.evaluation.to_dict() if self.evaluation else None
        values = {**vars(self), "output": str(self.output), "evaluation": evaluation}
        return to_json(values)
