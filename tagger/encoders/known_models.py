"""Models that are known to be of a kind that is read, with what their makers say of them; and under which licence a model is."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tagger.core.errors import ConfigError
from tagger.encoders.pinned import read_pinned


class KnownModel(NamedTuple):
    """A model of the hub.

    extra: the one of tagger that reads it, "" for none. parameters: millions, of both towers. embedding: numbers. side: pixels.
    quality: as published, and where; none of it was measured with tagger.
    """

    name: str
    extra: str
    parameters: int
    embedding: int
    side: int
    languages: str
    licence: str
    quality: str
    source: str


_IMAGENET = "ImageNet, zero-shot {}%"
KNOWN = (
    KnownModel(
        *("openai/clip-vit-base-patch32", "", 151, 512, 224, "English", "mit"),
        *(_IMAGENET.format(63.2), "Radford et al. 2021, table 11"),
    ),
    KnownModel(
        *("openai/clip-vit-large-patch14", "", 428, 768, 224, "English", "mit"),
        *(_IMAGENET.format(75.3), "Radford et al. 2021, table 11"),
    ),
    KnownModel(
        *("patrickjohncyh/fashion-clip", "", 151, 512, 224, "English", "mit"),
        *("Fashion-MNIST, zero-shot F1 0.83", "its model card; Chia et al. 2022"),
    ),
    KnownModel(
        *("google/siglip-base-patch16-224", "siglip", 203, 768, 224, "English", "apache-2.0"),
        *(_IMAGENET.format(76.2), "Tschannen et al. 2025, table 1"),
    ),
    KnownModel(
        *("google/siglip2-base-patch16-224", "", 375, 768, 224, "109 languages", "apache-2.0"),
        *(_IMAGENET.format(78.2), "Tschannen et al. 2025, table 1"),
    ),
    KnownModel(
        *("google/siglip2-so400m-patch16-384", "", 1136, 1152, 384, "109 languages", "apache-2.0"),
        *(_IMAGENET.format(84.1), "Tschannen et al. 2025, table 1"),
    ),
    KnownModel(
        *("facebook/metaclip-2-worldwide-huge-quickgelu", "", 1858, 1024, 224, "over 300 languages", "cc-by-nc-4.0"),
        *(_IMAGENET.format(81.3), "Chuang et al. 2025, table 1"),
    ),
    KnownModel(
        *("Marqo/marqo-fashionSigLIP", "open-clip", 203, 768, 224, "English", "apache-2.0"),
        *("category to product, precision at 1 0.758 on 5 fashion sets", "its model card"),
    ),
    KnownModel(
        *("timm/PE-Core-B-16", "open-clip", 448, 1024, 224, "English", "apache-2.0"),
        *(_IMAGENET.format(78.4), "Bolya et al. 2025"),
    ),
    KnownModel(
        *("apple/MobileCLIP2-S0", "open-clip", 75, 512, 256, "English", "apple-amlr"),
        *(_IMAGENET.format(71.5), "Faghri et al. 2025"),
    ),
)


def check_licence(name: str, allowed: tuple[str, ...]) -> None:
    """Raise ConfigError where some licences are allowed, and the model's is none of them or is not known."""
    if not allowed:
        return
    found = licence_of(name)
    if found is None or found.lower() not in {one.lower() for one in allowed}:
        has = f"one under {found}" if found else "one whose licence is not known"
        raise ConfigError(
            f"model {name}: expected a licence that [model] allow_licences names ({', '.join(allowed)}), found {has}; name "
            "another model, pull it with `tagger models pull`, which notes its licence, or allow it"
        )


def licence_of(name: str) -> str | None:
    """Return a model's licence as its copy says (`tagger models pull`), else as it is known by name; None if it is not known."""
    pinned = read_pinned(Path(name)) if Path(name).is_dir() else None
    if pinned is not None and pinned.licence is not None:
        return pinned.licence
    named = pinned.repository if pinned is not None else name
    return next((model.licence for model in KNOWN if model.name == named), None)
