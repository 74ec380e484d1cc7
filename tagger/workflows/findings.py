"""What a finished run shows beside its figures: nearly the same pictures, and truth that looks wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tagger.catalog.results import REJECTED
from tagger.catalog.sketch_files import REJECTED_SKETCHES, SKETCHES, read_sketches
from tagger.catalog.truth import TruthReader
from tagger.catalog.truth_column import BY
from tagger.core import shutdown
from tagger.evaluation.duplicates import near_duplicates
from tagger.evaluation.label_errors import LabelErrors, can_suspect
from tagger.settings.attributes import Attribute
from tagger.workflows.finished_run import FinishedRun

BATCH = 1 << 16  # rows that are looked at together


def picture_groups(run: FinishedRun, rows: int, compared: int | None = None) -> NDArray[np.int64] | None:
    """Return int64 (rows,), the same for nearly the same pictures, -1 for rows without; None where the run kept no sketches.

    compared: only the first so many rows are, int64 (compared,) is returned; default: all.
    """
    if not isinstance(run.folder, Path):
        return None
    rejected = str(run.place).endswith(REJECTED)
    sketches = read_sketches(run.folder / (REJECTED_SKETCHES if rejected else SKETCHES), rows)
    return None if sketches is None else near_duplicates(sketches[:compared])


def largest_groups(groups: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    """Return the rows of the largest groups, int64 each, ascending: up to `count` of those that have more than one row."""
    sizes = np.bincount(groups[groups >= 0])
    largest = np.argsort(-sizes, kind="stable")[:count]
    return [np.flatnonzero(groups == number) for number in largest if sizes[number] > 1]


def suspicious_truth(run: FinishedRun, file: pq.ParquetFile, attribute: Attribute) -> NDArray[np.int64]:
    """Return int64 (N,), the rows whose truth the model confidently denies, the worst first; none without cleanlab.

    What a person has said in a review is not doubted again.
    """
    truth, name = attribute.truth_column, attribute.name
    if truth is None or truth not in file.schema_arrow.names or not can_suspect():
        return np.empty(0, np.int64)
    found, reader, start = LabelErrors(name, attribute.label_names), TruthReader(attribute.label_names), 0
    by = truth + BY if truth + BY in file.schema_arrow.names else None
    columns = [truth, f"{name}_label", f"{name}_top", *filter(None, [by])]
    for batch in file.iter_batches(BATCH, columns=list(dict.fromkeys(columns))):
        shutdown.check_late()
        targets = np.asarray(reader.read_column(batch, truth).fill_null(-1), np.int64)
        if by is not None:
            targets = np.where(batch.column(by).is_valid().to_numpy(zero_copy_only=False), -1, targets)
        found.update(pa.Table.from_batches([batch]), targets, start)
        if found.is_full:
            break
        start += len(batch)
    return found.find()
