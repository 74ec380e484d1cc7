"""CLIP's and MetaCLIP 2's text tower: prompts -> tokens -> embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tagger.core.errors import ConfigError, ModelError
from tagger.encoders.clip_model import Clip

PROMPT_STEP = 16  # of the lengths, in tokens, that prompts are filled up to

Tokenize = Callable[[Sequence[str]], list[list[int]]]  # each prompt's tokens, the model's own at its start and end among them


class ClipText:
    """A TextTower (encoders/clip.py), and what learned prompts need of it."""

    def __init__(self, model: Clip, longest: int, tokenize: Tokenize) -> None:
        self._model, self._projection = model.text_model, model.text_projection
        self._longest, self._tokenizer = longest, tokenize

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return each prompt's tokens, filled up with its end token, of which the tower takes the first. ConfigError."""
        tokens = self._tokenize(prompts)
        lengths = [min(-(-len(ids) // PROMPT_STEP) * PROMPT_STEP, self._longest) for ids in tokens]
        return [filled_up(ids, length) for ids, length in zip(tokens, lengths, strict=True)]

    def __call__(self, ids: Tensor, context: Tensor | None = None) -> Tensor:
        output: Tensor = self._projection(self._model(ids, context))
        return output

    @torch.no_grad()
    def embed_words(self, text: str) -> Tensor:
        """Return the embeddings that the text tower begins with, float32 (M, W), of a text's M tokens."""
        embedding = self._model.embeddings.token_embedding
        words: Tensor = embedding(torch.tensor(self._tokenize([text])[0][1:-1], device=embedding.weight.device))
        return words

    def encode_with_context(self, context: Tensor, prompts: Sequence[str]) -> Tensor:
        """Encode P prompts that learned words stand before, as float32 (P, D), with gradients for `context`.

        context: float32 (M, W), between the start token and the prompt's words, as the embeddings of M tokens would be (CoOp:
        Zhou et al. 2022, section 3.2). ConfigError for a prompt that is longer with it than the model reads.
        """
        size = len(context)
        # The start token, once more for each vector, holds their places.
        tokens = [[ids[0]] * size + list(ids) for ids in self._tokenize(prompts, size)]
        longest = max(map(len, tokens))
        return self(torch.tensor([filled_up(ids, longest) for ids in tokens], device=context.device), context)

    def _tokenize(self, prompts: Sequence[str], context: int = 0) -> list[list[int]]:
        """Return each prompt's tokens; ConfigError where one and `context` more are too many."""
        tokens = self._tokenizer(prompts)
        check_tokens(prompts, tokens, self._model.embeddings.token_embedding.num_embeddings, self._longest - context, context)
        return tokens


def check_tokens(prompts: Sequence[str], tokens: Sequence[Sequence[int]], known: int, limit: int, context: int = 0) -> None:
    """Raise ConfigError for a prompt of more tokens than `limit`, ModelError for a token that is none of the `known` ones."""
    for prompt, ids in zip(prompts, tokens, strict=True):
        if max(ids) >= known:
            raise ModelError(f"expected a tokenizer with the model's {known} tokens, found more; get the model again")
        if len(ids) > limit:
            read = f"reads behind {context} learned ones" if context else "reads"
            raise ConfigError(
                f"prompt {prompt!r}: expected at most {limit} tokens, which the model {read}, found {len(ids)}; shorten it"
            )


def filled_up(ids: Sequence[int], length: int) -> list[int]:
    """Return a prompt's tokens and its last one, the end token, again and again."""
    return [*ids, *[ids[-1]] * (length - len(ids))]
