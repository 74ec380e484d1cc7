"""Count how a result's labels, confidences, errors and embeddings are distributed, for comparison with another night's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tagger.catalog.embedding_moments import read_moments
from tagger.catalog.manifest import READ_BUFFER
from tagger.catalog.schemas import EMBEDDINGS_KEY, tagger_metadata
from tagger.core.files import reason
from tagger.core.moments import Moments
from tagger.evaluation.changes import NotCompared

BATCH = 1 << 16  # rows that are read together
BINS = 100  # of a confidence, equally wide from 0 to 1


class Distributions:
    """Counts rows of a result, batch by batch; memory does not grow with their number.

    attributes: name -> labels. rows, errors: how many. labels: attribute -> int64 (K,), rows of each label. confidences:
    attribute -> int64 (BINS,). confidence_sums: attribute -> the sum of its confidences. weights: the fingerprint of the model,
    None where it is not known. embeddings: the moments of those of the rows without an error, None where a part lacks them.
    """

    def __init__(self, attributes: Mapping[str, Sequence[str]]) -> None:
        self.attributes = {name: tuple(labels) for name, labels in attributes.items()}
        self.rows = self.errors = 0
        self.labels: dict[str, NDArray[np.int64]] = {name: np.zeros(len(labels), np.int64) for name, labels in attributes.items()}
        self.confidences: dict[str, NDArray[np.int64]] = {name: np.zeros(BINS, np.int64) for name in attributes}
        self.confidence_sums = dict.fromkeys(attributes, 0.0)
        self.weights: str | None = None
        self.embeddings: Moments | None = None
        self._lacking = False

    def update(self, table: pa.Table) -> None:
        """Add rows of a result, or a part of one, whose metadata has the moments of its embeddings.

        table: tag_status, `<attribute>_label` and `<attribute>_confidence`.
        """
        part = (table.schema.metadata or {}).get(EMBEDDINGS_KEY)
        self._lacking |= part is None
        if part is None or self._lacking:
            self.embeddings = None
        else:
            moments = Moments.from_json(part)
            self.embeddings = moments if self.embeddings is None else self.embeddings + moments
        self.weights = tagger_metadata(table.schema).get("model", {}).get("fingerprint")
        self.rows += len(table)
        self.errors += pc.sum(pc.equal(table["tag_status"], "error")).as_py() or 0
        for name, labels in self.attributes.items():
            found = pc.index_in(table[f"{name}_label"], pa.array(labels, pa.string()))
            self.labels[name] += np.bincount(pc.drop_null(found).to_numpy(), minlength=len(labels))
            confidence = pc.drop_null(table[f"{name}_confidence"]).to_numpy().astype(np.float64)
            number = np.clip((confidence * BINS).astype(np.int64), 0, BINS - 1)
            self.confidences[name] += np.bincount(number, minlength=BINS)
            self.confidence_sums[name] += float(confidence.sum())


def read_distributions(result: Path, attributes: Sequence[str]) -> Distributions | NotCompared:
    """Count the rows of a result that was written before, by those of the attributes that it has, or say why not."""
    try:
        with pq.ParquetFile(result, buffer_size=READ_BUFFER, pre_buffer=False) as file:
            described = {item["name"]: item["labels"] for item in tagger_metadata(file.schema_arrow)["attributes"]}
            found = Distributions({name: described[name] for name in attributes if name in described})
            columns = [f"{name}_{what}" for name in found.attributes for what in ("label", "confidence")]
            for batch in file.iter_batches(BATCH, columns=["tag_status", *columns]):
                found.update(pa.Table.from_batches([batch]))
    except (OSError, pa.ArrowException, LookupError) as error:
        return NotCompared(f"the earlier result cannot be read: {reason(error)}", unreadable=True)
    found.embeddings = read_moments(result)
    return found
