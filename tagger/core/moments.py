"""Add up vectors to their count, sum and sum of squares: what means and variances are of, also over parts that were added."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Moments:
    """Of `rows` vectors: the sum and the sum of squares of each coordinate, float64 (D,)."""

    rows: int
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, vectors: NDArray[Any]) -> Moments:
        """Add up vectors (N, D) of any floating type."""
        exact = vectors.astype(np.float64)
        return cls(len(exact), exact.sum(0), np.einsum("nd,nd->d", exact, exact))

    def __add__(self, other: Moments) -> Moments:
        """Return those of both; ValueError where the vectors differ in length."""
        return Moments(self.rows + other.rows, self.sums + other.sums, self.squares + other.squares)

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean of each coordinate, float64 (D,)."""
        return self.sums / self.rows

    @property
    def variance(self) -> NDArray[np.float64]:
        """The unbiased variance of each coordinate, float64 (D,); for two rows or more."""
        exact: NDArray[np.float64] = np.maximum(self.squares - self.rows * self.mean**2, 0) / (self.rows - 1)
        return exact

    def to_json(self) -> str:
        """Return them as JSON, exact to the bit, and half the size of decimal numbers."""
        return json.dumps({"rows": self.rows, "sums": _encode(self.sums), "squares": _encode(self.squares)})

    @classmethod
    def from_json(cls, text: str | bytes) -> Moments:
        """Read what `to_json` has written. Raises ValueError."""
        try:
            values = json.loads(text)
            found = cls(int(values["rows"]), _decode(values["sums"]), _decode(values["squares"]))
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError("expected the moments of vectors") from error
        if found.rows < 0 or found.sums.shape != found.squares.shape:
            raise ValueError("expected the moments of vectors")
        return found


def _encode(values: NDArray[np.float64]) -> str:
    return base64.b64encode(values.astype("<f8").tobytes()).decode()


def _decode(text: str) -> NDArray[np.float64]:
    return np.frombuffer(base64.b64decode(text, validate=True), "<f8").astype(np.float64)
