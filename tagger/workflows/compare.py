"""`tagger compare`: systems that learn from a few labelled rows and are tested with others, again and again; the public Python
API that the command line calls."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from tagger.catalog.object_storage import Workspace
from tagger.core import published, shutdown
from tagger.core.errors import ConfigError, StoppedError, UsageError
from tagger.core.files import reason, write_bytes, write_text
from tagger.core.write_check import require_writable_folder
from tagger.images.workers import choose_workers, start_early
from tagger.inference.job import Job, model_alone, open_job, with_one_attribute
from tagger.settings.load import load_settings
from tagger.settings.options import CLIP_SYSTEMS, HYBRID, RESNET18, Machine, Overrides, Recipe, Study

if TYPE_CHECKING:
    from tagger.evaluation.comparison import Answer, Comparison
    from tagger.reports.plots import Sample
    from tagger.training.clip_systems import Tunable
    from tagger.training.dataset import Examples
    from tagger.training.few_shot import Draw
    from tagger.training.systems import Side, Task

    Answers = Mapping[int, Sequence[Mapping[str, Answer]]]  # number of shots -> draw -> system -> of the test rows

log = logging.getLogger(__name__)

VERSIONS = ("tagger", "torch", "torchvision", "transformers")
FILES = TABLE, PREDICTIONS, CONFUSION, SAMPLES, CURVES = (
    "comparison.json",
    "predictions.parquet",
    "confusion.png",
    "samples.png",
    "curves.png",
)
SHOWN = 4  # pictures of a label on the sheet
SHOWN_LABELS = 8


def compare(
    manifest: str | Path,
    output: str | Path,
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    study: Study = Study(),  # noqa: B008  # frozen
    recipe: Recipe = Recipe(),  # noqa: B008  # frozen
    overwrite: bool = False,
    machine: Machine = Machine(),  # noqa: B008  # frozen
    **overrides: Unpack[Overrides],
) -> Comparison:
    """Compare systems that learn from a few rows and are tested with others, and write what they made of them to a folder.

    `output` gets comparison.json, predictions.parquet, confusion.png, samples.png and, for several numbers of shots,
    curves.png. The same draw of rows serves all systems, and all numbers of shots: fewer are the first of more. Raises the
    errors of core/errors.py; ManifestError where a label has too few rows that are not nearly the same picture.
    """
    folder = Path(output)
    require_writable_folder(folder, f"--output {folder}", FILES, overwrite=overwrite)
    names = [str(manifest), *([str(study.test_manifest)] if study.test_manifest is not None else [])]
    settings = model_alone(load_settings(names[0], config, **overrides))
    if _needs_clip(study) and settings.model.is_resnet18:
        raise UsageError(f"--model: expected a CLIP to be compared, found {settings.model.name}; name one with --model")
    with Workspace() as space, Workspace() as other, TemporaryDirectory(prefix="tagger-") as scratch:
        jobs = [with_one_attribute(open_job(names[0], settings, space), study.attribute)]
        [chosen] = jobs[0].attributes
        same = settings if settings.attributes else settings.model_copy(update={"labels": chosen.label_names})
        jobs += [with_one_attribute(open_job(name, same, other), study.attribute) for name in names[1:]]
        if machine.workers != 0:
            start_early()
        # torch takes seconds to import: only now that everything else is known to be right.
        from tagger.training.resnet18 import initial_network

        if {RESNET18, HYBRID} & set(study.systems):
            initial_network(recipe.init, len(chosen.labels), recipe.seed)  # else it is missed only after all images were read
        try:
            task, clip_weights = _read_task(jobs, study, recipe, machine, Path(scratch))
            draws = _draw(names, task, chosen.label_names, study)
            found = _learn_and_test(task, draws, study, recipe, quiet=not machine.progress)
            model = {"name": settings.model.name, "weights": clip_weights} if clip_weights else {}
            tested = task.test.examples
            comparison = _score(jobs, tested, draws, found, study, recipe, model)
            _write(folder, comparison, tested, draws, found)
            published.note(f"the comparison is complete at {folder}")
        except OSError as error:
            raise StoppedError(
                f"{folder}: expected to write the comparison, found: {reason(error)}; free the disk, or choose another place"
            ) from error
    return comparison


def _needs_clip(study: Study) -> bool:
    return set(study.systems) != {RESNET18}


def _read_task(jobs: Sequence[Job], study: Study, recipe: Recipe, machine: Machine, scratch: Path) -> tuple[Task, str | None]:
    """Read the labelled rows of each manifest, decoded once for all systems; return them and the identity of CLIP's weights."""
    from tagger.encoders.backends import choose_device
    from tagger.images.reading import Reading
    from tagger.inference.load import open_engine
    from tagger.tagging.heads import ZeroShotHead
    from tagger.training.clip import larger
    from tagger.training.dataset import RESNET18 as RESNET18_PIXELS
    from tagger.training.dataset import TUNED, WHOLE, WHOLE_PICTURE, decode, embed, read_labelled, require_all_labels
    from tagger.training.few_shot import WHOLE as WHOLE_FOR_HASHES
    from tagger.training.systems import Side, Task

    [chosen], device = jobs[0].attributes, choose_device(machine.device)
    pixels = {RESNET18_PIXELS: recipe.preprocessing, WHOLE_PICTURE: WHOLE_FOR_HASHES}
    clip = _tunable(jobs[0]) if set(CLIP_SYSTEMS) & set(study.systems) else None
    if clip is not None:
        pixels |= {TUNED: larger(clip.parts.preprocessing), WHOLE: clip.parts.preprocessing}
    read = []
    for number, job in enumerate(jobs):
        labelled = read_labelled(job.manifest, [chosen])
        require_all_labels(job.manifest.name, chosen, labelled.truths[chosen.name])
        (folder := scratch / str(number)).mkdir()
        read.append((job, labelled, folder))
    sides: list[Side] = []
    prompts: ZeroShotHead | None = None
    weights = None
    with tqdm(unit="image", desc="reading", disable=not machine.progress or None) as bar:

        def advance(count: int) -> None:
            shutdown.check()
            bar.update(count)

        if _needs_clip(study):
            with open_engine(jobs[0], machine, pixels=pixels) as engine:
                [head], weights = engine.predictor.heads, engine.predictor.encoder.weights
                assert isinstance(head, ZeroShotHead)
                prompts = head
                for job, labelled, folder in read:
                    examples = embed(labelled, engine.with_policy(job.policy), advance, pixels, folder)
                    assert examples.embeddings is not None
                    [zero_shot] = engine.predictor.probabilities(examples.embeddings)
                    sides.append(Side(examples, zero_shot))
        else:
            workers = choose_workers(device.type) if machine.workers is None else machine.workers
            for job, labelled, folder in read:
                reading = Reading(policy=job.policy, preprocessings=pixels, workers=workers)
                sides.append(Side(decode(labelled, reading, advance, folder), None))
    for job, side in zip(jobs, sides, strict=True):
        require_all_labels(job.manifest.name, chosen, side.examples.truth)
    task = Task(learn=sides[0], test=sides[-1], labels=len(chosen.labels), device=device, prompts=prompts, clip=clip)
    return task, weights


def _tunable(job: Job) -> Tunable:
    """Load the model once more, to be changed. ModelError, ConfigError."""
    from tagger.encoders.clip import load_parts
    from tagger.encoders.clip_model import Clip
    from tagger.training.clip_systems import Tunable

    model, [chosen] = job.settings.model, job.attributes
    parts = load_parts(model.name, model.revision)
    if not isinstance(parts.model, Clip):
        raise ConfigError(
            f"model {model.name}: expected a CLIP or MetaCLIP 2 for {' and '.join(CLIP_SYSTEMS)}, found another; name one, or "
            "other --systems"
        )
    return Tunable(parts, chosen.label_names, [chosen.prompts(label) for label in chosen.labels])


def _draw(names: Sequence[str], task: Task, labels: Sequence[str], study: Study) -> list[Draw]:
    from tagger.training.dataset import WHOLE_PICTURE
    from tagger.training.few_shot import Pool, draw, perceptual_hashes

    learn, test = (
        Pool(name, side.examples.truth, perceptual_hashes(side.examples.pixels[WHOLE_PICTURE]))
        for name, side in ((names[0], task.learn), (names[-1], task.test))
    )
    return [draw(learn, test, labels, max(study.shots), study.test, seed) for seed in range(study.seeds)]


def _learn_and_test(task: Task, draws: Sequence[Draw], study: Study, recipe: Recipe, quiet: bool) -> Answers:
    """Let all systems learn from the shots of each draw, and answer about its test rows."""
    from tagger.training.systems import answers, for_draw

    found: dict[int, list[Mapping[str, Answer]]] = {}
    with tqdm(total=study.seeds * len(study.shots), unit="draw", desc="comparing", disable=quiet or None) as bar:
        for count in study.shots:
            found[count] = []
            for seed, drawn in enumerate(draws):
                of_draw = answers(study.systems, task, drawn.with_shots(count), for_draw(recipe, seed), shutdown.check)
                found[count].append(of_draw)
                bar.update()
    return found


def _score(
    jobs: Sequence[Job],
    tested: Examples,
    draws: Sequence[Draw],
    found: Answers,
    study: Study,
    recipe: Recipe,
    model: Mapping[str, str],
) -> Comparison:
    from tagger.evaluation.comparison import Comparison, notes, score

    [chosen] = jobs[0].attributes
    truths = [tested.truth[drawn.tests] for drawn in draws]
    scores = []
    for count, of_draws in found.items():
        by_system = {system: [answers[system] for answers in of_draws] for system in study.systems}
        scores += score(truths, by_system, len(chosen.labels), count)
    return Comparison(
        manifests={job.manifest.name: job.manifest.content_hash() for job in jobs},
        attribute=chosen.name,
        labels=chosen.label_names,
        model=dict(model),
        recipe=asdict(recipe),
        test=study.test,
        seeds=study.seeds,
        scores=tuple(scores),
        notes=tuple(notes(scores)),
        versions={library: version(library) for library in VERSIONS},
    )


def _write(folder: Path, comparison: Comparison, tested: Examples, draws: Sequence[Draw], found: Answers) -> None:
    """Write each file whole or not at all, the table last."""
    from tagger.reports.plots import draw_confusion, draw_curves, draw_samples

    folder.mkdir(parents=True, exist_ok=True)
    labels, most = comparison.labels, max(found)
    buffer = pa.BufferOutputStream()
    pq.write_table(_predictions(labels, tested, draws, found), buffer, compression="zstd")
    write_bytes(folder / PREDICTIONS, buffer.getvalue().to_pybytes())
    matrices = [
        (f"{one.system}, {one.shots} shots: {one.accuracy.mean:.1%}", one.confusion_matrix)
        for one in comparison.scores
        if one.shots == most
    ]
    write_bytes(folder / CONFUSION, draw_confusion(matrices, labels))
    samples = _samples(labels, tested, draws[0], found[most][0])
    write_bytes(folder / SAMPLES, draw_samples(samples, min(SHOWN, len(samples))))
    if len(found) > 1:
        write_bytes(folder / CURVES, draw_curves(comparison.scores))
    write_text(folder / TABLE, comparison.model_dump_json(indent=2) + "\n")


def _predictions(labels: Sequence[str], tested: Examples, draws: Sequence[Draw], found: Answers) -> pa.Table:
    """Return a line for each number of shots, draw, system and test row."""
    parts = []
    for count, of_draws in found.items():
        for seed, (drawn, by_system) in enumerate(zip(draws, of_draws, strict=True)):
            rows = drawn.tests
            for system, answer in by_system.items():
                columns = {
                    "shots": np.full(len(rows), count),
                    "seed": np.full(len(rows), seed),
                    "system": [system] * len(rows),
                    "row": tested.rows[rows],
                    "truth": [labels[label] for label in tested.truth[rows]],
                    "label": [labels[label] for label in answer.probabilities.argmax(1)],
                    "confidence": answer.probabilities.max(1),
                }
                parts.append(pa.table(columns))
    return pa.concat_tables(parts)


def _samples(labels: Sequence[str], tested: Examples, drawn: Draw, by_system: Mapping[str, Answer]) -> list[Sample]:
    """Return a few test rows of each label with what the systems say of them."""
    from tagger.reports.plots import Sample
    from tagger.training.dataset import RESNET18 as RESNET18_PIXELS

    rows, truth = drawn.tests, tested.truth[drawn.tests]
    places = [place for label in range(min(len(labels), SHOWN_LABELS)) for place in np.flatnonzero(truth == label)[:SHOWN]]
    return [
        Sample(
            tested.pixels[RESNET18_PIXELS][int(rows[place])].permute(1, 2, 0).numpy(),
            labels[truth[place]],
            [
                (system, labels[answer.probabilities[place].argmax()], float(answer.probabilities[place].max()))
                for system, answer in by_system.items()
            ],
        )
        for place in places
    ]
