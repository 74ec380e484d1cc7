"""Logits -> decisions: the best labels, their confidences, and whether a person should look."""

from __future__ import annotations

from torch import Tensor

from tagger.tagging.taxonomy import Attribute
from tagger.types import Decision

TOP_K = 5


def decide(logits: Tensor, attribute: Attribute, source: str) -> Decision:
    """Softmax of logits float32 (N, K) and the TOP_K best labels of each image (all K where there are fewer)."""
    # A stable sort: labels that tie keep the order they were given in, on every device.
    confidence, top = logits.softmax(1).sort(dim=1, descending=True, stable=True)
    confidence, top = confidence[:, :TOP_K], top[:, :TOP_K]
    best = confidence[:, 0].tolist()
    below = attribute.review_below
    review = tuple(
        f"low-confidence: {attribute.name} {value:.3f} is below {below:g}" if value < below else None for value in best
    )
    return Decision(top=top.cpu().numpy(), confidence=confidence.cpu().numpy(), review=review, source=source)
