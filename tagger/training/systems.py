"""The systems that can be compared: what each says of test rows after it has learned from a few others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tagger.inference.predictor import Embeddings, Predictor
from tagger.settings.options import Recipe
from tagger.tagging.decisions import average, log_probabilities
from tagger.training.dataset import Examples
from tagger.training.ensemble import choose_weight
from tagger.training.resnet18 import predict, train
from tagger.training.split import split
from tagger.training.temperature import softmax

ZERO_SHOT, RESNET18, HYBRID = "zero-shot", "resnet18", "hybrid"

Probabilities = NDArray[np.float32]  # (N, K)


class Seen(NamedTuple):
    """Labelled rows as the systems see them. examples: with pixels for the ResNet18 first. embeddings: CLIP's, if it is there."""

    examples: Examples
    embeddings: Embeddings | None


def answers(
    systems: Sequence[str],
    learn: Seen,
    shots: NDArray[np.int64],
    test: Seen,
    tests: NDArray[np.int64],
    *,
    clip: Predictor | None,
    labels: int,
    recipe: Recipe,
    device: torch.device,
    advance: Callable[[], object],
) -> dict[str, Probabilities]:
    """Each system's probabilities, float32 (M, K), of the M rows `tests` of `test`; `shots`: rows of `learn` to learn from.

    The ResNet18 is trained on a part of the shots by the recipe; the others choose its best epoch and the hybrid's weight.
    """
    found: dict[str, Probabilities] = {}
    if clip is not None:
        found[ZERO_SHOT] = _zero_shot(clip, test, tests)
    if RESNET18 in systems or HYBRID in systems:
        truth = learn.examples.truth[shots]
        weights, _ = train(
            learn.examples.pixels[0][torch.from_numpy(shots)], truth, labels, recipe, device, advance=lambda *_: advance()
        )
        own = predict(weights, labels, recipe, test.examples.pixels[0], tests, device)
        found[RESNET18] = softmax(own)
    if HYBRID in systems:
        assert clip is not None
        held = shots[split(truth, recipe.validation, recipe.seed)[1]]
        weight, *temperatures = choose_weight(
            log_probabilities(_zero_shot(clip, learn, held)),
            predict(weights, labels, recipe, learn.examples.pixels[0], held, device),
            learn.examples.truth[held],
        )
        of_clip, of_own = (
            softmax(logits / temperature)
            for logits, temperature in zip((log_probabilities(found[ZERO_SHOT]), own), temperatures, strict=True)
        )
        found[HYBRID] = average(of_clip, of_own, weight, 1.0)
    return {system: found[system] for system in systems}


def for_draw(recipe: Recipe, seed: int) -> Recipe:
    """The recipe with the chance of its own that each draw has."""
    return replace(recipe, seed=seed)


def _zero_shot(clip: Predictor, seen: Seen, rows: NDArray[np.int64]) -> Probabilities:
    assert seen.embeddings is not None
    [probabilities] = clip.probabilities(seen.embeddings[rows])
    return probabilities
