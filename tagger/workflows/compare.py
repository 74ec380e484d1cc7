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
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from tagger.catalog.object_storage import Workspace
from tagger.core import shutdown
from tagger.core.errors import ConfigError, StoppedError, UsageError
from tagger.core.files import reason, write_bytes, write_text
from tagger.encoders.resnet18_checkpoint import is_trained
from tagger.images.workers import choose_workers, start_early
from tagger.inference.job import Labelled, open_labelled
from tagger.settings.load import gather_settings

if TYPE_CHECKING:
    from tagger.evaluation.comparison import Comparison
    from tagger.inference.predictor import Predictor
    from tagger.training.few_shot import Draw
    from tagger.training.resnet18 import Recipe
    from tagger.training.systems import Probabilities, Seen

log = logging.getLogger(__name__)

SYSTEMS = ("zero-shot", "resnet18", "hybrid")
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
    systems: Sequence[str] = SYSTEMS,
    shots: Sequence[int] = (12,),
    test: int | None = 4,
    seeds: int = 20,
    test_manifest: str | Path | None = None,
    recipe: Recipe | None = None,
    labels: Sequence[str] | None = None,
    attribute: str | None = None,
    model: str | Path | None = None,
    image_column: str | None = None,
    image_root: str | Path | None = None,
    device: str | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Comparison:
    """Draw, for each of `seeds` seeds, `shots` rows of each label to learn from and `test` others to test with, and write to the
    folder `output` what each system makes of them: comparison.json, predictions.parquet, confusion.png, samples.png and, for
    several numbers of shots, curves.png.

    test_manifest: where the test rows are drawn from, in place of `manifest`; test None: all of its rows. The same draw serves
    all systems, and all numbers of shots: fewer are the first of more. Raises the errors of errors.py; ManifestError where a
    label has too few rows that are not nearly the same picture.
    """
    folder = Path(output)
    _check(systems, shots, test, test_manifest, folder, overwrite)
    needs_clip = set(systems) != {"resnet18"}
    names = [str(manifest), *([str(test_manifest)] if test_manifest is not None else [])]
    settings = gather_settings(names[0], config, model=model, image_column=image_column, image_root=image_root)
    if needs_clip and is_trained(settings.model.name):
        raise UsageError(f"--model: expected a CLIP to be compared, found {settings.model.name}; name one with --model")
    with Workspace() as space, Workspace() as other, TemporaryDirectory(prefix="tagger-") as scratch:
        opened = [open_labelled(names[0], settings, space, labels, attribute)]
        chosen = opened[0].attribute
        same_labels = labels or (None if settings.attributes else chosen.label_names)
        opened += [open_labelled(name, settings, other, same_labels, attribute) for name in names[1:]]
        if workers != 0:
            start_early()
        # torch takes seconds to import: only now that everything else is known to be right.
        from tagger.evaluation.comparison import Comparison, score, worse_hybrids
        from tagger.inference.load import choose_device, load_predictor
        from tagger.training.resnet18 import Recipe, initial_network
        from tagger.training.systems import HYBRID, answers, for_draw

        recipe = recipe or Recipe()
        where = choose_device(device)
        workers = choose_workers(where.type) if workers is None else workers
        if set(systems) != {"zero-shot"}:
            initial_network(recipe.init, len(chosen.labels), recipe.seed)  # else it is missed only after all images were read
        clip = load_predictor(settings.model, device, [chosen]) if needs_clip else None
        quiet = not progress
        try:
            seen = [
                _see(one._replace(attribute=chosen), clip, recipe, workers, Path(scratch) / str(number), quiet)
                for number, one in enumerate(opened)
            ]
            draws = _draw(names, seen, chosen.label_names, max(shots), test, seeds)
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
                test=test,
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


def _check(
    systems: Sequence[str], shots: Sequence[int], test: int | None, test_manifest: object, folder: Path, overwrite: bool
) -> None:
    if find_spec("matplotlib") is None:
        raise ConfigError("tagger compare: expected matplotlib, which draws, found none; pip install 'tagger[compare]'")
    if unknown := [system for system in systems if system not in SYSTEMS]:
        raise UsageError(f"--systems: expected some of {', '.join(SYSTEMS)}, found {', '.join(unknown)}; correct it")
    if not systems or len(set(systems)) < len(systems):
        raise UsageError(f"--systems: expected some of {', '.join(SYSTEMS)}, each once, found {', '.join(systems)}; correct it")
    if not shots or min(shots) < 1 or len(set(shots)) < len(shots):
        raise UsageError(f"--shots: expected numbers from 1 on, each once, found {', '.join(map(str, shots))}; correct it")
    if test is None and test_manifest is None:
        raise UsageError("--test: expected a number of rows, found all, which leaves none to learn from; name a --test-manifest")
    if (folder / TABLE).exists() and not overwrite:
        raise UsageError(f"--output {folder}: expected no comparison, found one; choose another folder, or use --overwrite")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output {folder}: expected a folder, or nothing, found a file; choose another name")


def _see(labelled: Labelled, clip: Predictor | None, recipe: Recipe, workers: int, folder: Path, quiet: bool) -> Seen:
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

        examples = load_examples(
            labelled.manifest, labelled.attribute, labelled.policy, wanted, workers=workers, folder=folder, advance=advance
        )
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
    tested: Labelled,
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
