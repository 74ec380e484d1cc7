"""What the tags of a job depend on, and what its embeddings do: only what is the same in all of it is used again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from tagger.catalog.manifest import Manifest
from tagger.catalog.schemas import result_schema
from tagger.core.text import without_secrets
from tagger.core.types import ImagePolicy
from tagger.inference.job import Job
from tagger.settings.attributes import taxonomy_hash
from tagger.tagging.head_file import HEAD

if TYPE_CHECKING:
    from tagger.inference.hybrid import Hybrid
    from tagger.inference.predictor import Predictor

COMPUTING = ("tagger", "torch", "torchvision", "transformers", "pillow")  # whose versions may move the last digits


class Description(NamedTuple):
    """What the tags of a job are made by: the same in every process that takes part in it.

    model: as the results' metadata has it, with what its weights are and what computes with them. depends_on: name -> value.
    """

    model: dict[str, Any]
    depends_on: dict[str, str]
    device: str


def describe(job: Job, rows: int, predictor: Predictor, hybrid: Hybrid | None, earlier: Manifest | None) -> Description:
    """Describe what the tags of the first `rows` are made by; the values are those of results_depend_on."""
    encoder, checkpoint = predictor.encoder, job.settings.fallback
    named = model_of(job)
    model = {**named, "fingerprint": encoder.fingerprint, "backend": encoder.backend, "precision": encoder.precision}
    if heads := heads_of(predictor):
        model["heads"] = heads
    if hybrid is not None:
        model["fallback"] = hybrid.second.encoder.fingerprint
    elif checkpoint is not None:  # it has taken CLIP's place
        model |= {"name": checkpoint.checkpoint, "revision": None, "instead_of": named["name"]}
    return Description(model, results_depend_on(job, rows, predictor, hybrid, earlier), str(encoder.device))


def model_of(job: Job) -> dict[str, Any]:
    """Return the name of the job's model as results have it."""
    model = job.settings.model
    return {"name": without_secrets(model.name), "revision": model.revision}


def results_depend_on(
    job: Job, rows: int, predictor: Predictor, hybrid: Hybrid | None, earlier: Manifest | None
) -> dict[str, str]:
    """Name all that the tags of the first `rows` depend on, as a person would name it.

    earlier: the result whose error rows alone are tagged.
    """
    return {
        "manifest": job.manifest.content_hash(),
        "partitions": str(job.manifest.partitions.to_pylist()),
        "rows": str(rows),
        "image column": job.manifest.image_column,
        "images allowed": str(replace(job.policy, timeout=0.0)),
        "attributes": taxonomy_hash(job.attributes),
        "model weights": predictor.encoder.fingerprint,
        "model name": f"{job.settings.model.name} {job.settings.model.revision}",
        "heads": str(heads_of(predictor) or "none"),
        "calibration": str(predictor.temperatures),
        "prediction sets": str(predictor.set_thresholds),
        "unknown": str([rule and (rule.identity, rule.below) for rule in predictor.unknown_rules]),
        "fallback": hybrid.identity if hybrid else "none",
        "precision of embeddings": str(predictor.dtype),
        "device": predictor.encoder.device_type,
        "earlier result": earlier.content_hash() if earlier else "none",
        **{f"version of {library}": version(library) for library in (*COMPUTING, "pyarrow")},
    }


def heads_of(predictor: Predictor) -> dict[str, str]:
    """Return attribute -> the fingerprint of the head that decides about it; of those alone that have one."""
    pairs = zip(predictor.attributes, predictor.identities, strict=True)
    return {attribute.name: identity.weights for attribute, identity in pairs if identity.source == HEAD}


def embeddings_depend_on(policy: ImagePolicy, predictor: Predictor, decoded_for: int) -> str:
    """Name all that an embedding depends on beside the image's bytes, as one text. decoded_for: images/decode.py."""
    identity = {
        "weights": predictor.encoder.fingerprint,
        "device": predictor.encoder.device_type,
        "images at once": predictor.at_once,
        "formats": policy.formats,
        "decoded for": decoded_for,
        "dtype": str(predictor.dtype),
        **{library: version(library) for library in COMPUTING},
    }
    return json.dumps(identity, sort_keys=True)


def errors_depend_on(policy: ImagePolicy, decoded_for: int) -> str:
    """Name all that the error of an image depends on beside its bytes, as one text. decoded_for: images/decode.py."""
    identity = {"formats": policy.formats, "decoded for": decoded_for, **{library: version(library) for library in COMPUTING}}
    return f"errors of images: {json.dumps(identity, sort_keys=True)}"


def result_schema_of(job: Job, model: Mapping[str, Any]) -> pa.Schema:
    """Return the manifest's columns and the tags', with how they were made as metadata."""
    attributes = [
        {"name": a.name, "labels": a.label_names, "truth_column": a.truth_column}
        | ({} if a.prediction_sets is None else {"prediction_sets": a.prediction_sets})
        | ({"unknown": True} if a.unknown else {})
        for a in job.attributes
    ]
    taxonomy = taxonomy_hash(job.attributes)
    described = {"version": version("tagger"), "model": dict(model), "taxonomy": taxonomy, "attributes": attributes}
    return result_schema(job.manifest.schema, [a.name for a in job.attributes], described, job.with_sets, job.with_unknown)
