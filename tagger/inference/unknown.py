"""Attribute, encoder and calibration -> the rule that finds the images that are none of the attribute's labels."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tagger.core.errors import ConfigError
from tagger.core.files import reason, write_bytes
from tagger.encoders.base import Encoder
from tagger.encoders.clip import ClipEncoder
from tagger.inference.job import Job
from tagger.settings.attributes import MINED, Attribute
from tagger.tagging.calibration import Calibration, UnknownThreshold
from tagger.tagging.unknown import (
    DEFAULT_COSINE,
    ConceptScore,
    NegativeLabelScore,
    PosteriorScore,
    UnknownRule,
)
from tagger.tagging.vocabulary import candidates, choose_negatives

log = logging.getLogger(__name__)

AT_ONCE = 256  # words that are encoded together


def unknown_rules(job: Job, encoder: Encoder, folder: Path | None) -> list[UnknownRule | None]:
    """Return the rule of each attribute of a job; ConfigError where a ResNet18 is to find what it was never shown.

    Where a ResNet18 has taken CLIP's place, a warning says that nothing finds it.
    """
    wanted = [attribute.name for attribute in job.attributes if attribute.unknown]
    if not isinstance(encoder, ClipEncoder):
        if wanted and job.settings.fallback is None:
            raise ConfigError(
                f'attribute "{wanted[0]}": unknown: expected a CLIP, which knows what else there is, found the ResNet18 '
                f"{job.settings.model.name}; leave unknown out, or tag with CLIP"
            )
        for name in wanted:
            log.warning("%s: without CLIP, images that are none of the labels are not found", name)
        # As if every image were known, so that the results have the same columns.
        return [UnknownRule(_all_known, 0.0, "none") if attribute.unknown else None for attribute in job.attributes]
    return [unknown_rule(one, encoder, job.calibrations.get(one.name), folder) for one in job.attributes]


def _all_known(embeddings: Tensor) -> Tensor:
    return embeddings.new_ones(len(embeddings))


def unknown_rule(
    attribute: Attribute, encoder: ClipEncoder, calibration: Calibration | None, folder: Path | None
) -> UnknownRule | None:
    """Return the rule of an attribute, None without `unknown`: the calibration's, else one by prompts with a default threshold.

    folder: where the embeddings of the vocabulary are kept. ConfigError for a calibration that was made without `unknown`, or
    with other negative labels.
    """
    if not attribute.unknown:
        return None
    if calibration is None:
        return prompt_rule(attribute, encoder, folder)
    fitted = calibration.unknown
    if fitted is None or fitted.negative_labels != attribute.negative_labels:
        found = "one made without them" if fitted is None else "one made with other negative_labels"
        raise ConfigError(
            f'attribute "{attribute.name}": calibration {attribute.calibration}: expected one made with unknown and '
            f"negative_labels as they are set, found {found}; run `tagger calibrate` again"
        )
    if fitted.method == "prompts":
        rule = prompt_rule(attribute, encoder, folder)
        return rule._replace(below=fitted.below, identity=f"{rule.identity} below {fitted.below!r}")
    return posterior_rule(fitted, len(attribute.labels), encoder.device)


def posterior_rule(fitted: UnknownThreshold, labels: int, device: torch.device) -> UnknownRule:
    """Return the rule by classifiers that were fitted on labelled strangers."""
    classifiers = [
        (torch.tensor(one.weight, dtype=torch.float32, device=device), torch.tensor(one.bias, dtype=torch.float32, device=device))
        for one in fitted.classifiers
    ]
    identity = hashlib.sha256(fitted.model_dump_json().encode()).hexdigest()
    return UnknownRule(PosteriorScore(classifiers, labels), fitted.below, f"labelled strangers {identity}")


def prompt_rule(attribute: Attribute, encoder: ClipEncoder, folder: Path | None) -> UnknownRule:
    """Return the rule by the prompts of labels and negative labels, with its default threshold."""
    labels = torch.stack([_embed(encoder, attribute.prompts(label)) for label in attribute.labels])
    wanted = attribute.negative_labels
    if not wanted:
        return UnknownRule(ConceptScore(labels), DEFAULT_COSINE, "nearest label")
    if wanted == MINED:
        words = candidates(attribute.label_names)
        embedded = embed_vocabulary(words, attribute.templates, encoder, folder)
        negatives = embedded[choose_negatives(embedded, labels)]
    else:
        negatives = torch.stack([_embed(encoder, _prompts(attribute.templates, word)) for word in wanted])
    score = NegativeLabelScore(labels, negatives, encoder.logit_scale)
    even_share = len(labels) / (len(labels) + len(negatives))  # of the probability, were all equally near
    return UnknownRule(score, even_share, f"negative labels {wanted}")


def embed_vocabulary(words: Sequence[str], templates: Sequence[str], encoder: ClipEncoder, folder: Path | None) -> Tensor:
    """Return the words' embeddings, float32 (V, D), L2-normalised, on the encoder's device; kept in `folder`, if there is one.

    A word's embedding is the mean of its prompts', normalised again.
    """
    text = json.dumps([encoder.weights, encoder.device.type, list(templates), list(words)])
    file = folder / "vocabulary" / f"{hashlib.sha256(text.encode()).hexdigest()}.f32" if folder else None
    if file is not None and file.is_file() and file.stat().st_size == 4 * len(words) * encoder.dimension:
        kept = np.fromfile(file, np.float32).reshape(len(words), encoder.dimension)
        return torch.from_numpy(kept).to(encoder.device)
    log.info("negative_labels: encoding %d words once", len(words))
    prompts = [prompt for word in words for prompt in _prompts(templates, word)]
    pieces = [encoder.encode_prompts(prompts[start : start + AT_ONCE]) for start in range(0, len(prompts), AT_ONCE)]
    found = F.normalize(torch.cat(pieces).view(len(words), len(templates), -1).mean(1), dim=1)
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(file, found.cpu().numpy().tobytes())
        except OSError as error:
            log.warning("%s: expected to keep embeddings of words, found: %s; the next run makes them", file, reason(error))
    return found


def _prompts(templates: Sequence[str], word: str) -> tuple[str, ...]:
    return tuple(template.replace("{label}", word) for template in templates)


def _embed(encoder: ClipEncoder, prompts: Sequence[str]) -> Tensor:
    return F.normalize(encoder.encode_prompts(prompts).mean(0), dim=0)
