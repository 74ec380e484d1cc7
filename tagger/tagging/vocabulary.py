"""A vocabulary of things that are sold -> negative labels: words that are far from an attribute's labels, and no kind of them."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tagger.core.text import folded

NEGATIVES = 3000  # of about 13,000 words; chosen on clothing/validation, with the sample model
QUANTILE = 0.95  # of a word's similarities to the labels, by which it is judged (Jiang et al. 2024, equation 4)


class Noun(NamedTuple):
    """A meaning: its words, the commonest first, and the places in the vocabulary of those that it is a kind of."""

    words: tuple[str, ...]
    kind_of: tuple[int, ...]


@cache
def read_nouns() -> tuple[Noun, ...]:
    """Read the nouns of WordNet 3.0 for man-made things and food, without proper nouns (nouns.LICENSE.txt)."""
    text = gzip.decompress(files("tagger.tagging").joinpath("nouns.tsv.gz").read_bytes()).decode()
    lines = (line.split("\t") for line in text.splitlines())
    return tuple(Noun(tuple(words.split(",")), tuple(map(int, filter(None, kinds.split(","))))) for words, kinds in lines)


def candidates(labels: Sequence[str]) -> list[str]:
    """Return the first word of each meaning that may be a negative label, each word once.

    None is a label in one of its meanings, a kind of a label ("sneaker" of "shoes"), or what a label is a kind of ("footwear"):
    an image of a label would fit it as well (NegRefine, 2025, which asks a language model).
    """
    nouns = read_nouns()
    wanted = {form for label in labels for form in _singulars(folded(label))}
    named = {place for place, noun in enumerate(nouns) if any(word in wanted for word in noun.words)}
    left_out = _closure(named, _kinds()) | _closure(named, {place: noun.kind_of for place, noun in enumerate(nouns)})
    taken = {word for place in left_out for word in nouns[place].words} | wanted
    words = (noun.words[0] for place, noun in enumerate(nouns) if place not in left_out)
    return [word for word in dict.fromkeys(words) if word not in taken]


def choose_negatives(
    word_embeddings: NDArray[np.float32], label_embeddings: NDArray[np.float32], count: int = NEGATIVES
) -> NDArray[np.int64]:
    """Return int64 (count,), ascending, the words that are the farthest from the labels (NegMining of Jiang et al. 2024).

    word_embeddings: float32 (V, D), label_embeddings: float32 (K, D), both L2-normalised. A word's nearness is the QUANTILE of
    its cosines to the labels.
    """
    nearness = np.quantile(word_embeddings @ label_embeddings.T, QUANTILE, axis=1)
    farthest: NDArray[np.int64] = np.sort(np.argsort(nearness, kind="stable")[:count])
    return farthest


@cache
def _kinds() -> dict[int, list[int]]:
    """Return for each meaning the places of its kinds."""
    kinds: dict[int, list[int]] = {}
    for place, noun in enumerate(read_nouns()):
        for above in noun.kind_of:
            kinds.setdefault(above, []).append(place)
    return kinds


def _closure(places: set[int], following: dict[int, list[int]] | dict[int, tuple[int, ...]]) -> set[int]:
    found, ahead = set[int](), list(places)
    while ahead:
        place = ahead.pop()
        if place not in found:
            found.add(place)
            ahead += following.get(place, ())
    return found


def _singulars(word: str) -> set[str]:
    """Return the word and what it may be the plural of."""
    ending = [(end, new) for end, new in (("ies", "y"), ("es", ""), ("s", "")) if word.endswith(end)]
    return {word, *(word.removesuffix(end) + new for end, new in ending)}
