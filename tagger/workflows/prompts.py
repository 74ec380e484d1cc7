"""`tagger prompts`: sets of prompts tried on labelled rows, the best one written into tagger.toml; the public Python API that
the command line calls."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tagger.catalog.object_storage import Workspace
from tagger.catalog.product_column import find_product_column, read_products
from tagger.core import published, shutdown
from tagger.core.errors import ManifestError, UsageError
from tagger.core.write_check import require_writable
from tagger.images.workers import start_early
from tagger.inference.job import Job, model_alone, open_job, with_one_attribute
from tagger.settings.attributes import Attribute
from tagger.settings.edit import require_editable, write_prompts
from tagger.settings.load import load_settings, settings_file
from tagger.settings.options import Machine, Overrides, PromptTrial
from tagger.settings.schema import Settings

if TYPE_CHECKING:
    from tagger.evaluation.prompt_comparison import PromptComparison
    from tagger.inference.prompts import PromptEmbeddings
    from tagger.training.prompt_sets import PromptSet

log = logging.getLogger(__name__)

MIN_ROWS = 20  # half of them choose, half judge
ENCODED_AT_ONCE, TAGGED_AT_ONCE = 256, 4096


def prompts(
    manifest: str | Path,
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    attribute: str | None = None,
    trial: PromptTrial = PromptTrial(),  # noqa: B008  # frozen
    machine: Machine = Machine(),  # noqa: B008  # frozen
    **overrides: Unpack[Overrides],
) -> PromptComparison:
    """Try sets of prompts on the labelled rows: half of them choose the best set, the others judge all of them.

    attribute: which one of the settings', where there are several. With `trial.write`, a warning says what was fitted with the
    former prompts. Raises the errors of core/errors.py; ManifestError for too few labelled rows.
    """
    name = str(manifest)
    settings = load_settings(name, config, **overrides)
    if settings.model.is_resnet18:
        raise UsageError(f"--model: expected a CLIP, which reads prompts, found {settings.model.name}; name one with --model")
    file = _file_to_write(name, config, overrides) if trial.write else None
    with Workspace() as space:
        job = with_one_attribute(open_job(name, model_alone(settings), space), attribute)
        [chosen] = job.attributes
        column = find_product_column(job.manifest, trial.product_column)
        if file is not None:
            require_editable(file, chosen.name)
        from tagger.training.prompt_sets import prompt_sets, read_descriptions

        file_of_texts = trial.descriptions
        texts = None if file_of_texts is None else read_descriptions(Path(file_of_texts), chosen.label_names)
        sets = prompt_sets(chosen, texts, trial.seed)
        if machine.workers != 0:
            start_early()
        found = _compare(job, chosen, sets, column, trial.seed, machine)
    if file is not None and found.better:
        best = found.score_of(found.chosen)
        write_prompts(file, chosen.name, best.templates, best.prompts)
        published.note(f"the prompts are written into {file}")
        _warn_of_fitted(settings, chosen.name)
        found = found.model_copy(update={"written": str(file)})
    return found


def _file_to_write(manifest: str, config: str | Path | Mapping[str, Any] | None, overrides: Overrides) -> Path:
    """Return the settings file that prompts can be written into; UsageError, StoppedError."""
    file = settings_file(manifest, config)
    if file is None:
        raise UsageError(
            "--write: expected a tagger.toml to write into, found none; `tagger init` writes one, or name it with --config"
        )
    if overrides.get("labels") is not None:
        raise UsageError("--write and --labels: expected the labels of the file that is written, found others; leave one out")
    require_writable(file.resolve(), str(file), overwrite=True)
    return file


def _compare(
    job: Job, attribute: Attribute, sets: Sequence[PromptSet], column: str | None, seed: int, machine: Machine
) -> PromptComparison:
    """Embed prompts and rows, tag these with each set, and compare the sets."""
    # torch takes seconds to import: only now that everything else is known to be right.
    from tagger.encoders.base import PromptEncoder
    from tagger.evaluation.prompt_comparison import Tried, compare_prompts
    from tagger.inference.load import open_engine
    from tagger.inference.prompts import PromptEmbeddings
    from tagger.inference.store import store_of
    from tagger.training.dataset import embed, read_labelled
    from tagger.training.row_groups import groups_of
    from tagger.training.split import halve_groups

    labelled = read_labelled(job.manifest, [attribute])
    _require_enough(job.manifest.name, attribute, labelled.truths[attribute.name])
    quiet = not (machine.progress and sys.stderr.isatty())
    with open_engine(job, machine) as engine:
        embed_prompts = PromptEmbeddings(cast(PromptEncoder, engine.predictor.encoder), store_of(job.settings.cache))
        heads = {one.name: _label_embeddings(embed_prompts, one, quiet) for one in sets}
        with tqdm(total=len(labelled.rows), unit="image", desc="reading", disable=quiet) as bar:

            def advance(count: int) -> None:
                shutdown.check()
                bar.update(count)

            examples = embed(labelled, engine, advance)
    assert examples.embeddings is not None
    _require_enough(job.manifest.name, attribute, examples.truth)
    groups = groups_of(examples.embeddings, read_products(job.manifest, column, examples.rows))
    return compare_prompts(
        examples.truth,
        groups,
        halve_groups(groups, examples.truth, seed),
        {
            one.name: Tried(
                one.templates, one.prompts, one.control, [_tags(examples.embeddings, head) for head in heads[one.name]]
            )
            for one in sets
        },
        attribute.label_names,
        job.manifest.name,
        (attribute.name, job.settings.model.name),
    )


def _require_enough(manifest: str, attribute: Attribute, truth: NDArray[np.int64]) -> None:
    """Require rows to choose and rows to judge; truth: int64, -1 where a row has none."""
    rows, labels = int((truth >= 0).sum()), len(np.unique(truth[truth >= 0]))
    if rows < MIN_ROWS or labels < 2:
        raise ManifestError(
            f"{manifest}: expected at least {MIN_ROWS} labelled, readable rows of at least 2 labels in column "
            f"{attribute.truth_column}, found {rows} of {labels}; label more"
        )


def _label_embeddings(embed: PromptEmbeddings, chosen: PromptSet, quiet: bool) -> list[NDArray[np.float32]]:
    """Return for each draw of a set the labels' embeddings, float32 (K, D). ConfigError for a prompt that is too long."""
    from tagger.tagging.heads import ZeroShotHead

    texts = sorted({text for draw in chosen.draws for own in draw for text in own}, key=lambda text: (len(text), text))
    parts = []
    with tqdm(total=len(texts), unit="prompt", desc=chosen.name, disable=quiet) as bar:
        for start in range(0, len(texts), ENCODED_AT_ONCE):
            shutdown.check()
            parts.append(embed(texts[start : start + ENCODED_AT_ONCE]))
            bar.update(len(parts[-1]))
    embedded, place = np.concatenate(parts), {text: number for number, text in enumerate(texts)}
    return [
        ZeroShotHead([embedded[[place[text] for text in own]] for own in draw], logit_scale=1.0).label_embeddings
        for draw in chosen.draws
    ]


def _tags(embeddings: NDArray[Any], labels: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return int64 (N,), the label that is nearest to each embedding, (N, D)."""
    pieces = [
        (embeddings[start : start + TAGGED_AT_ONCE].astype(np.float32) @ labels.T).argmax(1)
        for start in range(0, len(embeddings), TAGGED_AT_ONCE)
    ]
    return np.concatenate(pieces)


def _warn_of_fitted(settings: Settings, name: str) -> None:
    """Warn of what a run will refuse, because it was fitted with the former prompts."""
    calibration = next((one.calibration for one in settings.attributes if one.name == name), None)
    if calibration is not None:
        log.warning("%s was fitted with the former prompts: run `tagger calibrate` before the next run", calibration)
    if settings.fallback is not None and settings.fallback.mode == "ensemble":
        log.warning(
            "%s was trained beside the former prompts: run `tagger train resnet18 --ensemble` before the next run",
            settings.fallback.checkpoint,
        )
