"""`tagger inspect`: what a run would find and take, in seconds, without loading a model; the public Python API that the command
line calls."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Unpack

from tagger.catalog.object_storage import Workspace
from tagger.catalog.profile import read_balance, read_references
from tagger.catalog.schemas import require_no_tags
from tagger.core import shutdown
from tagger.core.errors import ManifestError, ModelError
from tagger.core.text import listed, one_line, without_secrets
from tagger.core.types import ImageRef
from tagger.evaluation.gates import OF_LABELLED_ROWS, gate_thresholds
from tagger.images.workers import choose_workers, fit_shared_memory, start_early
from tagger.inference.job import Job, open_job
from tagger.reports.inspection import Inspection, Question, Sample
from tagger.settings.load import load_settings
from tagger.settings.options import Machine, Overrides

if TYPE_CHECKING:
    import torch

    from tagger.core.types import Busy
    from tagger.encoders.cost import Cost
    from tagger.inference.estimate import Estimate

log = logging.getLogger(__name__)

DRAWN = 64
SAMPLE_BATCH_SIZE = 8  # of the sample, so that every process has some
TOKENS_OF_A_WORD = 1.3  # of CLIP's English
WORDS_AROUND = 2  # tokens for start and end


def inspect(
    manifest: str | Path,
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    machine: Machine = Machine(),  # noqa: B008  # frozen
    **overrides: Unpack[Overrides],
) -> Inspection:
    """Look at `manifest` as `run` with the same options would: columns, references, labels, their balance, and up to DRAWN
    images, decoded as safely as in a run. Estimates the run's time and memory from the model's configuration and this machine.

    Nothing is written, no model is loaded, and no hub is asked: a hub id is looked up in the local cache. Raises what a run would
    raise before its first image, and ManifestError where none of the drawn images can be read; warnings are in what is returned.
    """
    name = str(manifest)
    settings = load_settings(name, config, **overrides)
    with Workspace() as space:
        job = open_job(name, settings, space)
        require_no_tags(
            name, job.manifest.schema, [attribute.name for attribute in job.attributes], job.with_sets, job.with_unknown
        )
        gate_thresholds(job.settings.gates, job.attributes, job.manifest.rows)  # which may be ones that cannot be reached
        if machine.workers != 0:
            start_early()
        references, drawn = read_references(job.manifest, DRAWN)
        questions = {
            attribute.name: Question(
                labels={label.name: len(attribute.prompts(label)) for label in attribute.labels},
                truth_column=attribute.truth_column,
                balance=read_balance(job.manifest, attribute.truth_column, attribute.label_names)
                if attribute.truth_column
                else None,
            )
            for attribute in job.attributes
        }
        shutdown.check()
        # torch and transformers take seconds to import: only now that everything else is known to be right.
        from tagger.encoders.backends import check_backend
        from tagger.inference.predictors import choose_device

        chosen = job.settings.model
        where = choose_device("cpu" if machine.device is None and chosen.backend == "openvino" else machine.device)
        check_backend(chosen.backend, chosen.precision, where)
        costs, missing = _costs(job)
        workers = choose_workers(where.type) if machine.workers is None else machine.workers
        workers = fit_shared_memory(workers, 3 * machine.batch_size * sum(_pixels(cost) for cost in costs))
        sample, busy = _look(job, drawn, costs, workers)
        used, estimate = _estimate(job, costs, sample, busy, where, workers)
        return Inspection(
            manifest=without_secrets(name),
            files=len(job.manifest.files),
            bytes=sum(file.stat().st_size for file in job.manifest.files),
            rows=job.manifest.rows,
            columns={field.name: str(field.type) for field in job.manifest.schema},
            image_column=job.manifest.image_column,
            references=references,
            questions=questions,
            sample=sample,
            model={
                "name": without_secrets(chosen.name),
                "revision": chosen.revision,
                "here": missing is None,
                "device": str(where),
                "precision": used,
            },
            estimate=estimate,
            warnings=tuple(_warnings(job, questions, references.nulls, sample, missing)),
        )


def _costs(job: Job) -> tuple[list[Cost], str | None]:
    """Return the cost of the model, then of its fallback, and a warning if the model is not on this machine. ModelError."""
    from tagger.encoders.cost import cost_of_clip, cost_of_resnet18

    model, fallback, artifacts = job.settings.model, job.settings.fallback, job.artifacts
    if artifacts.model is not None:
        return [cost_of_resnet18(artifacts.model, model.exact_preprocessing)], None
    second = [cost_of_resnet18(artifacts.fallback, model.exact_preprocessing)] if artifacts.fallback else []
    try:
        first, here = cost_of_clip(model.name, model.revision, model.exact_preprocessing)
    except ModelError as error:
        if fallback is None or not fallback.on_model_error:
            raise
        return second, f"{error}; {fallback.checkpoint} would tag alone"
    missing = f"model {model.name} is not on this machine: a run fetches it first; `tagger models pull` does it now"
    return [first, *second], None if here else missing


def _look(job: Job, drawn: Sequence[ImageRef], costs: Sequence[Cost], workers: int) -> tuple[Sample, Busy]:
    """Read and decode the drawn images as a run does; return what they are, and the seconds of work that they took."""
    from tagger.core.types import Busy
    from tagger.images.headers import read_headers
    from tagger.images.loader import Reading
    from tagger.images.resilient_loader import load_images

    batches = [list(drawn[start : start + SAMPLE_BATCH_SIZE]) for start in range(0, len(drawn), SAMPLE_BATCH_SIZE)]
    readable, errors, busy = set[int](), dict[int, Any](), Busy()
    preprocessings = dict(zip(("encoder", "fallback"), (cost.preprocessing for cost in costs), strict=False))
    for batch in load_images(batches, Reading(policy=job.policy, preprocessings=preprocessings, workers=workers)):
        shutdown.check()
        readable |= set(batch.rows.tolist())
        errors |= batch.errors
        busy = Busy.total((busy, batch.busy))
    headers = list(read_headers([ref for ref in drawn if ref.row in readable], job.policy))
    codes = Counter(errors[row].code for row in sorted(errors))
    examples = {errors[row].code: one_line(f"row {row}: {errors[row].message}") for row in sorted(errors, reverse=True)}
    if drawn and not readable:
        code = codes.most_common(1)[0][0]
        counts = ", ".join(f"{count} {code}" for code, count in codes.most_common())
        raise ManifestError(
            f"{job.manifest.name}: expected images that can be read in column {job.manifest.image_column}, found none among "
            f"{len(drawn)} drawn evenly: {counts} ({examples[code]}); "
            "correct the column, --image-root or [images]"
        )

    def spread(index: int) -> tuple[int, int]:
        values = [int(header[index]) for header in headers] or [0]
        return int(median(values)), max(values)

    sample = Sample(
        drawn=len(drawn),
        readable=len(readable),
        formats=dict(Counter(header.format for header in headers).most_common()),
        width=spread(1),
        height=spread(2),
        size=spread(3),
        errors=dict(codes.most_common()),
        examples=examples,
    )
    return sample, busy


def _estimate(
    job: Job, costs: Sequence[Cost], sample: Sample, busy: Busy, device: torch.device, workers: int
) -> tuple[str, Estimate]:
    """Return the precision that the estimate takes, and the estimate."""
    from joblib import cpu_count

    from tagger.encoders.backends import DTYPES, choose_precision
    from tagger.encoders.cost import measure_speed
    from tagger.inference.estimate import START_SECONDS, TOWER_SHARE, Estimate, estimate_memory, estimate_seconds
    from tagger.inference.precision_trial import TRIED
    from tagger.inference.predictor import ENCODED_AT_ONCE, ENCODED_AT_ONCE_BY_AN_ACCELERATOR

    settings, first = job.settings, costs[0]
    on_cpu = device.type == "cpu"
    at_once = ENCODED_AT_ONCE.get(device.type, ENCODED_AT_ONCE_BY_AN_ACCELERATOR)
    used: str = settings.model.precision
    if used == "auto":
        used = "fp32" if settings.model.is_resnet18 else choose_precision(device)
    speed = TOWER_SHARE * measure_speed(first, at_once, device, DTYPES.get(used, DTYPES["fp32"]))
    encode = first.operations / speed
    if len(costs) > 1 and settings.fallback and settings.fallback.mode == "ensemble":  # else only some rows see it
        encode += costs[1].operations / (TOWER_SHARE * measure_speed(costs[1], at_once, device, DTYPES["fp32"]))
    decode = (busy.read + busy.decode) / max(sample.drawn, 1)
    prompts = [prompt for attribute in job.attributes for label in attribute.labels for prompt in attribute.prompts(label)]
    extra = sum(first.prompt_operations * (TOKENS_OF_A_WORD * len(prompt.split()) + WORDS_AROUND) for prompt in prompts) / speed
    if settings.model.precision == "auto" and used != "fp32":
        plain = TOWER_SHARE * measure_speed(first, at_once, device, DTYPES["fp32"])
        extra += min(TRIED, job.manifest.rows) * (first.operations / plain + decode)
    seconds, limited_by = estimate_seconds(
        job.manifest.rows, encode=encode, decode=decode, workers=workers, cores=cpu_count(), on_cpu=on_cpu, extra=extra
    )
    main, decoding, on_device = estimate_memory(
        weights=sum(cost.weights for cost in costs),
        half_weights=first.image_weights if used in ("bf16", "fp16") else 0,
        activations=at_once * first.activations,
        shard_bytes=job.manifest.shard_rows * job.manifest.bytes_per_row,
        pixels=sample.width[1] * sample.height[1],
        workers=workers,
        on_cpu=on_cpu,
    )
    return used, Estimate(
        seconds=START_SECONDS + seconds,
        start=START_SECONDS,
        encode=encode,
        decode=decode,
        workers=workers,
        limited_by=limited_by,
        main_bytes=main,
        decoding_bytes=decoding,
        device_bytes=on_device,
    )


def _warnings(job: Job, questions: Mapping[str, Question], nulls: int, sample: Sample, missing: str | None) -> list[str]:
    found, rows, gates = list(job.manifest.notes), job.manifest.rows, job.settings.gates
    if not rows:
        found.append("no rows; the results will be empty")
    if nulls:
        found.append(f"{nulls:,} of {rows:,} rows have no image; they will be errors")
    if bad := sample.drawn - sample.readable:
        found.append(
            f"{bad} of {sample.drawn} drawn images cannot be read; of all, about {bad / sample.drawn:.0%} will be errors"
        )
    for name, question in questions.items():
        balance = question.balance
        if balance and not any(balance.labels.values()):
            values = f", but {listed(balance.others, 3)}" if balance.others else ""
            found.append(f'attribute "{name}": truth_column {question.truth_column} holds none of the labels{values}')
        elif balance and (lacking := [label for label, count in balance.labels.items() if not count]):
            found.append(f'attribute "{name}": no row of {", ".join(lacking)} in {question.truth_column}: not evaluated')
        if balance and balance.other_rows and any(getattr(gates, gate) is not None for gate in OF_LABELLED_ROWS):
            fitting = sum(balance.labels.values())
            every = fitting + balance.other_rows
            if fitting / every < gates.min_truth_in_labels:
                found.append(
                    f'attribute "{name}": {balance.other_rows:,} of {every:,} truth values fit no label: gates on accuracy and '
                    "macro F1 will fail; see [gates] min_truth_in_labels"
                )
    return [*found, *([missing] if missing else [])]


def _pixels(cost: Cost) -> int:
    height, width = cost.preprocessing.size
    return height * width
