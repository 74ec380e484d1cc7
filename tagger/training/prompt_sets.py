"""Labels -> sets of prompts that may stand for them, to be tried on labelled rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tagger.core.errors import ConfigError
from tagger.core.files import reason
from tagger.core.text import first_line, quoted
from tagger.settings.attributes import DEFAULT_TEMPLATES, Attribute

SETTINGS, STUDY, ENSEMBLE, FASHION, DESCRIPTIONS, RANDOM = (
    "settings",
    "study",
    "ensemble",
    "fashion",
    "descriptions",
    "random words",
)

# Contexts that differ in what a photographer, a camera or a file may do to the same thing (Radford et al. 2021, section 3.1.4).
ENSEMBLE_TEMPLATES = (
    "A picture of a {label}.",
    "A snapshot that shows a {label}.",
    "A close view of a {label}.",
    "A {label}, seen from some distance.",
    "A sharp and bright image of a {label}.",
    "A dark and blurred image of a {label}.",
    "A small, grainy picture with a {label} in it.",
    "A {label} in the middle of the frame.",
    "A {label}, cut off at the edge of the image.",
    "A black and white picture of a {label}.",
    "A colourful picture of a {label}.",
    "A drawing of a {label}.",
    "Somebody's {label}.",
    "One {label} among other things.",
    "A brand new {label}.",
    "A {label} that has been used a lot.",
)
FASHION_TEMPLATES = (
    "A {label} from the catalogue of a clothing shop.",
    "A product shot of a {label} on a white background.",
    "A studio picture of a {label} for a web shop.",
    "A {label} laid flat, to be sold online.",
    "A {label} on a hanger.",
    "A model who wears a {label}.",
    "A second-hand {label}, photographed at home.",
    "The front of a {label}.",
    "A {label}, a piece of clothing.",
    "A {label}, an item of fashion.",
)
# Words that say nothing about how a thing looks.
WORDS = (
    "answer", "autumn", "balance", "bridge", "candle", "century", "chapter", "choir", "coffee", "corner", "debate", "engine",
    "evening", "festival", "forest", "garden", "harbour", "history", "holiday", "island", "journey", "kitchen", "ladder",
    "lecture", "letter", "library", "market", "melody", "minute", "mountain", "museum", "neighbour", "number", "ocean", "office",
    "orchard", "paper", "planet", "pocket", "police", "prayer", "promise", "quarter", "railway", "reason", "recipe", "river",
    "season", "silence", "station", "stranger", "sugar", "summer", "theatre", "thunder", "ticket", "tunnel", "village", "weather",
    "window",
)  # fmt: skip
DRAWS, RANDOM_PROMPTS = 4, 8


@dataclass(frozen=True)
class PromptSet:
    """Prompts that may stand for the labels of an attribute.

    draws: for each draw, for each label, its prompts; only what is left to chance has several. templates: what they were made
    of, none where each label has its own. control: it shows what is not due to the prompts' words, and is never chosen.
    """

    name: str
    draws: tuple[tuple[tuple[str, ...], ...], ...]
    templates: tuple[str, ...] = ()
    control: bool = False

    @property
    def prompts(self) -> tuple[tuple[str, ...], ...]:
        """For each label its prompts, of the first draw."""
        return self.draws[0]


def prompt_sets(attribute: Attribute, descriptions: Mapping[str, Sequence[str]] | None, seed: int) -> list[PromptSet]:
    """Return the sets to try, the prompts of the settings first; none is there twice.

    descriptions: label -> texts that say how it looks (Pratt et al. 2023), None for no such set.
    """
    own = tuple(attribute.prompts(label) for label in attribute.labels)
    templates = () if any(label.prompts for label in attribute.labels) else attribute.templates
    sets = [PromptSet(SETTINGS, (own,), templates)]
    for name, chosen in ((STUDY, DEFAULT_TEMPLATES), (ENSEMBLE, ENSEMBLE_TEMPLATES), (FASHION, FASHION_TEMPLATES)):
        sets.append(PromptSet(name, (_filled(chosen, attribute.label_names),), chosen))
    if descriptions is not None:
        sets.append(PromptSet(DESCRIPTIONS, (tuple(tuple(descriptions[name]) for name in attribute.label_names),)))
    unlike = [one for number, one in enumerate(sets) if all(one.draws != other.draws for other in sets[:number])]
    return [*unlike, _random_words(attribute.label_names, seed)]


def read_descriptions(file: Path, labels: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read descriptions of every label from JSON, {label: [descriptions]}; ConfigError for all else."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise _expected(file, "every label once", f"{quoted(twice[0])} more than once")
        return dict(pairs)

    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=once)
    except OSError as error:
        raise ConfigError(f"--descriptions {file}: expected a readable file, found: {reason(error)}; correct it") from error
    except (ValueError, RecursionError) as error:
        raise _expected(file, 'JSON such as {"dress": ["A dress is …"]}', f"damaged JSON: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise _expected(file, 'an object such as {"dress": ["A dress is …"]}', f"{type(content).__name__}")
    if unknown := [name for name in content if name not in labels]:
        raise _expected(file, f"the labels {', '.join(map(quoted, labels[:10]))}", f"others: {_names(unknown)}")
    if missing := [name for name in labels if name not in content]:
        raise _expected(file, "descriptions of every label", f"none of {_names(missing)}")
    for label, texts in content.items():
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise _expected(file, f"a list of texts for {quoted(label)}, at least one and none blank", json.dumps(texts)[:80])
    return {label: tuple(dict.fromkeys(text.strip() for text in texts)) for label, texts in content.items()}


def _filled(templates: Sequence[str], labels: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(template.replace("{label}", label) for template in templates) for label in labels)


def _random_words(labels: Sequence[str], seed: int) -> PromptSet:
    """Return prompts that end in random words or random letters, the same ones for every label (Roth et al. 2023)."""
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(DRAWS):
        words = [" ".join(rng.choice(WORDS, 2, replace=False)) for _ in range(RANDOM_PROMPTS // 2)]
        letters = ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 8)) for _ in range(RANDOM_PROMPTS // 2)]
        templates = [f"A photo of a {{label}}, which has {end}." for end in (*words, *letters)]
        draws.append(_filled(templates, labels))
    return PromptSet(RANDOM, tuple(draws), control=True)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(map(quoted, names[:10])) + more


def _expected(file: Path, expected: str, found: str) -> ConfigError:
    return ConfigError(f"--descriptions {file}: expected {expected}, found {found}; correct it")
