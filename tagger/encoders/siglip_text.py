"""SigLIP's text tower: prompts -> tokens -> embeddings."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tagger.encoders.clip_text import check_tokens
from tagger.encoders.siglip_model import Siglip


class SiglipText:
    """A TextTower (encoders/clip.py).

    It was trained on captions in lower case, all filled up to one length, without a mask: the filling is part of a prompt.
    """

    def __init__(self, model: Siglip, longest: int, tokenizer: PreTrainedTokenizerBase) -> None:
        self._model, self._longest, self._tokenizer = model.text_model, longest, tokenizer

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return each prompt's tokens, filled up to what the model reads. ConfigError for a longer one."""
        lower = [prompt.lower() for prompt in prompts]
        tokens: list[list[int]] = self._tokenizer(lower, padding="max_length", max_length=self._longest)["input_ids"]
        check_tokens(prompts, tokens, self._model.embeddings.token_embedding.num_embeddings, self._longest)
        return tokens

    def __call__(self, ids: Tensor) -> Tensor:
        output: Tensor = self._model(ids)
        return output
