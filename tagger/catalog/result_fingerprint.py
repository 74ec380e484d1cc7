"""Tell results apart by the answers in them, whatever has been done to the other columns since."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tagger.catalog.review_table import HASH_CHARACTERS
from tagger.catalog.schemas import tagger_metadata


class ResultFingerprint:
    """Hashes what a result says about one attribute: labels and confidences, row by row, model and taxonomy.

    So it is the same after truth has been written into the result.
    """

    def __init__(self, schema: pa.Schema, attribute: str) -> None:
        described = tagger_metadata(schema)
        [labels] = [item["labels"] for item in described["attributes"] if item["name"] == attribute]
        about = [attribute, labels, described.get("model"), described.get("taxonomy")]
        self.columns = (f"{attribute}_label", f"{attribute}_confidence")
        self._labels = pa.array(labels, pa.string())
        self._digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())

    def update(self, batch: pa.RecordBatch) -> None:
        """Add rows, of which `columns` count."""
        label, confidence = (batch.column(name) for name in self.columns)
        rows = np.empty(len(batch), [("label", np.int32), ("confidence", np.float32)])  # row by row, however they are cut
        rows["label"] = pc.fill_null(pc.index_in(label, self._labels), -1).to_numpy(zero_copy_only=False)
        rows["confidence"] = pc.fill_null(confidence, -1).to_numpy(zero_copy_only=False)
        self._digest.update(rows.tobytes())

    def result(self) -> str:
        """Return the hash in hexadecimal."""
        return self._digest.hexdigest()[:HASH_CHARACTERS]
