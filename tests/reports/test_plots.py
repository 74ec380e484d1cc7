"""Pictures of a comparison: many matrices on a sheet, many curves that can be told apart."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tagger.evaluation.comparison import Answer, score
from tagger.reports.plots import CURVES, draw_confusion, draw_curves
from tagger.settings.options import SYSTEMS


def size(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as picture:
        return picture.size


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (3, 3, 1), (4, 3, 2), (10, 4, 3)])
def test_confusion_matrices_are_in_lines_of_a_few(count: int, columns: int, rows: int):
    width, height = size(draw_confusion([("gda", [[3, 1], [0, 4]])] * count, ["dress", "bag"]))
    assert (width, height) == (340 * columns, 340 * rows)


def test_a_sheet_of_many_labels_stays_small_enough_to_open():
    width, height = size(
        draw_confusion([("gda", np.eye(60, dtype=int).tolist())] * len(SYSTEMS), [f"label {n}" for n in range(60)])
    )
    assert max(width, height) == 6000


def test_every_system_has_a_curve_of_its_own():
    styles = [tuple(style.items()) for style in CURVES]
    assert len(styles) >= len(SYSTEMS)
    assert len(set(styles)) == len({style["marker"] for style in CURVES}) == len(styles)


def test_differences_stand_beside_the_curves_of_several_systems():
    truths = [np.asarray([0, 1])] * 3
    draws = [Answer(np.eye(2, dtype=np.float32)[labels], 1.0) for labels in ([0, 1], [0, 0], [0, 1])]
    scores = [one for shots in (1, 4) for one in score(truths, dict.fromkeys(SYSTEMS, draws), 2, shots)]
    alone = [one for one in scores if one.system == SYSTEMS[0]]
    assert size(draw_curves(scores)) == (1000, 440)
    assert size(draw_curves(alone)) == (600, 440)
