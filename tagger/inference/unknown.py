"""Attribute, encoder and calibration -> the rule that finds the images that are none of the attribute's labels."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from tagger.core.errors import ConfigError
from tagger.core.files import note_use, reason, write_bytes
from tagger.encoders.base import Encoder, PromptEncoder
from tagger.inference.job import Job
from tagger.inference.prompts import PromptEmbeddings
from tagger.inference.store import Store
from tagger.settings.attributes import MINED, Attribute
from tagger.tagging.calibration import Calibration, UnknownThreshold
from tagger.tagging.heads import normalise
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


def unknown_rules(job: Job, encoder: Encoder, store: Store) -> list[UnknownRule | None]:
    """Return the rule of each attribute of a job; ConfigError where a ResNet18 is to find what it was never shown.

    Where a ResNet18 has taken CLIP's place, a warning says that nothing finds it.
    """
    wanted = [attribute.name for attribute in job.attributes if attribute.unknown]
    if not encoder.reads_prompts:
        if wanted and job.settings.fallback is None:
            raise ConfigError(
                f'attribute "{wanted[0]}": unknown: expected a CLIP, which knows what else there is, found the ResNet18 '
                f"{job.settings.model.name}; leave unknown out, or tag with CLIP"
            )
        for name in wanted:
            log.warning("%s: without CLIP, images that are none of the labels are not found", name)
        # As if every image were known, so that the results have the same columns.
        return [UnknownRule(_all_known, 0.0, "none") if attribute.unknown else None for attribute in job.attributes]
    clip = cast(PromptEncoder, encoder)
    return [unknown_rule(one, clip, job.calibrations.get(one.name), store) for one in job.attributes]


def _all_known(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ones(len(embeddings), np.float32)


def unknown_rule(
    attribute: Attribute, encoder: PromptEncoder, calibration: Calibration | None, store: Store
) -> UnknownRule | None:
    """Return the rule of an attribute, None without `unknown`: the calibration's, else one by prompts with a default threshold.

    store: where embeddings of prompts are kept. ConfigError for a calibration that was made without `unknown`, or
    with other negative labels.
    """
    if not attribute.unknown:
        return None
    if calibration is None:
        return prompt_rule(attribute, encoder, store)
    fitted = calibration.unknown
    if fitted is None or fitted.negative_labels != attribute.negative_labels:
        found = "one made without them" if fitted is None else "one made with other negative_labels"
        raise ConfigError(
            f'attribute "{attribute.name}": calibration {attribute.calibration}: expected one made with unknown and '
            f"negative_labels as they are set, found {found}; run `tagger calibrate` again"
        )
    if fitted.method == "prompts":
        rule = prompt_rule(attribute, encoder, store)
        return rule._replace(below=fitted.below, identity=f"{rule.identity} below {fitted.below!r}")
    return posterior_rule(fitted, len(attribute.labels))


def posterior_rule(fitted: UnknownThreshold, labels: int) -> UnknownRule:
    """Return the rule by classifiers that were fitted on labelled strangers."""
    classifiers = [(np.array(one.weight, np.float32), np.array(one.bias, np.float32)) for one in fitted.classifiers]
    identity = hashlib.sha256(fitted.model_dump_json().encode()).hexdigest()
    return UnknownRule(PosteriorScore(classifiers, labels), fitted.below, f"labelled strangers {identity}")


def prompt_rule(attribute: Attribute, encoder: PromptEncoder, store: Store) -> UnknownRule:
    """Return the rule by the prompts of labels and negative labels, with its default threshold."""
    embed = PromptEmbeddings(encoder, store)
    labels = _means(embed, [attribute.prompts(label) for label in attribute.labels])
    wanted = attribute.negative_labels
    if not wanted:
        return UnknownRule(ConceptScore(labels), DEFAULT_COSINE, "nearest label")
    if wanted == MINED:
        words = candidates(attribute.label_names)
        embedded = embed_vocabulary(words, attribute.templates, encoder, store.folder)
        negatives = embedded[choose_negatives(embedded, labels)]
    else:
        negatives = _means(embed, [_prompts(attribute.templates, word) for word in wanted])
    score = NegativeLabelScore(labels, negatives, encoder.logit_scale)
    even_share = len(labels) / (len(labels) + len(negatives))  # of the probability, were all equally near
    return UnknownRule(score, even_share, f"negative labels {wanted}")


def embed_vocabulary(
    words: Sequence[str], templates: Sequence[str], encoder: PromptEncoder, folder: Path | None
) -> NDArray[np.float32]:
    """Return the words' embeddings, float32 (V, D), L2-normalised; kept in `folder`, if there is one.

    A word's embedding is the mean of its prompts', normalised again.
    """
    text = json.dumps([encoder.weights, encoder.device_type, list(templates), list(words)])
    file = folder / "vocabulary" / f"{hashlib.sha256(text.encode()).hexdigest()}.f32" if folder else None
    if file is not None and file.is_file() and file.stat().st_size == 4 * len(words) * encoder.dimension:
        note_use(file)
        return np.fromfile(file, np.float32).reshape(len(words), encoder.dimension)
    log.info("negative_labels: encoding %d words once", len(words))
    prompts = [prompt for word in words for prompt in _prompts(templates, word)]
    starts = range(0, len(prompts), AT_ONCE)
    pieces = [np.asarray(encoder.encode_prompts(prompts[start : start + AT_ONCE]).cpu()) for start in starts]
    found = normalise(np.concatenate(pieces).reshape(len(words), len(templates), -1).mean(1))
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(file, found.tobytes())
        except OSError as error:
            log.warning("%s: expected to keep embeddings of words, found: %s; the next run makes them", file, reason(error))
    return found


def _prompts(templates: Sequence[str], word: str) -> tuple[str, ...]:
    return tuple(template.replace("{label}", word) for template in templates)


def _means(embed: PromptEmbeddings, prompts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
    """Return float32 (N, D), L2-normalised: the mean embedding of each of N groups of prompts."""
    embedded = embed([prompt for group in prompts for prompt in group])
    ends = np.cumsum([len(group) for group in prompts])
    return normalise(np.stack([part.mean(0) for part in np.split(embedded, ends[:-1])]))
