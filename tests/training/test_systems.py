"""Systems that are compared: what heads make of the shots of a draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tagger.settings.options import CLIP_SYSTEMS, HEAD, HEAD_SYSTEMS, HYBRID, RESNET18, SYSTEMS, ZERO_SHOT, Recipe
from tagger.tagging.heads import ZeroShotHead, softmax
from tagger.training.dataset import Examples
from tagger.training.few_shot import Draw
from tagger.training.head_methods import METHODS
from tagger.training.systems import Side, Task, answers

LABELS, SHOTS, ROWS = 3, 8, 40


def task_of_clusters(meaningless: bool = False) -> tuple[Task, Draw]:
    """Rows around a centre for each label; prompts are the centres or, if they mean nothing, those of other labels.

    Only the first shots and all test rows have embeddings that are numbers.
    """
    generator = torch.Generator().manual_seed(1)
    centres = F.normalize(torch.randn(LABELS, 16, generator=generator), dim=1)
    prompts = ZeroShotHead([centre[None].numpy() for centre in (centres.roll(1, 0) if meaningless else centres)], 10.0)

    def side(rows: int) -> Side:
        truth = np.repeat(np.arange(LABELS), rows)
        embeddings = F.normalize(centres[truth] + 0.05 * torch.randn(len(truth), 16, generator=generator), dim=1)
        return Side(
            Examples(np.arange(len(truth)), {"category": truth}, {}, embeddings.numpy()), softmax(prompts(embeddings.numpy()))
        )

    learn, test = side(ROWS), side(5)
    shots = np.arange(LABELS)[:, None] * ROWS + np.arange(SHOTS)
    assert learn.examples.embeddings is not None
    learn.examples.embeddings[np.setdiff1d(np.arange(LABELS * ROWS), shots)] = np.nan
    task = Task(learn=learn, test=test, labels=LABELS, device=torch.device("cpu"), prompts=prompts)
    return task, Draw(shots, np.arange(LABELS * 5)[::-1])


def test_every_method_of_a_head_is_a_system():
    assert set(HEAD_SYSTEMS) == {*METHODS, HEAD}
    assert set(SYSTEMS) == {ZERO_SHOT, RESNET18, HYBRID, *HEAD_SYSTEMS, *CLIP_SYSTEMS}


@pytest.mark.parametrize("system", HEAD_SYSTEMS)
def test_a_head_learns_from_the_shots_alone(system: str):
    task, drawn = task_of_clusters(meaningless=True)
    found = answers((ZERO_SHOT, system), task, drawn, Recipe(), lambda: None)
    truth = task.test.examples.truth[drawn.tests]
    assert (found[ZERO_SHOT].probabilities.argmax(1) == truth).mean() == 0
    probabilities = found[system].probabilities
    assert (probabilities.argmax(1) == truth).all()
    assert probabilities.dtype == np.float32
    assert probabilities.sum(1) == pytest.approx(1, abs=1e-6)
    assert set(found[system].method.split("+")) <= set(METHODS)


@pytest.mark.parametrize("shots", [1, SHOTS])
def test_the_head_is_zero_shot_where_nothing_is_surely_better(shots: int):
    task, drawn = task_of_clusters()
    found = answers((HEAD, ZERO_SHOT), task, drawn.with_shots(shots), Recipe(), lambda: None)
    assert found[HEAD].method == ZERO_SHOT
    assert found[HEAD].probabilities == pytest.approx(found[ZERO_SHOT].probabilities, abs=1e-6)
