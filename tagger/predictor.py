"""The predictor joins the stages: a batch of images -> one decision per image and attribute. Loaded once per worker."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tagger.encoders.clip import ClipEncoder, load_clip
from tagger.errors import ConfigError
from tagger.tagging.decisions import decide
from tagger.tagging.heads import ZeroShotHead
from tagger.tagging.taxonomy import Attribute
from tagger.types import Decision, ImageBatch


class Predictor:
    """An encoder and, for every attribute, a head; the prompts are encoded here, once."""

    def __init__(self, encoder: ClipEncoder, attributes: Sequence[Attribute], batch_size: int) -> None:
        self.encoder, self.attributes, self.batch_size = encoder, tuple(attributes), batch_size
        self._heads = [
            ZeroShotHead([encoder.encode_prompts(attribute.prompts(label)) for label in attribute.labels], encoder.logit_scale)
            for attribute in attributes
        ]

    @torch.inference_mode()
    def predict(self, batch: ImageBatch) -> list[Decision]:
        """One Decision an attribute, about `batch.rows`.

        The encoder always sees `batch_size` images, the last of them blank where there are fewer: kernels differ with the
        shape, so this is what makes an image's embedding independent of its company.
        """
        count = len(batch.rows)
        pixels = batch.pixels
        if count < self.batch_size:
            pixels = torch.nn.functional.pad(pixels, (0, 0, 0, 0, 0, 0, 0, self.batch_size - count))
        embeddings = self.encoder.encode(pixels)[:count]
        return [
            decide(head(embeddings), attribute, self.encoder.source)
            for attribute, head in zip(self.attributes, self._heads, strict=True)
        ]


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
    model: str, revision: str | None, precision: str, device: str | None, attributes: Sequence[Attribute], batch_size: int
) -> Predictor:
    """Load the encoder and encode the prompts. ModelError, ConfigError."""
    return Predictor(load_clip(model, revision, choose_device(device), precision), attributes, batch_size)
