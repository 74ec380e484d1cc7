"""What the tags of a job depend on, and what its embeddings do: only what is the same in all of it is used again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tagger.catalog.schemas import result_schema
from tagger.core.types import ImagePolicy
from tagger.settings.attributes import taxonomy_hash
from tagger.workflows.plan import Plan

if TYPE_CHECKING:
    from tagger.inference.hybrid import Hybrid
    from tagger.inference.predictor import Predictor

COMPUTING = ("tagger", "torch", "torchvision", "transformers", "pillow")  # whose versions may move the last digits


def results_depend_on(plan: Plan, predictor: Predictor, hybrid: Hybrid | None = None) -> dict[str, str]:
    """All that the tags depend on, by the names that a person would give it."""
    return {
        "manifest": plan.manifest.content_hash(),
        "rows": str(plan.rows),
        "image column": plan.manifest.image_column,
        "images allowed": str(replace(plan.policy, timeout=0.0)),
        "attributes": taxonomy_hash(plan.attributes),
        "model weights": predictor.encoder.fingerprint,
        "model name": f"{plan.settings.model.name} {plan.settings.model.revision}",
        "calibration": str(predictor.temperatures),
        "fallback": hybrid.identity if hybrid else "none",
        "precision of embeddings": str(predictor.dtype),
        "device": predictor.encoder.device.type,
        "earlier result": plan.earlier.content_hash() if plan.earlier else "none",
        **{f"version of {library}": version(library) for library in (*COMPUTING, "pyarrow")},
    }


def embeddings_depend_on(policy: ImagePolicy, predictor: Predictor, decoded_for: int) -> str:
    """All that an embedding depends on beside the image's bytes, as one text. decoded_for: images/decode.py."""
    identity = {
        "weights": predictor.encoder.fingerprint,
        "device": predictor.encoder.device.type,
        "images at once": predictor.at_once,
        "formats": policy.formats,
        "decoded for": decoded_for,
        "dtype": str(predictor.dtype),
        **{library: version(library) for library in COMPUTING},
    }
    return json.dumps(identity, sort_keys=True)


def result_schema_of(plan: Plan, model: Mapping[str, Any]) -> pa.Schema:
    """The manifest's columns and the tags', and how they were made."""
    attributes = [{"name": a.name, "labels": a.label_names, "truth_column": a.truth_column} for a in plan.attributes]
    taxonomy = taxonomy_hash(plan.attributes)
    described = {"version": version("tagger"), "model": dict(model), "taxonomy": taxonomy, "attributes": attributes}
    return result_schema(plan.manifest.schema, [a.name for a in plan.attributes], described)
