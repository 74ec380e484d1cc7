"""`tagger calibrate`: from labelled rows to a calibration file; the public Python API that the command line calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from tagger.catalog.object_storage import Workspace
from tagger.core import published, shutdown
from tagger.core.errors import ConfigError, UsageError
from tagger.core.files import write_text
from tagger.core.write_check import require_writable, write_error
from tagger.images.workers import start_early
from tagger.inference.artifacts import fallback_rule
from tagger.inference.job import Job, open_job
from tagger.settings.attributes import Attribute
from tagger.settings.load import load_settings
from tagger.settings.options import Machine, Overrides, Target
from tagger.tagging.calibration import Calibration, CalibrationFile

if TYPE_CHECKING:
    from tagger.inference.predictor import Predictor
    from tagger.tagging.unknown import UnknownRule
    from tagger.training.calibration import Rule, Uncalibrated
    from tagger.training.unknown import Strangers


def calibrate(
    manifest: str | Path,
    output: str | Path,
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    target: Target | None = None,
    seed: int = 0,
    overwrite: bool = False,
    machine: Machine = Machine(),  # noqa: B008  # frozen
    **overrides: Unpack[Overrides],
) -> CalibrationFile:
    """Fit a temperature for each attribute and source on half of the labelled rows, judge it on the others, and write it.

    target: the precision that the rows which need no review shall have; `review_below` is chosen on the other half so that
    they do, and none where these rows are too few. So are the thresholds of sets, where an attribute has `prediction_sets`.
    Raises the errors of core/errors.py; ManifestError where an attribute has fewer than two labelled rows.
    """
    name, file = str(manifest), Path(output)
    require_writable(file, f"--output {file}", overwrite=overwrite)
    if file.resolve() == Path(name).resolve():
        raise UsageError(f"--output {file}: expected another file than the manifest, found the manifest itself; correct it")
    settings = load_settings(name, config, **overrides)
    wanted = {one.name: one for one in settings.attributes}
    plain = tuple(one.uncalibrated() for one in settings.attributes)
    with Workspace() as space:
        job = open_job(name, settings.model_copy(update={"attributes": plain}), space)
        if not any(attribute.truth_column for attribute in job.attributes):
            raise ConfigError(f"{name}: expected an attribute with a truth_column, found none; name the column of right answers")
        if machine.workers != 0:
            start_early()
        labelled = read_labelled_rows(job, machine, wanted)
        calibrations = _fit(name, labelled, wanted, target, seed)
        content = CalibrationFile(manifest=job.manifest.content_hash(), seed=seed, attributes=calibrations)
    try:
        write_text(file, content.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise write_error(f"--output {file}", error) from error
    published.note(f"the calibration is complete at {file}")
    return content


class Labelled(NamedTuple):
    """An attribute's labelled rows that can be read: each source's log-probabilities, int64 (N,) truth, and who decides.

    strangers: with `unknown`, those and the rows that fit no label.
    """

    attribute: Attribute
    sources: Mapping[str, Uncalibrated]
    truth: NDArray[np.int64]
    rule: Rule
    strangers: Strangers | None = None


def read_labelled_rows(job: Job, machine: Machine, wanted: Mapping[str, Attribute] = MappingProxyType({})) -> list[Labelled]:
    """Embed the labelled rows of a job without calibrations, and return what is fitted for each attribute with a truth column.

    wanted: attributes by name, as the settings have them, with what takes a calibration.
    """
    # torch takes seconds to import: only now that everything else is known to be right.
    from tagger.inference.load import open_engine
    from tagger.training.calibration import Rule, sources_of
    from tagger.training.dataset import STRANGERS, embed, read_labelled
    from tagger.training.row_groups import unseen_by
    from tagger.training.unknown import Strangers

    unknown = {
        one.name: _as_wanted(one, wanted) for one in job.attributes if one.truth_column and _as_wanted(one, wanted).unknown
    }
    labelled = read_labelled(job.manifest, [attribute for attribute in job.attributes if attribute.truth_column], unknown)
    # Both encoders see every row, so that each source is fitted on all of its own probabilities.
    with open_engine(_with_both_models(job), machine, show_all=True) as engine:
        examples = embed(labelled, engine, lambda _: shutdown.check())
        predictor, hybrid = engine.predictor, engine.hybrid
        assert examples.embeddings is not None
        rules = {name: _prompt_rule(attribute, predictor, job) for name, attribute in unknown.items()}
        firsts, second = predictor.probabilities(examples.embeddings), None
        if hybrid is not None and examples.second_embeddings is not None:
            [second] = hybrid.second.probabilities(examples.second_embeddings)
    found = []
    for index, (attribute, first) in enumerate(zip(job.attributes, firsts, strict=True)):
        if attribute.truth_column is None:
            continue
        truth = examples.truths[attribute.name]
        rows, rule = truth >= 0, Rule(*fallback_rule(job.settings, job.artifacts, index))
        if (head := job.artifacts.heads.get(attribute.name)) is not None:
            rows &= unseen_by(job.manifest.name, head, examples, int(rows.sum()))
        of_fallback = second[rows] if second is not None and rule.mode != "none" else None
        sources = sources_of(predictor, hybrid, index, rule, first[rows], of_fallback)
        strangers = None
        if attribute.name in rules:
            strange = examples.truths[STRANGERS + attribute.name]
            kind = np.where(strange >= 0, len(attribute.labels) + strange, truth)
            embeddings = examples.embeddings[kind >= 0]
            [scores] = predictor.with_unknown_rules([rules[attribute.name]]).known_scores(embeddings)
            assert scores is not None
            strangers = Strangers(embeddings.astype(np.float32), kind[kind >= 0], scores)
        found.append(Labelled(attribute, sources, truth[rows], rule, strangers))
    return found


def _fit(
    manifest: str, labelled: Sequence[Labelled], wanted: Mapping[str, Attribute], target: Target | None, seed: int
) -> dict[str, Calibration]:
    """Return each attribute's calibration. wanted: attributes by name, as the settings have them."""
    from tagger.training.calibration import fit_calibration
    from tagger.training.unknown import fit_unknown

    calibrations = {}
    for one in labelled:
        attribute = _as_wanted(one.attribute, wanted)
        where = f'{manifest}: attribute "{attribute.name}"'
        unknown = None if one.strangers is None else fit_unknown(attribute, one.strangers, seed, where)
        calibrations[attribute.name] = fit_calibration(
            manifest, attribute, one.sources, one.truth, one.rule, target, seed, unknown
        )
    return calibrations


def _as_wanted(attribute: Attribute, wanted: Mapping[str, Attribute]) -> Attribute:
    """Return the job's attribute, which has labels, with what takes a calibration."""
    if (one := wanted.get(attribute.name)) is None:
        return attribute
    taken = ("prediction_sets", "unknown", "negative_labels")
    return attribute.model_copy(update={name: getattr(one, name) for name in taken})


def _prompt_rule(attribute: Attribute, predictor: Predictor, job: Job) -> UnknownRule:
    from tagger.encoders.base import PromptEncoder
    from tagger.inference.store import store_of
    from tagger.inference.unknown import prompt_rule

    if not predictor.encoder.reads_prompts:
        raise ConfigError(
            f'attribute "{attribute.name}": unknown: expected a CLIP, found the ResNet18 {job.settings.model.name}; leave '
            "unknown out, or tag with CLIP"
        )
    return prompt_rule(attribute, cast(PromptEncoder, predictor.encoder), store_of(job.settings.cache))


def _with_both_models(job: Job) -> Job:
    """Return the job without a fallback that may take CLIP's place: there is nothing to calibrate where one is missing."""
    fallback = job.settings.fallback
    if fallback is None:
        return job
    required = fallback.model_copy(update={"on_model_error": False})
    return replace(job, settings=job.settings.model_copy(update={"fallback": required}))
