"""The methods that fit a head on labelled rows, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tagger.tagging.heads import KernelHead, LinearHead
from tagger.training.gaussian_head import fit_gda
from tagger.training.labelled_embeddings import LabelledEmbeddings

Head = LinearHead | KernelHead

METHODS: Mapping[str, Callable[[LabelledEmbeddings, int], Head]] = {"gda": fit_gda}
