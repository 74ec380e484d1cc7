"""Keep the sketches of images (encoders/sketch.py) beside their tags, for the report, the review and the next night."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from tagger.core.files import removed_on_failure

SKETCHES, REJECTED_SKETCHES = "sketches.npy", "sketches.rejected.npy"  # in the run folder
SUFFIX = ".sketches.npy"  # of a part's, in place of .parquet


def write_sketches(path: Path, sketches: NDArray[np.float16]) -> None:
    """Write float16 (N, S) whole or not at all. Raises OSError."""
    with removed_on_failure(path.with_name(f"{uuid4().hex}.tmp")) as temporary:
        with temporary.open("wb") as file:
            # As np.save does, but that tells a full disk as "2048 requested and 1984 written".
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(sketches))
            file.write(np.ascontiguousarray(sketches).data)
        temporary.replace(path)


def read_sketches(path: Path, rows: int) -> NDArray[np.float16] | None:
    """Read the sketches of so many rows, float16 (rows, S), NaN for rows without; None where there are none, or others."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.dtype == np.float16 and found.ndim == 2 and len(found) == rows else None
