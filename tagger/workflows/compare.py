"""`tagger compare`: systems that learn from a few labelled rows and are tested with others, again and again; the public Python
API that the command line calls."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from tagger.catalog.object_storage import Workspace
from tagger.core import shutdown
from tagger.core.errors import ConfigError, StoppedError, UsageError
from tagger.core.files import reason, write_bytes, write_text
from tagger.images.workers import choose_workers, start_early
from tagger.inference.job import Job, open_job, with_one_attribute
from tagger.settings.attributes import Attribute
from tagger.settings.load import load_settings
from tagger.settings.options import Machine, Overrides, Recipe, Study

if TYPE_CHECKING:
    from tagger.evaluation.comparison import Comparison
    from tagger.inference.predictor import Predictor
    from tagger.training.few_shot import Draw
    from tagger.training.systems import Probabilities, Seen

log = logging.getLogger(__name__)

VERSIONS = ("tagger", "torch", "torchvision", "transformers")
TABLE, PREDICTIONS, CONFUSION, SAMPLES, CURVES = (
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
    _check_output(folder, overwrite)
    systems, shots, seeds = study.systems, study.shots, study.seeds
    needs_clip = set(systems) != {"resnet18"}
    names = [str(manifest), *([str(study.test_manifest)] if study.test_manifest is not None else [])]
    settings = load_settings(names[0], config, **overrides)
    if needs_clip and settings.model.is_resnet18:
        raise UsageError(f"--model: expected a CLIP to be compared, found {settings.model.name}; name one with --model")
    with Workspace() as space, Workspace() as other, TemporaryDirectory(prefix="tagger-") as scratch:
        opened = [with_one_attribute(open_job(names[0], settings, space), study.attribute)]
        [chosen] = opened[0].attributes
        same = settings if settings.attributes else settings.model_copy(update={"labels": chosen.label_names})
        opened += [with_one_attribute(open_job(name, same, other), study.attribute) for name in names[1:]]
        if machine.workers != 0:
            start_early()
        # torch takes seconds to import: only now that everything else is known to be right.
        from tagger.evaluation.comparison import Comparison, score, worse_hybrids
        from tagger.inference.load import choose_device, load_predictor
        from tagger.training.resnet18 import initial_network
        from tagger.training.systems import HYBRID, answers, for_draw

        where = choose_device(machine.device)
        workers = choose_workers(where.type) if machine.workers is None else machine.workers
        if set(systems) != {"zero-shot"}:
            initial_network(recipe.init, len(chosen.labels), recipe.seed)  # else it is missed only after all images were read
        clip = load_predictor(settings.model, machine.device, [chosen]) if needs_clip else None
        quiet = not machine.progress
        try:
            seen = [
                _see(one, chosen, clip, recipe, workers, Path(scratch) / str(number), quiet) for number, one in enumerate(opened)
            ]
            draws = _draw(names, seen, chosen.label_names, max(shots), study.test, seeds)
            learn, judge = seen[0], seen[-1]
            found: dict[int, list[dict[str, Probabilities]]] = {}
            with tqdm(total=seeds * len(shots), unit="draw", desc="comparing", disable=quiet or None) as bar:
                for count in shots:
                    for seed, drawn in enumerate(draws):
                        given = answers(
                            systems,
                            learn,
                            drawn.shots[:, :count].ravel(),
                            judge,
                            drawn.tests,
                            clip=clip,
                            labels=len(chosen.labels),
                            recipe=for_draw(recipe, seed),
                            device=where,
                            advance=shutdown.check,
                        )
                        found.setdefault(count, []).append(given)
                        bar.update()
            truths = [judge.examples.truth[drawn.tests] for drawn in draws]
            scores = []
            for count in shots:
                by_system = {system: [given[system].argmax(1) for given in found[count]] for system in systems}
                scores += score(truths, by_system, len(chosen.labels), count)
            comparison = Comparison(
                manifests={name: one.manifest.content_hash() for name, one in zip(names, opened, strict=True)},
                attribute=chosen.name,
                labels=chosen.label_names,
                model={"name": settings.model.name, "weights": clip.encoder.weights} if clip else {},
                recipe=asdict(recipe),
                test=study.test,
                seeds=seeds,
                scores=tuple(scores),
                notes=tuple(worse_hybrids(scores, HYBRID)),
                versions={library: version(library) for library in VERSIONS},
            )
            _write(folder, comparison, opened[-1], judge, draws, found, max(shots))
        except OSError as error:
            raise StoppedError(
                f"{folder}: expected to write the comparison, found: {reason(error)}; free the disk, or choose another place"
            ) from error
    return comparison


def _check_output(folder: Path, overwrite: bool) -> None:
    if find_spec("matplotlib") is None:
        raise ConfigError("tagger compare: expected matplotlib, which draws, found none; pip install 'tagger[compare]'")
    if (folder / TABLE).exists() and not overwrite:
        raise UsageError(f"--output {folder}: expected no comparison, found one; choose another folder, or use --overwrite")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output {folder}: expected a folder, or nothing, found a file; choose another name")


def _see(job: Job, attribute: Attribute, clip: Predictor | None, recipe: Recipe, workers: int, folder: Path, quiet: bool) -> Seen:
    """A manifest's labelled rows, decoded once for everybody, and their embeddings."""
    from tagger.training.dataset import load_examples
    from tagger.training.few_shot import WHOLE
    from tagger.training.systems import Seen

    folder.mkdir()
    wanted = [recipe.preprocessing, WHOLE, *([clip.encoder.preprocessing] if clip else [])]
    with tqdm(unit="image", desc="reading", disable=quiet or None) as bar:

        def advance(count: int) -> None:
            shutdown.check()
            bar.update(count)

        examples = load_examples(job.manifest, attribute, job.policy, wanted, workers=workers, folder=folder, advance=advance)
    if clip is None:
        return Seen(examples, None)
    parts = []
    with tqdm(total=len(examples.truth), unit="image", desc="encoding", disable=quiet or None) as bar:
        for start in range(0, len(examples.truth), clip.at_once):
            shutdown.check()
            parts.append(clip.encode(examples.pixels[2][start : start + clip.at_once])())
            bar.update(len(parts[-1]))
    return Seen(examples, np.concatenate(parts))


def _draw(
    names: Sequence[str], seen: Sequence[Seen], labels: Sequence[str], shots: int, test: int | None, seeds: int
) -> list[Draw]:
    from tagger.training.few_shot import Pool, draw, perceptual_hashes

    pools = [
        Pool(name, one.examples.truth, perceptual_hashes(one.examples.pixels[1])) for name, one in zip(names, seen, strict=True)
    ]
    return [draw(pools[0], pools[-1], labels, shots, test, seed) for seed in range(seeds)]


def _write(
    folder: Path,
    comparison: Comparison,
    tested: Job,
    judge: Seen,
    draws: Sequence[Draw],
    found: Mapping[int, Sequence[Mapping[str, Probabilities]]],
    most: int,
) -> None:
    """Each file whole or not at all, the table last."""
    from tagger.reports.plots import Sample, draw_confusion, draw_curves, draw_samples

    folder.mkdir(parents=True, exist_ok=True)
    labels = comparison.labels
    parts = []
    for count, given in found.items():
        for seed, (drawn, by_system) in enumerate(zip(draws, given, strict=True)):
            for system, probabilities in by_system.items():
                rows = drawn.tests
                parts.append(
                    pa.table(
                        {
                            "shots": np.full(len(rows), count),
                            "seed": np.full(len(rows), seed),
                            "system": [system] * len(rows),
                            "row": judge.examples.rows[rows],
                            "truth": [labels[right] for right in judge.examples.truth[rows]],
                            "label": [labels[best] for best in probabilities.argmax(1)],
                            "confidence": probabilities.max(1),
                        }
                    )
                )
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables(parts), buffer, compression="zstd")
    write_bytes(folder / PREDICTIONS, buffer.getvalue().to_pybytes())
    final = [score for score in comparison.scores if score.shots == most]
    write_bytes(folder / CONFUSION, draw_confusion(final, labels))
    rows, truth = draws[0].tests, judge.examples.truth[draws[0].tests]
    places = [place for label in range(min(len(labels), SHOWN_LABELS)) for place in np.flatnonzero(truth == label)[:SHOWN]]
    pictures = max((judge.examples.pixels[0], judge.examples.pixels[-1]), key=lambda pixels: pixels.shape[-1])
    samples = [
        Sample(
            pictures[int(rows[place])].permute(1, 2, 0).numpy(),
            labels[truth[place]],
            [
                (system, labels[probabilities[place].argmax()], float(probabilities[place].max()))
                for system, probabilities in found[most][0].items()
            ],
        )
        for place in places
    ]
    write_bytes(folder / SAMPLES, draw_samples(samples, min(SHOWN, len(samples))))
    if len(found) > 1:
        write_bytes(folder / CURVES, draw_curves(comparison.scores))
    write_text(folder / TABLE, comparison.model_dump_json(indent=2) + "\n")
