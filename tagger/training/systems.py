"""The systems that can be compared: what each says of test rows after it has learned from a few others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from tagger.inference.predictor import Probabilities
from tagger.settings.options import Recipe
from tagger.tagging.decisions import average, log_probabilities
from tagger.training.dataset import RESNET18 as RESNET18_PIXELS
from tagger.training.dataset import Examples
from tagger.training.ensemble import choose_weight
from tagger.training.few_shot import Draw
from tagger.training.resnet18 import predict, train
from tagger.training.split import split
from tagger.training.temperature import softmax

ZERO_SHOT, RESNET18, HYBRID = "zero-shot", "resnet18", "hybrid"


@dataclass(frozen=True)
class Side:
    """Labelled rows to learn from, or to test with. zero_shot: CLIP's probabilities of them, float32 (N, K), if it is there."""

    examples: Examples
    zero_shot: Probabilities | None


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the systems are to do: learn from rows of one side, and name the label, out of so many, of rows of the other."""

    learn: Side
    test: Side
    labels: int
    device: torch.device


def answers(
    systems: Sequence[str], task: Task, drawn: Draw, recipe: Recipe, advance: Callable[[], object]
) -> dict[str, Probabilities]:
    """Return each system's probabilities, float32 (M, K), of the M test rows that were drawn.

    The ResNet18 is trained by the recipe on a part of the shots; the others choose its best epoch and the hybrid's weight.
    """
    shots, tests = drawn.shots.ravel(), drawn.tests
    found: dict[str, Probabilities] = {}
    if ZERO_SHOT in systems or HYBRID in systems:
        found[ZERO_SHOT] = _zero_shot(task.test, tests)
    if RESNET18 in systems or HYBRID in systems:
        learn, test = (side.examples.pixels[RESNET18_PIXELS] for side in (task.learn, task.test))
        truth = task.learn.examples.truth[shots]
        of_shots = learn[torch.from_numpy(shots)]
        weights, _ = train(of_shots, truth, task.labels, recipe, task.device, advance=lambda *_: advance())
        own = predict(weights, task.labels, recipe, test, tests, task.device)
        found[RESNET18] = softmax(own)
    if HYBRID in systems:
        held_out = shots[split(truth, recipe.validation, recipe.seed)[1]]
        weight, *temperatures = choose_weight(
            log_probabilities(_zero_shot(task.learn, held_out)),
            predict(weights, task.labels, recipe, learn, held_out, task.device),
            task.learn.examples.truth[held_out],
        )
        of_clip, of_own = (
            softmax(logits / temperature)
            for logits, temperature in zip((log_probabilities(found[ZERO_SHOT]), own), temperatures, strict=True)
        )
        found[HYBRID] = average(of_clip, of_own, weight, 1.0)
    return {system: found[system] for system in systems}


def for_draw(recipe: Recipe, seed: int) -> Recipe:
    """Return the recipe with a seed of its own for each draw."""
    return replace(recipe, seed=seed)


def _zero_shot(side: Side, rows: NDArray[np.int64]) -> Probabilities:
    assert side.zero_shot is not None
    return side.zero_shot[rows]
