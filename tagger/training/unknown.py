"""Labelled rows, some of which fit no label (strangers) -> the score under which an image is none of the labels."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from tagger.settings.attributes import Attribute
from tagger.tagging.calibration import Classifier, UnknownThreshold
from tagger.tagging.unknown import PosteriorScore
from tagger.training.gaussian_head import gaussian_layer

log = logging.getLogger(__name__)

RECALL = 0.95  # of the known rows, the share that keeps its label
FOLDS = 5
LEAST_STRANGERS = 10  # to fit classifiers: with fewer, luck would choose between them and the prompts
INVERSE_STRENGTH = 10.0  # of the logistic regression's penalty; between 2 and 20 strangers are told as well


class Strangers(NamedTuple):
    """An attribute's rows that have a truth value: embeddings float32 (N, D), and kind int64 (N,).

    kind: indices of its labels, then those of truth values that are none. scores: float32 (N,), those of the rule by prompts.
    """

    embeddings: NDArray[np.float32]
    kind: NDArray[np.int64]
    scores: NDArray[np.float32]


def fit_unknown(attribute: Attribute, rows: Strangers, seed: int, where: str) -> UnknownThreshold | None:
    """Choose score and threshold: the score that tells strangers better on rows that did not fit it, by AUROC.

    Classifiers are judged on each of FOLDS parts of the rows after they were fitted on the others. The threshold keeps RECALL of
    the known; None, with a warning, without known rows. With fewer than LEAST_STRANGERS the score is that by prompts.
    """
    labels = len(attribute.labels)
    known = rows.kind < labels
    strangers = int((~known).sum())
    present, counts = np.unique(rows.kind[known], return_counts=True)
    if not len(present):
        log.warning("%s: unknown: expected rows with a label, found none; the default threshold is kept", where)
        return None
    scores, auroc = rows.scores, dict[str, float]()
    fitted: tuple[Classifier, ...] = ()
    if strangers:
        auroc["prompts"] = float(roc_auc_score(known, scores))
    if strangers >= LEAST_STRANGERS and len(present) == labels and counts.min() >= FOLDS:
        kind = _with_rare_together(rows.kind, labels)
        held_out = _held_out_scores(rows.embeddings, kind, labels, seed)
        auroc["strangers"] = float(roc_auc_score(known, held_out))
        if auroc["strangers"] > auroc["prompts"]:
            scores, fitted = held_out, fit_classifiers(rows.embeddings, kind)
    elif strangers:
        log.warning(
            "%s: unknown: expected at least %d rows that fit no label and %d of each label to fit on, found %d and %d of "
            "the rarest; the score by prompts is kept",
            where,
            LEAST_STRANGERS,
            FOLDS,
            strangers,
            counts.min() if len(present) == labels else 0,
        )
    below = float(np.quantile(scores[known], 1 - RECALL, method="lower"))
    return UnknownThreshold(
        method="strangers" if fitted else "prompts",
        below=below,
        negative_labels=attribute.negative_labels,
        classifiers=fitted,
        known=int(known.sum()),
        strangers=strangers,
        auroc=auroc,
        recall=float((scores[known] >= np.float32(below)).mean()),
        found=float((scores[~known] < np.float32(below)).mean()) if strangers else None,
    )


def fit_classifiers(embeddings: NDArray[np.float32], kind: NDArray[np.int64]) -> tuple[Classifier, ...]:
    """Fit Gaussian discriminant analysis and logistic regression, whose errors differ, so that their mean is better than either.

    embeddings: float32 (N, D). kind: int64 (N,), each of 0 to K - 1 twice or more.
    """
    logistic = LogisticRegression(C=INVERSE_STRENGTH, max_iter=1000).fit(embeddings.astype(np.float64), kind)
    return gaussian_classifier(embeddings, kind), _classifier(logistic.coef_, logistic.intercept_)


def gaussian_classifier(embeddings: NDArray[np.float32], kind: NDArray[np.int64]) -> Classifier:
    """Fit class means and one covariance, as `gaussian_layer` says; it needs neither a choice nor more rows than dimensions."""
    rows = torch.from_numpy(embeddings).double()
    means = torch.stack([rows[torch.from_numpy(kind == one)].mean(0) for one in range(kind.max() + 1)])
    weight, bias = gaussian_layer(means, rows - means[torch.from_numpy(kind)])
    return _classifier(weight.numpy(), bias.numpy())


def _classifier(weight: NDArray[np.float64], bias: NDArray[np.float64]) -> Classifier:
    # As float32, in which a run computes, and with as few digits as say so.
    rounded = [[float(f"{value:.9g}") for value in row] for row in weight.tolist()]
    return Classifier(weight=tuple(map(tuple, rounded)), bias=tuple(float(f"{value:.9g}") for value in bias.tolist()))


def posteriors(fitted: tuple[Classifier, ...], labels: int, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return float32 (N,), the score of each embedding by the classifiers."""
    classifiers = [(np.array(one.weight, np.float32), np.array(one.bias, np.float32)) for one in fitted]
    return PosteriorScore(classifiers, labels)(embeddings)


def _held_out_scores(embeddings: NDArray[np.float32], kind: NDArray[np.int64], labels: int, seed: int) -> NDArray[np.float32]:
    scores = np.empty(len(kind), np.float32)
    for learn, judge in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(embeddings, kind):
        scores[judge] = posteriors(fit_classifiers(embeddings[learn], kind[learn]), labels, embeddings[judge])
    return scores


def _with_rare_together(kind: NDArray[np.int64], labels: int) -> NDArray[np.int64]:
    """Return the kinds numbered without gaps, truth values outside the labels with fewer than FOLDS rows as one kind.

    Where that kind, too, has fewer, it is joined with the rarest of the others.
    """
    counts = np.bincount(kind)
    rare = (np.arange(len(counts)) >= labels) & (counts < FOLDS)
    frequent = [one for one in range(labels, len(counts)) if not rare[one]]
    if 0 < counts[rare].sum() < FOLDS and frequent:
        rare[min(frequent, key=lambda one: counts[one])] = True
    _, numbered = np.unique(np.where(rare[kind], len(counts), kind), return_inverse=True)
    return numbered.astype(np.int64)
