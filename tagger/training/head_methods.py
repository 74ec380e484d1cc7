"""The methods that fit a head on labelled rows, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tagger.tagging.heads import KernelHead, LinearHead
from tagger.training.gaussian_head import fit_gda
from tagger.training.kernel_heads import fit_proker, fit_tip_adapter, fit_tip_adapter_f
from tagger.training.labelled_embeddings import LabelledEmbeddings
from tagger.training.linear_probes import fit_clap, fit_linear

Head = LinearHead | KernelHead

Fit = Callable[[LabelledEmbeddings, int], Head]  # rows and a seed -> a head

METHODS: Mapping[str, Fit] = {
    "gda": fit_gda,
    "linear": fit_linear,
    "clap": fit_clap,
    "proker": fit_proker,
    "tip-adapter": fit_tip_adapter,
    "tip-adapter-f": fit_tip_adapter_f,
}
