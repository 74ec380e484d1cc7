"""Choose the probability from which on a label belongs to an image's prediction set, so that most sets hold the right label.

By split conformal prediction (Vovk, Gammerman and Shafer 2005). Of n held-out rows and a new one, drawn alike, each is as likely
as any other to give its right label the lowest probability, the second lowest, and so on, whatever the model. A set has the
labels that are at least as probable as the k-th highest of the probabilities that the n rows give to their right labels, with
k = (n + 1) * coverage, rounded up; so it holds the new row's right label with probability k / (n + 1) or more. That is a share of
all new rows over all draws of held-out rows: after one draw it lies around the coverage, with a standard deviation of about
sqrt(coverage * (1 - coverage) / n).

These are the "least ambiguous sets" of Sadinle, Lei and Wasserman (2019): where the probabilities are the true ones, no other
rule needs fewer labels for that share. Adaptive sets (Romano, Sesia and Candès 2020; Angelopoulos et al. 2021) spread the
misses more evenly over easy and hard images, and pay with larger sets: a reviewer's time is in their size.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

# Of a probability: a run computes it in fp32 and in another order, and the row that chose it is not to be lost by that.
SLACK = 1e-4


def choose_set_threshold(of_truth: NDArray[np.float32], coverage: float) -> float | None:
    """Return the threshold, a float32; None where so few rows can promise the coverage only of sets that have all labels.

    of_truth: float32 (N,), the probability that each held-out row gives to its right label.
    """
    rank = math.ceil((len(of_truth) + 1) * _exact(coverage))
    if rank > len(of_truth):
        return None
    return float(np.float32((1 - SLACK) * np.sort(of_truth)[-rank]))


def rows_for_sets(coverage: float) -> int:
    """Return how many held-out rows can promise this coverage at the least."""
    return math.ceil(_exact(coverage) / (1 - _exact(coverage)))


def _exact(coverage: float) -> Fraction:
    """Return the share as it is written: 0.9 is nine tenths, so that 9 rows are enough for it."""
    return Fraction(str(coverage))
