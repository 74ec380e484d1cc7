"""The systems that can be compared: what each says of test rows after it has learned from a few others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from tagger.evaluation.comparison import Answer
from tagger.inference.predictor import Probabilities
from tagger.settings.options import CLIP_SYSTEMS, CLIP_TUNED, HEAD, HEAD_SYSTEMS, HYBRID, RESNET18, ZERO_SHOT, Recipe
from tagger.tagging.decisions import average, log_probabilities
from tagger.tagging.heads import ZeroShotHead
from tagger.training.choose_head import choose_head
from tagger.training.clip_systems import Tunable, prompted, tuned
from tagger.training.dataset import RESNET18 as RESNET18_PIXELS
from tagger.training.dataset import Examples
from tagger.training.ensemble import choose_weight
from tagger.training.few_shot import Draw
from tagger.training.head_methods import METHODS, Head
from tagger.training.labelled_embeddings import LabelledEmbeddings
from tagger.training.resnet18 import Weights, predict, train
from tagger.training.split import split
from tagger.training.temperature import softmax


@dataclass(frozen=True)
class Side:
    """Labelled rows to learn from, or to test with. zero_shot: CLIP's probabilities of them, float32 (N, K), if it is there."""

    examples: Examples
    zero_shot: Probabilities | None


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the systems are to do: learn from rows of one side, and name the label, out of so many, of rows of the other.

    prompts: the head of CLIP's prompts, if CLIP is there. clip: one that may be changed, where a system does that.
    """

    learn: Side
    test: Side
    labels: int
    device: torch.device
    prompts: ZeroShotHead | None
    clip: Tunable | None = None


def answers(systems: Sequence[str], task: Task, drawn: Draw, recipe: Recipe, advance: Callable[[], object]) -> dict[str, Answer]:
    """Return each system's answer about the M test rows that were drawn.

    The ResNet18 is trained by the recipe on a part of the shots; the others choose its best epoch and the hybrid's weight. Heads
    are fitted on the embeddings of all shots. advance: called now and then, and may raise.
    """
    shots, tests = drawn.shots.ravel(), drawn.tests
    found: dict[str, Answer] = {}
    start = perf_counter()
    if ZERO_SHOT in systems:
        found[ZERO_SHOT] = Answer(_zero_shot(task.test, tests), perf_counter() - start)
    if RESNET18 in systems or HYBRID in systems:
        weights = _train(task, shots, recipe, advance)
        logits = predict(weights, task.labels, recipe, task.test.examples.pixels[RESNET18_PIXELS], tests, task.device)
        found[RESNET18] = Answer(softmax(logits), perf_counter() - start)
        if HYBRID in systems:
            found[HYBRID] = Answer(_hybrid(task, drawn, weights, logits, recipe), perf_counter() - start)
    for system in systems:
        if system in HEAD_SYSTEMS:
            advance()
            start = perf_counter()
            head, method = _fit(system, _labelled(task, shots), recipe.seed)
            found[system] = Answer(_apply(head, task.test.examples, tests), perf_counter() - start, method)
        elif system in CLIP_SYSTEMS:
            assert task.clip is not None
            start, sides = perf_counter(), ((task.learn.examples, shots), (task.test.examples, tests))
            if system == CLIP_TUNED:
                found[system] = Answer(tuned(task.clip, *sides, recipe.seed, task.device, advance), perf_counter() - start)
            else:
                found[system] = Answer(prompted(task.clip, *sides, recipe.seed, advance), perf_counter() - start)
    return {system: found[system] for system in systems}


def for_draw(recipe: Recipe, seed: int) -> Recipe:
    """Return the recipe with a seed of its own for each draw."""
    return replace(recipe, seed=seed)


def _zero_shot(side: Side, rows: NDArray[np.int64]) -> Probabilities:
    assert side.zero_shot is not None
    return side.zero_shot[rows]


def _train(task: Task, shots: NDArray[np.int64], recipe: Recipe, advance: Callable[[], object]) -> Weights:
    examples = task.learn.examples
    pixels = examples.pixels[RESNET18_PIXELS][torch.from_numpy(shots)]
    return train(pixels, examples.truth[shots], task.labels, recipe, task.device, advance=lambda *_: advance())[0]


def _hybrid(task: Task, drawn: Draw, weights: Weights, logits: NDArray[np.float32], recipe: Recipe) -> Probabilities:
    """Average CLIP with the ResNet18 of these weights, which gives these logits to the test rows."""
    shots, examples = drawn.shots.ravel(), task.learn.examples
    held_out = shots[split(examples.truth[shots], recipe.validation, recipe.seed)[1]]
    weight, *temperatures = choose_weight(
        log_probabilities(_zero_shot(task.learn, held_out)),
        predict(weights, task.labels, recipe, examples.pixels[RESNET18_PIXELS], held_out, task.device),
        examples.truth[held_out],
    )
    of_clip, of_own = (
        softmax(one / temperature)
        for one, temperature in zip((log_probabilities(_zero_shot(task.test, drawn.tests)), logits), temperatures, strict=True)
    )
    return average(of_clip, of_own, weight, 1.0)


def _labelled(task: Task, shots: NDArray[np.int64]) -> LabelledEmbeddings:
    examples = task.learn.examples
    assert examples.embeddings is not None
    assert task.prompts is not None
    return LabelledEmbeddings.from_engine(examples.embeddings[shots], examples.truth[shots], task.prompts)


def _fit(system: str, rows: LabelledEmbeddings, seed: int) -> tuple[Head, str]:
    """Return a head and the method that fitted it; zero-shot's own where nothing is surely better."""
    if system == HEAD:
        choice = choose_head(rows, seed=seed)
        return choice.head or rows.zero_shot, choice.method
    return METHODS[system](rows, seed), system


def _apply(head: Head, examples: Examples, rows: NDArray[np.int64]) -> Probabilities:
    assert examples.embeddings is not None
    return softmax(head(torch.from_numpy(examples.embeddings[rows]).float()).numpy())
