"""What a run did, as it is written to summary.json and shown on a terminal."""

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
from tagger.evaluation.changes import Changed
from tagger.evaluation.gates import GateResult
from tagger.evaluation.metrics import Evaluation


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What summary.json holds (summary.schema.json); `errors` is code -> rows, `evaluation` is None where no attribute has a
    truth column.

    `output` is where the results are: at the place that was asked for if they are `published`, else aside; a URL on an object
    store. `exit_code` is 0, or 3 where one of the `gates` failed. `previous`: the earlier result that `changed_labels` are
    counted against, by attribute; empty without one, or where rows cannot be matched. `busy` is each stage's share of the time
    that it had. `confidence`: of each attribute, "calibrated" or "uncalibrated". `fallback_images`: what the fallback's encoder
    has seen.
    """

    schema_version: int = 2
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
    encoded_images: int = 0
    fallback_images: int = 0
    images_per_second: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)
    peak_memory_bytes: int = 0
    evaluation: Evaluation | None = None
    previous: str | None = None
    changed_labels: Mapping[str, Changed] = field(default_factory=dict)
    gates: Sequence[GateResult] = ()

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
        if self.changed_labels:
            shares = (f"{name} {one.changed} of {one.rows} rows" for name, one in self.changed_labels.items())
            counts += f"\nlabels changed since {one_line(self.previous or '')}: {', '.join(shares)}"
        for gate in self.gates:
            counts += f"\n{'passed' if gate.passed else 'failed'}: {gate.to_text()}"
        return f"{self.evaluation.to_text()}\n\n{counts}" if self.evaluation else counts

    def to_json(self) -> str:
        evaluation = self.evaluation.to_dict() if self.evaluation else None
        changed = {name: asdict(one) for name, one in self.changed_labels.items()}
        gates = [asdict(gate) for gate in self.gates]
        values = {"output": str(self.output), "evaluation": evaluation, "changed_labels": changed, "gates": gates}
        return to_json({**vars(self), **values})
