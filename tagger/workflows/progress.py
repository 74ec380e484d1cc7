"""The bar of a training, which stops where the user asked for it."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm

from tagger.core import shutdown


def advance(bar: tqdm[Any], count: int, text: str = "") -> None:
    """Move the bar on by `count` and show the text behind it. Raises what shutdown.check does."""
    shutdown.check()
    bar.set_postfix_str(text, refresh=False)
    bar.update(count)
