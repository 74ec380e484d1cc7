"""The weight with which a model's probabilities are averaged with CLIP's, chosen on validation rows."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from tagger.encoders.resnet18_checkpoint import Ensemble
from tagger.inference.predictor import Predictor
from tagger.settings.attributes import prompts_hash
from tagger.settings.options import Recipe
from tagger.tagging.decisions import log_probabilities
from tagger.training.dataset import RESNET18, Examples
from tagger.training.resnet18 import Weights, predict
from tagger.training.split import split
from tagger.training.temperature import fit_temperature, softmax

WEIGHTS = np.linspace(0, 1, 21)


def choose_weight(clip: NDArray[np.float32], own: NDArray[np.float32], truth: NDArray[np.int64]) -> tuple[float, float, float]:
    """Return the weight of `own`, the temperature of `clip` and that of `own`; both float32 (N, K), logits; truth int64 (N,).

    The weight has the least negative log-likelihood, and is the lowest of equals; 0 without rows, because nothing speaks for
    `own`.
    """
    if not len(truth):
        return 0.0, 1.0, 1.0
    temperatures = fit_temperature(clip, truth), fit_temperature(own, truth)
    first, second = (
        softmax(logits / temperature)[np.arange(len(truth)), truth]
        for logits, temperature in zip((clip, own), temperatures, strict=True)
    )
    losses = [-np.log(np.maximum((1 - weight) * first + weight * second, 1e-30)).mean() for weight in WEIGHTS]
    return float(WEIGHTS[int(np.argmin(losses))]), *temperatures


def fit_ensemble(weights: Weights, examples: Examples, recipe: Recipe, clip: Predictor) -> Ensemble:
    """Choose how a ResNet18 with these weights, trained on the examples by the recipe, is averaged with CLIP.

    examples: with pixels for the ResNet18 and embeddings of `clip`, which has one attribute. Only the rows that the training was
    validated with are looked at.
    """
    [attribute], device = clip.attributes, torch.device(clip.encoder.device)
    _, held_out = split(examples.truth, recipe.validation, recipe.seed)
    own = predict(weights, len(attribute.labels), recipe, examples.pixels[RESNET18], held_out, device)
    assert examples.embeddings is not None
    [probabilities] = clip.probabilities(examples.embeddings[held_out])
    weight, clip_temperature, temperature = choose_weight(log_probabilities(probabilities), own, examples.truth[held_out])
    return Ensemble(
        weight=weight,
        clip_temperature=clip_temperature,
        temperature=temperature,
        clip=clip.encoder.weights,
        prompts=prompts_hash(attribute),
        rows=len(held_out),
    )
