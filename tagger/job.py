"""One run, from manifest to evaluated results; the public Python API that the command line calls."""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import filelock
import pyarrow as pa
from tqdm import tqdm

from tagger.catalog.results import ResultsWriter, open_results, write_text
from tagger.catalog.schemas import result_schema, tagger_metadata
from tagger.errors import StoppedError, UsageError
from tagger.evaluation.metrics import Evaluation, Evaluator
from tagger.plan import Plan, gather_settings, make_plan
from tagger.tagging.taxonomy import taxonomy_hash

log = logging.getLogger(__name__)

BATCH_SIZE = 32


@dataclass(kw_only=True)
class RunSummary:
    """What summary.json holds; `errors` is code -> rows, `evaluation` is None where no attribute has a truth column."""

    schema_version: int = 1
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    output: Path
    settings: dict[str, Any]
    model: dict[str, Any]
    rows: int
    tagged: int = 0
    review: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    encoded_images: int = 0
    images_per_second: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=dict)
    peak_memory_bytes: int = 0
    evaluation: Evaluation | None = None

    def read(self) -> pa.Table:
        """The results, whole."""
        with open_results(self.output) as file:
            return file.read()

    def to_text(self) -> str:
        """The evaluation and the counts, for a terminal."""
        errors = ", ".join(f"{count} {code}" for code, count in self.errors.most_common())
        counts = (
            f"{self.rows} rows: {self.tagged} tagged, {self.review} to review, {self.errors.total()} errors"
            f"{f' ({errors})' if errors else ''}; {self.images_per_second:.0f} images/s"
        )
        return f"{self.evaluation.to_text()}\n\n{counts}" if self.evaluation else counts

    def to_json(self) -> str:
        evaluation = self.evaluation.to_dict() if self.evaluation else None
        values = {**vars(self), "output": str(self.output), "evaluation": evaluation}
        return json.dumps(values, indent=2, ensure_ascii=False)


def run(
    manifest: str | Path,
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    output: str | Path | None = None,
    labels: Sequence[str] | None = None,
    model: str | Path | None = None,
    revision: str | None = None,
    image_column: str | None = None,
    image_root: str | Path | None = None,
    device: str | None = None,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    in_place: bool = False,
    progress: bool = False,
) -> RunSummary:
    """Tag every row of `manifest` (a Parquet file, a folder of them or a glob) and write the results to `output`.

    config: a tagger.toml or its content; the other options beat it. limit: only the first rows. in_place: write the tags
    into the manifest file itself. workers: processes that decode images, chosen where None. Until the end nothing appears
    at `output`. Raises the errors of errors.py.
    """
    name = str(manifest)
    settings = gather_settings(name, config, model, revision, image_column, image_root)
    plan = make_plan(name, settings, labels=labels, output=output, limit=limit, overwrite=overwrite, in_place=in_place)
    summary = RunSummary(
        output=plan.output,
        settings=plan.settings.model_dump(mode="json", by_alias=True),
        model={"name": settings.model.name, "revision": settings.model.revision},
        rows=plan.rows,
    )
    try:
        plan.run_folder.mkdir(exist_ok=True)
        with filelock.FileLock(plan.run_folder / "lock", timeout=0):
            if plan.rows:
                _tag(plan, summary, device, batch_size, workers, progress)
            else:
                log.warning("%s: no rows; the results are empty", name)
                with ResultsWriter(plan.output, plan.run_folder, _result_schema(plan, summary.model)) as writer:
                    writer.commit()
            write_text(plan.run_folder / "summary.json", summary.to_json())
    except filelock.Timeout as error:
        raise StoppedError(f"{plan.output}: another run is writing it; run again when that has ended") from error
    except OSError as error:
        raise StoppedError(
            f"{plan.output}: expected to write results, found: {error.strerror or error}; nothing was published; free the "
            "disk, or correct the permissions of its folder, and run again"
        ) from error
    return summary


def evaluate(results: str | Path, attributes: Sequence[str] = ()) -> Evaluation:
    """Evaluate the rows of a result file that carry ground truth; all attributes that have a truth column, or those named.

    Raises ManifestError if it is not a result of tagger, UsageError if there is nothing to evaluate.
    """
    with open_results(Path(results)) as file:
        described = {item["name"]: item for item in tagger_metadata(file.schema_arrow)["attributes"]}
        for name in attributes:
            if name not in described:
                raise UsageError(f"{results}: expected attribute {name}, found {', '.join(described)}; correct --attribute")
        chosen = {
            name: (item["truth_column"], item["labels"])
            for name, item in described.items()
            if item["truth_column"] and (not attributes or name in attributes)
        }
        if not chosen:
            raise UsageError(
                f"{results}: expected an attribute with a truth column, found none; set truth_column in tagger.toml and tag again"
            )
        evaluator = Evaluator(chosen)
        columns = [column for name, (truth, _) in chosen.items() for column in (truth, f"{name}_label")]
        for batch in file.iter_batches(columns=columns):
            evaluator.update(pa.Table.from_batches([batch]))
    return evaluator.result()


def _tag(plan: Plan, summary: RunSummary, device: str | None, batch_size: int, workers: int | None, progress: bool) -> None:
    """Load, tag, write and evaluate; fills in the summary."""
    # torch and transformers take seconds to import: only now that everything else is known to be right.
    from tagger.engines.local import Stages, choose_workers, tag_shards
    from tagger.predictor import load_predictor

    began = time.perf_counter()
    model = plan.settings.model
    predictor = load_predictor(model.name, model.revision, model.precision, device, plan.attributes, batch_size)
    summary.model["fingerprint"] = predictor.encoder.fingerprint
    schema = _result_schema(plan, summary.model)
    summary.model["device"] = str(predictor.encoder.device)
    if workers is None:
        workers = choose_workers(plan.rows, batch_size, predictor.encoder.device)
    truths = {a.name: (a.truth_column, a.label_names) for a in plan.attributes if a.truth_column}
    evaluator, stages, writing = Evaluator(truths), Stages(), 0.0
    ready = time.perf_counter()
    with (
        ResultsWriter(plan.output, plan.run_folder, schema) as writer,
        tqdm(total=plan.rows, unit="image", disable=not (progress and sys.stderr.isatty())) as bar,
    ):
        for shard in tag_shards(plan.manifest, schema, predictor, plan.root, workers, plan.rows, stages, bar.update):
            start = time.perf_counter()
            writer.write(shard.table)
            evaluator.update(shard.table)
            summary.encoded_images += shard.encoded
            summary.review += shard.review
            summary.errors.update(error.code for error in shard.errors)
            bar.set_postfix(errors=summary.errors.total(), refresh=False)
            writing += time.perf_counter() - start
        start = time.perf_counter()
        writer.commit()
        writing += time.perf_counter() - start
    seconds = time.perf_counter() - ready
    summary.tagged = plan.rows - summary.review - summary.errors.total()
    summary.images_per_second = plan.rows / seconds
    summary.stage_seconds = {"load_model": ready - began, **asdict(stages), "write": writing, "total": seconds}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    summary.peak_memory_bytes = peak if sys.platform == "darwin" else peak * 1024  # kilobytes, but on macOS
    summary.evaluation = evaluator.result() if truths else None


def _result_schema(plan: Plan, model: Mapping[str, Any]) -> pa.Schema:
    attributes = [{"name": a.name, "labels": a.label_names, "truth_column": a.truth_column} for a in plan.attributes]
    taxonomy = taxonomy_hash(plan.attributes)
    described = {"version": version("tagger"), "model": dict(model), "taxonomy": taxonomy, "attributes": attributes}
    return result_schema(plan.manifest.schema, [a.name for a in plan.attributes], described)
