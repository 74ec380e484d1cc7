"""Encoder and heads together: pixels -> embeddings, embeddings -> probabilities."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tagger.core.errors import ModelError, StoppedError
from tagger.core.text import first_line
from tagger.core.types import Decision
from tagger.encoders.base import Encoder
from tagger.settings.attributes import Attribute, prompts_hash
from tagger.tagging.decisions import decide
from tagger.tagging.head_file import HEAD
from tagger.tagging.unknown import UnknownRule, with_unknown

log = logging.getLogger(__name__)


# Images that are encoded at once. On a CPU more are not faster; an accelerator needs more to be busy.
ENCODED_AT_ONCE = {"cpu": 32}
ENCODED_AT_ONCE_BY_AN_ACCELERATOR = 256
DECIDED_AT_ONCE = 256

Embeddings = NDArray[Any]  # float16 or float32 (N, D)
Probabilities = NDArray[np.float32]  # (N, K)
Head = Callable[[Tensor], Tensor]  # float32 (N, D) -> float32 (N, K)


class Identity(NamedTuple):
    """Say who decides about an attribute, as results name it, and the hashes of its weights and of the prompts it goes by."""

    source: str
    weights: str
    prompts: str


class Predictor:
    """An encoder and, for every attribute, a head, a temperature that its logits are divided by, the probability from which on a
    label belongs to a prediction set (None: there are no sets), and the rule for images that are none of the labels (or None).

    Kernels differ with the shape, in the last bits of fp32. Therefore images are encoded, and embeddings judged, in pieces of
    one shape, the last one padded: an image's tags do not depend on its company, nor on the batch size or on what was known
    before. Embeddings are rounded to what the cache keeps (`dtype`) before any head sees them, for the same reason.

    A predictor stays what it is made as, but for `at_once`: the images that are encoded at once become fewer where the memory
    turns out to be too small.
    """

    def __init__(
        self,
        encoder: Encoder,
        attributes: Sequence[Attribute],
        heads: Sequence[Head],
        *,
        temperatures: Sequence[float] | None = None,
        set_thresholds: Sequence[float | None] | None = None,
        unknown_rules: Sequence[UnknownRule | None] | None = None,
        dtype: np.dtype[Any] | type[np.floating[Any]] = np.float16,
        at_once: int | None = None,
    ) -> None:
        self.encoder, self.attributes = encoder, tuple(attributes)
        self.dtype = np.dtype(dtype)
        self.temperatures = tuple(temperatures or [1.0] * len(self.attributes))
        self.set_thresholds = tuple(set_thresholds or [None] * len(self.attributes))
        self.unknown_rules = tuple(unknown_rules or [None] * len(self.attributes))
        self.at_once = at_once or ENCODED_AT_ONCE.get(encoder.device.type, ENCODED_AT_ONCE_BY_AN_ACCELERATOR)
        self._wanted, self.heads = self.at_once, tuple(heads)
        pairs = zip(self.attributes, self.heads, strict=True)
        self.identities = tuple(identity_of(encoder, attribute, head) for attribute, head in pairs)

    def with_encoder(self, encoder: Encoder) -> Predictor:
        """Return the same heads on another encoder of the same embeddings."""
        return self._replace(encoder=encoder)

    def with_temperatures(self, temperatures: Sequence[float]) -> Predictor:
        """Return the same with other temperatures, one an attribute."""
        return self._replace(temperatures=temperatures)

    def with_set_thresholds(self, thresholds: Sequence[float | None]) -> Predictor:
        """Return the same with other thresholds of prediction sets, one an attribute."""
        return self._replace(set_thresholds=thresholds)

    def with_unknown_rules(self, rules: Sequence[UnknownRule | None]) -> Predictor:
        """Return the same with other rules for images that are none of the labels, one an attribute."""
        return self._replace(unknown_rules=rules)

    def encoding_at_once(self, images: int) -> Predictor:
        """Return the same with pieces of so many images."""
        return self._replace(at_once=images)

    def _replace(self, **changes: Any) -> Predictor:
        values = {
            "encoder": self.encoder,
            "attributes": self.attributes,
            "heads": self.heads,
            "temperatures": self.temperatures,
            "set_thresholds": self.set_thresholds,
            "unknown_rules": self.unknown_rules,
            "dtype": self.dtype,
            "at_once": self._wanted,
        }
        return Predictor(**{**values, **changes})

    @property
    def lacks_memory(self) -> bool:
        """Tell whether fewer images are encoded at once than should be, so that embeddings may differ in the last digits."""
        return self.at_once < self._wanted

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Callable[[], Embeddings]:
        """Begin to encode uint8 (N, 3, H, W); return a function that waits for the embeddings, (N, D) of `dtype`.

        On an accelerator, what was begun goes on beside the caller, who leaves `pixels` alone meanwhile. Raises StoppedError
        if it fails, ModelError for embeddings that are no numbers. Where it lacks the memory, the pieces are halved, and the
        last digits may differ.
        """
        pieces: list[Tensor] = []
        start = 0
        while start < len(pixels):
            piece = pixels[start : start + self.at_once]
            try:
                pieces.append(self._encode_piece(piece))
                start += len(piece)
                continue
            except torch.OutOfMemoryError as error:
                reason = first_line(error)
            except RuntimeError as error:
                self._stop(error)
                raise
            # Here, not in the handler: while that runs, the error's traceback keeps what did not fit.
            self._halve(reason)
        arrived = torch.cuda.current_stream(self.encoder.device).record_event() if self.encoder.device.type == "cuda" else None

        def wait() -> Embeddings:
            try:
                if arrived is not None:
                    arrived.synchronize()
                embeddings = np.concatenate([piece.numpy() for piece in pieces])
            except RuntimeError as error:
                self._stop(error)
                raise
            if not np.isfinite(embeddings).all():
                raise ModelError(
                    f"--precision {self.encoder.precision}: expected embeddings that are finite, found NaN or infinity; use "
                    "fp32, or another model"
                )
            return embeddings

        return wait

    @torch.inference_mode()
    def probabilities(self, embeddings: Embeddings) -> list[Probabilities]:
        """Return (N, K) for each attribute, of embeddings (N, D): the softmax of its logits, divided by its temperature."""
        found = [np.empty((len(embeddings), len(attribute.labels)), np.float32) for attribute in self.attributes]
        for rows, padded in self._pieces(embeddings):
            for whole, head, temperature in zip(found, self.heads, self.temperatures, strict=True):
                whole[rows] = (head(padded) / temperature).softmax(1)[: len(whole[rows])].cpu().numpy()
        return found

    @torch.inference_mode()
    def known_scores(self, embeddings: Embeddings) -> list[NDArray[np.float32] | None]:
        """Return for each attribute that has a rule float32 (N,), how well images fit any of its labels, of embeddings (N, D)."""
        found = [None if rule is None else np.empty(len(embeddings), np.float32) for rule in self.unknown_rules]
        for whole, rule in zip(found, self.unknown_rules, strict=True):
            if whole is not None and rule is not None:
                for rows, padded in self._pieces(embeddings):
                    whole[rows] = rule.score(padded)[: len(whole[rows])].cpu().numpy()
        return found

    def _pieces(self, embeddings: Embeddings) -> Iterator[tuple[slice, Tensor]]:
        """Yield the rows of each piece and its embeddings, float32 (DECIDED_AT_ONCE, D), padded, on the encoder's device."""
        for start in range(0, len(embeddings), DECIDED_AT_ONCE):
            piece = torch.from_numpy(embeddings[start : start + DECIDED_AT_ONCE]).float()
            padded = F.pad(piece, (0, 0, 0, DECIDED_AT_ONCE - len(piece))).to(self.encoder.device)
            yield slice(start, start + len(piece)), padded

    def decide(self, embeddings: Embeddings) -> list[Decision]:
        """Return one Decision an attribute about embeddings (N, D)."""
        probabilities = self.probabilities(embeddings)
        return self.decide_by(embeddings, probabilities, [np.full(len(embeddings), one.source) for one in self.identities])

    def decide_by(
        self, embeddings: Embeddings, probabilities: Sequence[Probabilities], sources: Sequence[NDArray[np.str_]]
    ) -> list[Decision]:
        """Return one Decision an attribute, by its probabilities and by whose they are, str (N,); embeddings: this encoder's."""
        decisions = [
            decide(found, source, attribute.name, attribute.thresholds, set_threshold)
            for found, source, attribute, set_threshold in zip(
                probabilities, sources, self.attributes, self.set_thresholds, strict=True
            )
        ]
        known = zip(self.attributes, decisions, self.known_scores(embeddings), self.unknown_rules, strict=True)
        return [
            decision if scores is None or rule is None else with_unknown(decision, attribute.name, scores, rule.below)
            for attribute, decision, scores, rule in known
        ]

    def _encode_piece(self, pixels: Tensor) -> Tensor:
        count = len(pixels)
        if count < self.at_once:
            pixels = F.pad(pixels, (0, 0, 0, 0, 0, 0, 0, self.at_once - count))
        kept = torch.float16 if self.dtype == np.float16 else torch.float32
        return self.encoder.encode(pixels)[:count].to(kept).to("cpu", non_blocking=self.encoder.device.type == "cuda")

    def _stop(self, error: RuntimeError) -> None:
        """Raise StoppedError for what an accelerator says; on a CPU the error is a fault of the program."""
        if self.encoder.device.type != "cpu":
            raise StoppedError(
                f"{self.encoder.device}: expected it to encode images, found: {first_line(error)}; nothing was "
                "published; run again to continue"
            ) from error

    def _halve(self, reason: str) -> None:
        if self.at_once == 1:
            raise StoppedError(
                f"{self.encoder.device}: expected memory for one image, found: {reason}; free some, and run again to continue"
            )
        if self.at_once == self._wanted:
            log.warning(
                "%s: too little memory for %d images at once; going on with fewer, whose confidences may differ in the last "
                "digits from those of a run that has more",
                self.encoder.device,
                self.at_once,
            )
        self.at_once //= 2
        if self.encoder.device.type == "cuda":
            torch.cuda.empty_cache()


def identity_of(encoder: Encoder, attribute: Attribute, head: Head) -> Identity:
    """Return who decides: a head that labelled rows fitted, or the encoder's own, that of its prompts or its last layer."""
    if (fingerprint := getattr(head, "fingerprint", None)) is not None:
        return Identity(HEAD, fingerprint, prompts="")
    return Identity(encoder.source, encoder.weights, prompts_hash(attribute) if encoder.reads_prompts else "")
