"""Show what `tagger inspect` found, on a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tagger.catalog.profile import Balance, References
from tagger.core.text import listed, one_line, to_json
from tagger.inference.estimate import Estimate

SHOWN = 12  # labels or values that a line lists


@dataclass(frozen=True, kw_only=True)
class Question:
    """One attribute, as it will be asked.

    labels: label -> number of its prompts. balance: None without a truth column.
    """

    labels: dict[str, int]
    truth_column: str | None
    balance: Balance | None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The images that were drawn from the manifest and read.

    drawn: how many, of which `readable` decoded. formats: format -> images that decoded. width, height, size: median and largest,
    in pixels and bytes. errors: code -> images. examples: code -> the first of them, with its row.
    """

    drawn: int
    readable: int
    formats: dict[str, int]
    width: tuple[int, int]
    height: tuple[int, int]
    size: tuple[int, int]
    errors: dict[str, int]
    examples: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What a run with the same options would find and take.

    columns: name -> type. questions: by attribute. model: name, revision, whether it is `here` on this machine, and the device
    and precision that the estimate assumes. warnings: what will not end a run, but may not be meant.
    """

    schema_version: int = 1
    manifest: str
    files: int
    bytes: int
    rows: int
    columns: dict[str, str]
    image_column: str
    references: References
    questions: dict[str, Question]
    sample: Sample
    model: dict[str, Any]
    estimate: Estimate
    warnings: tuple[str, ...]

    def to_json(self) -> str:
        return to_json(asdict(self))

    def to_text(self) -> str:
        """Return what was found as lines for a terminal."""
        columns = ", ".join(
            f"{name} ({kind}{', images' if name == self.image_column else ''})" for name, kind in self.columns.items()
        )
        lines = [
            f"{self.manifest}: {self.rows:,} rows in {_count(self.files, 'file')}, {_bytes(self.bytes)}",
            f"columns: {columns}",
            self._references(),
            *(line for name, question in self.questions.items() for line in _question(name, question)),
            *_sample(self.sample),
            *self._estimate(),
            *(f"warning: {warning}" for warning in self.warnings),
        ]
        return "\n".join(map(one_line, lines))

    def _references(self) -> str:
        found = self.references
        kinds = ", ".join(f"{rows:,} {kind}" for kind, rows in found.kinds.items()) or "none"
        repeated = f", {found.repeated:,} of them again" if found.repeated else ""
        nulls = f", {_count(found.nulls, 'row')} without" if found.nulls else ""
        return f"images in {self.image_column}: {kinds}{repeated}{nulls}"

    def _estimate(self) -> list[str]:
        found, model = self.estimate, self.model
        where = "" if model["here"] else " (not on this machine: taken for ViT-B/32)"
        parts = [
            f"main process {_bytes(found.main_bytes)}",
            f"{_count(found.workers, 'decoding process')} {_bytes(found.decoding_bytes)}",
        ]
        if found.device_bytes:
            parts.append(f"{model['device']} {_bytes(found.device_bytes)}")
        return [
            f"model: {model['name']}{where}, {model['device']}, {model['precision']}",
            f"time: about {duration(found.seconds)} from nothing, {duration(found.start)} of them to start; images that the "
            f"embedding cache knows cost next to nothing; limited by: {found.limited_by}",
            f"  an image: {found.encode * 1e3:.3g} ms to encode (from a product of the model's shape, measured now), "
            f"{found.decode * 1e3:.3g} ms of one core to read and decode (from the sample)",
            f"memory: about {_bytes(found.main_bytes + found.decoding_bytes)}: {', '.join(parts)}",
        ]


def _question(name: str, question: Question) -> list[str]:
    prompts = sum(question.labels.values())
    line = f"{name}: {len(question.labels)} labels, {_count(prompts, 'prompt')}"
    balance = question.balance
    if balance is None:
        return [f"{line}; no truth column"]
    lines = [f"{line}; truth in {question.truth_column}: {sum(balance.labels.values()):,} rows, {balance.without:,} without"]
    lines.append(f"  rows of a label: {_listed(balance.labels)}")
    if balance.folded_rows:
        values = listed(balance.folded, SHOWN)
        lines.append(f"  rows whose value matches a label but for case or space: {balance.folded_rows:,} ({values})")
    if balance.other_rows:
        lines.append(f"  rows whose value is no label: {balance.other_rows:,} ({listed(balance.others, SHOWN)})")
    return lines


def _listed(counts: Mapping[str, int]) -> str:
    shown = ", ".join(f"{count:,} {name}" for name, count in list(counts.items())[:SHOWN])
    return shown + (f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else "")


def _sample(sample: Sample) -> list[str]:
    if not sample.drawn:
        return ["sample: no rows"]
    formats = ", ".join(f"{count} {name}" for name, count in sample.formats.items())
    (width, widest), (height, highest), (size, largest) = sample.width, sample.height, sample.size
    lines = [
        f"sample: {sample.readable} of {sample.drawn} images can be read ({formats}); median {width}x{height}, {_bytes(size)}; "
        f"at most {widest}x{highest}, {_bytes(largest)}"
    ]
    return lines + [f"  {count} {code}, the first: {sample.examples[code]}" for code, count in sample.errors.items()]


def duration(seconds: float) -> str:
    """Return a duration as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _bytes(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"


def _count(count: int, noun: str) -> str:
    plural = "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{'' if count == 1 else plural}"
