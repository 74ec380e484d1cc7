"""Embeddings -> how well each image fits any of the labels, from 0 to 1, and which images fit none of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tagger.core.types import Decision
from tagger.tagging.heads import softmax

Scores = NDArray[np.float32]  # (N,)
Embeddings = NDArray[np.float32]  # (N, D)

# Without labelled rows. Cosines differ from model to model: this was seen with the sample model alone; calibrate others.
DEFAULT_COSINE = 0.2


class UnknownRule(NamedTuple):
    """Find images that are none of the labels: those whose score is under `below`.

    score: float32 (N, D), L2-normalised embeddings -> float32 (N,) from 0 to 1. identity: all that the score depends on
    beside the encoder's weights and the attribute, as a text.
    """

    score: Callable[[Embeddings], Scores]
    below: float
    identity: str


class ConceptScore:
    """Score an image by its nearest label: the largest cosine, negative ones as 0.

    It is maximum concept matching (Ming et al. 2022, equation 1) before the softmax over the labels, which would tell only how
    much nearer the nearest label is than the others: of few labels a hat is much nearer to "shirt" than to "shoes".
    label_embeddings: float32 (K, D), L2-normalised.
    """

    def __init__(self, label_embeddings: Embeddings) -> None:
        self._labels = label_embeddings

    def __call__(self, embeddings: Embeddings) -> Scores:
        """Score embeddings float32 (N, D), L2-normalised, as float32 (N,)."""
        return _share((embeddings @ self._labels.T).max(1))


class NegativeLabelScore:
    """Score an image by the labels' share of the probability among labels and negative labels (Jiang et al. 2024, equation 6).

    label_embeddings: float32 (K, D); negative_embeddings: float32 (M, D), both L2-normalised. logit_scale: the
    model's own, 1 / tau.
    """

    def __init__(self, label_embeddings: Embeddings, negative_embeddings: Embeddings, logit_scale: float) -> None:
        self._labels, self._every = len(label_embeddings), np.concatenate([label_embeddings, negative_embeddings])
        self._logit_scale = np.float32(logit_scale)

    def __call__(self, embeddings: Embeddings) -> Scores:
        """Score embeddings float32 (N, D), L2-normalised, as float32 (N,)."""
        return _share(softmax(self._logit_scale * embeddings @ self._every.T)[:, : self._labels].sum(1))


class PosteriorScore:
    """Score an image by the mean probability that linear classifiers give to the labels, against kinds of strangers.

    classifiers: each weight float32 (K + M, D) and bias float32 (K + M,), of which the first `labels` are the K labels.
    """

    def __init__(self, classifiers: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]], labels: int) -> None:
        self._classifiers, self._labels = tuple(classifiers), labels

    def __call__(self, embeddings: Embeddings) -> Scores:
        """Score embeddings float32 (N, D), L2-normalised, as float32 (N,)."""
        logits = (embeddings @ weight.T + bias for weight, bias in self._classifiers)
        found = [softmax(of_one)[:, : self._labels].sum(1) for of_one in logits]
        return _share(np.mean(found, axis=0, dtype=np.float32))


def _share(scores: Scores) -> Scores:
    return np.clip(scores, np.float32(0), np.float32(1))


def with_unknown(decision: Decision, name: str, known: NDArray[np.float32], below: float) -> Decision:
    """Return the decision with the images that fit no label of attribute `name`: those whose score is under `below`.

    known: float32 (N,), the scores. Their review's reason is that alone.
    """
    unknown = known < below
    reasons = tuple(
        f"unknown: {name} {score:.3f} is below {below:.3f}: none of the labels" if beyond else review
        for score, beyond, review in zip(known.tolist(), unknown.tolist(), decision.review, strict=True)
    )
    return replace(decision, review=reasons, known=known, unknown=unknown)
