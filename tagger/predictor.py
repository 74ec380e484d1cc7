"""The predictor joins the stages: a batch of images -> one decision per image and attribute. Loaded once per worker."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from tagger.encoders.clip import ClipEncoder, load_clip
from tagger.errors import ConfigError, StoppedError
from tagger.tagging.decisions import decide
from tagger.tagging.heads import ZeroShotHead
from tagger.tagging.taxonomy import Attribute
from tagger.types import Decision, ImageBatch, join_decisions

log = logging.getLogger(__name__)

ENCODED_AT_ONCE = 32


class Predictor:
    """An encoder and, for every attribute, a head; the prompts are encoded here, once."""

    def __init__(self, encoder: ClipEncoder, attributes: Sequence[Attribute]) -> None:
        self.encoder, self.attributes = encoder, tuple(attributes)
        self._at_once = ENCODED_AT_ONCE
        self._heads = [
            ZeroShotHead([encoder.encode_prompts(attribute.prompts(label)) for label in attribute.labels], encoder.logit_scale)
            for attribute in attributes
        ]

    @torch.inference_mode()
    def predict(self, batch: ImageBatch) -> list[Decision]:
        """One Decision an attribute, about `batch.rows`. Raises StoppedError if the accelerator fails.

        The images are encoded and judged in pieces of one shape, the last one padded: kernels differ with the shape, in the
        last bits of fp32. That it is fixed makes an image's tags independent of its company and of the batch size; only an
        accelerator's lack of memory changes it.
        """
        pieces: list[list[Decision]] = []
        start = 0
        while start < len(batch.rows):
            piece = batch.pixels[start : start + self._at_once]
            try:
                pieces.append(self._decide(piece))
                start += len(piece)
                continue
            except torch.OutOfMemoryError as error:
                reason = str(error).splitlines()[0]
            except RuntimeError as error:
                if self.encoder.device.type == "cpu":
                    raise
                raise StoppedError(
                    f"{self.encoder.device}: expected it to encode images, found: {str(error).splitlines()[0]}; nothing was "
                    "published; run again to continue"
                ) from error
            # Here, not in the handler: while that runs, the error's traceback keeps what did not fit.
            self._halve(reason)
        return [join_decisions(parts) for parts in zip(*pieces, strict=True)]

    def _decide(self, pixels: torch.Tensor) -> list[Decision]:
        count = len(pixels)
        if count < self._at_once:
            pixels = torch.nn.functional.pad(pixels, (0, 0, 0, 0, 0, 0, 0, self._at_once - count))
        embeddings = self.encoder.encode(pixels)
        return [
            decide(head(embeddings), attribute, self.encoder.source).first(count)
            for attribute, head in zip(self.attributes, self._heads, strict=True)
        ]

    def _halve(self, reason: str) -> None:
        if self._at_once == 1:
            raise StoppedError(
                f"{self.encoder.device}: expected memory for one image, found: {reason}; free some, and run again to continue"
            )
        if self._at_once == ENCODED_AT_ONCE:
            log.warning(
                "%s: too little memory for %d images at once; going on with fewer, whose confidences may differ in the last "
                "digits from those of a run that has more",
                self.encoder.device,
                self._at_once,
            )
        self._at_once //= 2
        if self.encoder.device.type == "cuda":
            torch.cuda.empty_cache()


def choose_device(name: str | None) -> torch.device:
    """The named device, else an accelerator where there is one, else the CPU. ConfigError if it cannot be used."""
    if name is None:
        found = torch.accelerator.current_accelerator(check_available=True)
        return found or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--device {name}: expected a device of this machine, found: {reason}; try cpu") from error
    return device


def load_predictor(
    model: str, revision: str | None, precision: str, device: str | None, attributes: Sequence[Attribute]
) -> Predictor:
    """Load the encoder and encode the prompts. ModelError, ConfigError."""
    return Predictor(load_clip(model, revision, choose_device(device), precision), attributes)
