"""`tagger evaluate`: a result that was written before -> its evaluation; the public Python API."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from tagger.catalog.manifest import bytes_per_row, rows_per_shard
from tagger.catalog.object_storage import Workspace
from tagger.catalog.results import open_results
from tagger.catalog.sandbox import read_elsewhere
from tagger.catalog.schemas import tagger_metadata
from tagger.core.errors import UsageError
from tagger.evaluation.metrics import Evaluation, Evaluator


def evaluate(results: str | Path, attributes: Sequence[str] = ()) -> Evaluation:
    """Evaluate the rows of a result file that carry ground truth; all attributes that have a truth column, or those named.

    Raises ManifestError if it is not a result of tagger, UsageError if there is nothing to evaluate.
    """
    with Workspace() as space:
        file = space.local(results)
        read_elsewhere(file)
        return _evaluate(results, file, attributes)


def _evaluate(results: str | Path, copy: Path, attributes: Sequence[str]) -> Evaluation:
    with open_results(copy) as file:
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
        sets = {name: described[name]["prediction_sets"] for name in chosen if "prediction_sets" in described[name]}
        unknown = [name for name in chosen if "unknown" in described[name]]
        evaluator = Evaluator(chosen, sets, unknown)
        columns = [column for name, (truth, _) in chosen.items() for column in (truth, f"{name}_label", f"{name}_source")]
        columns += [f"{name}_set" for name in sets]
        columns += [f"{name}_known" if name in unknown else f"{name}_confidence" for name in chosen]
        for batch in file.iter_batches(rows_per_shard(bytes_per_row([file.metadata])), columns=columns):
            evaluator.update(pa.Table.from_batches([batch]))
    return evaluator.result()
