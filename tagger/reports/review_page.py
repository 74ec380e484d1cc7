"""Make review.html: one self-contained page on which a person corrects a result's tags, without a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tagger.catalog.review_table import COLUMNS, Review, ReviewItem, to_cells, to_row
from tagger.core.csv_cells import SIGNS
from tagger.core.text import one_line
from tagger.images.thumbnails import Thumbnail
from tagger.reports.page import data_block, render

KEYS = 9  # the digits that choose a label
BEST = 3  # labels that are offered where there are more than KEYS
SHOWN = 200  # characters of a text on the page


def write_review_page(review: Review, pictures: Sequence[Thumbnail], name: str) -> str:
    """Return the page. pictures: those of the review's items, in their order. name: of the result, for its title."""
    number_of = {label: number for number, label in enumerate(review.labels)}
    data = {
        "store": f"tagger-review-{review.result}",
        "columns": COLUMNS,
        "signs": SIGNS,
        "labels": [{"value": label, "shown": _shown(label)} for label in review.labels],
        "offered": len(review.labels) if len(review.labels) <= KEYS else BEST,
        "items": [_item(review, *pair, number_of) for pair in zip(review.items, pictures, strict=True)],
    }
    return render("review.html", name=name, attribute=review.attribute, total=len(review.items), data=data_block("data", data))


def _item(review: Review, item: ReviewItem, picture: Thumbnail, number_of: dict[str, int]) -> dict[str, Any]:
    """Return what the script needs of an item: its key, its cells for corrections.csv, and what it shows."""
    return {
        "key": item.image_hash if item.id is None else item.id,
        "cells": to_cells(to_row(review, item)),
        "best": [[number_of[label], confidence] for label, confidence in item.top if label in number_of],
        "name": _shown(item.id if item.id is not None else item.image or "embedded picture"),
        "image": _shown(item.image or ""),
        "reason": _shown(item.reason),
        "truth": None if item.truth is None else _shown(item.truth),
        "picture": picture.uri,
        "size": [picture.width, picture.height],
    }


def _shown(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
