"""Results whose truth holds values outside the labels -> how well a score tells such rows, strangers, from the known ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

BINS = 1 << 16  # of scores from 0 to 1: what differs by less counts as the same, and memory does not grow with the rows
RECALL = 0.95


@dataclass(frozen=True, kw_only=True)
class UnknownEvaluation:
    """How well strangers, rows whose truth value is no label, are told from known rows, whose truth value is one.

    score: "known" where the attribute has `unknown`, else "confidence". auroc: the probability that a known row has a higher
    score than a stranger. fpr_at_95_recall: the share of strangers that are taken for known where 95 % of the known are kept.
    found, known_to_review: the shares of the strangers, and of the known, that got no label; None without `unknown`.
    """

    score: str
    known: int
    strangers: int
    auroc: float
    fpr_at_95_recall: float
    found: float | None
    known_to_review: float | None

    def to_text(self) -> str:
        """Return one line."""
        rows = f"{self.known} known rows and {self.strangers} that fit no label"
        text = f"none of these: AUROC {self.auroc:.3f}, FPR at 95 % recall {self.fpr_at_95_recall:.1%} by {self.score} on {rows}"
        if self.found is None or self.known_to_review is None:
            return text
        return f"{text}; {self.found:.1%} of these were found, {self.known_to_review:.1%} of the known sent to review"


def tell_apart(scores: NDArray[np.floating], known: NDArray[np.bool_], weights: NDArray[np.int64]) -> tuple[float, float]:
    """Return AUROC and the false positive rate at 95 % recall of the known, by scikit-learn.

    scores (N,), known (N,); weights: int64 (N,), rows that each stands for, some of them known and some not.
    """
    from sklearn.metrics import roc_auc_score, roc_curve  # it takes a usual night longer to import than it lasts

    auroc = float(roc_auc_score(known, scores, sample_weight=weights))
    false, recalled, _ = roc_curve(known, scores, sample_weight=weights, drop_intermediate=False)
    return auroc, float(false[np.searchsorted(recalled, RECALL - 1e-12)])


class UnknownCount:
    """Counts an attribute's scores, some rows after others. judged: whether the attribute has `unknown`."""

    def __init__(self, judged: bool) -> None:
        self._judged = judged
        self._scores = np.zeros((2, BINS), np.int64)  # of strangers, of the known
        self._review = np.zeros(2, np.int64)

    def update(self, scores: pa.ChunkedArray, labels: pa.ChunkedArray, known: NDArray[np.bool_]) -> None:
        """Add rows that have a truth value: scores, null where an image has an error, and labels; known: bool (N,)."""
        there = pc.is_valid(scores).to_numpy()
        numbers = np.clip(scores.filter(pc.is_valid(scores)).to_numpy().astype(np.float64) * BINS, 0, BINS - 1).astype(np.int64)
        no_label = pc.is_null(labels).to_numpy()[there]
        for kind in (0, 1):
            of_kind = known[there] == kind
            self._scores[kind] += np.bincount(numbers[of_kind], minlength=BINS)
            self._review[kind] += int(no_label[of_kind].sum())

    def result(self) -> UnknownEvaluation | None:
        """Return what was counted; None without known rows or without strangers."""
        strangers, known = self._scores.sum(1).tolist()
        if not strangers or not known:
            return None
        kinds, scores = np.nonzero(self._scores)
        auroc, false = tell_apart(scores.astype(np.float64), kinds == 1, self._scores[kinds, scores])
        found, lost = (self._review / (strangers, known)).tolist() if self._judged else (None, None)
        return UnknownEvaluation(
            score="known" if self._judged else "confidence",
            known=known,
            strangers=strangers,
            auroc=auroc,
            fpr_at_95_recall=false,
            found=found,
            known_to_review=lost,
        )
