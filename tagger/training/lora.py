"""Low-rank changes of a CLIP's attention (Hu et al. 2022; CLIP-LoRA: Zanella and Ben Ayed 2024): few numbers for few rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tagger.encoders.clip_model import Attention

RANK = 4
PROJECTIONS = ("q_proj", "k_proj", "v_proj")  # of every attention of both towers, as CLIP-LoRA has them


class LowRank(nn.Module):
    """Add a product of two thin matrices, which is 0 at first, to a weight (O, I)."""

    def __init__(self, weight: Tensor, generator: torch.Generator) -> None:
        super().__init__()
        outer, inner = weight.shape
        self.down = nn.Parameter((torch.randn(RANK, inner, generator=generator) / inner**0.5).to(weight))
        self.up = nn.Parameter(weight.new_zeros(outer, RANK))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


def add_low_rank(model: nn.Module, seed: int) -> list[nn.Parameter]:
    """Let only low-rank changes of the attention learn; return what learns."""
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    learning: list[nn.Parameter] = []
    for linear in _projections(model):
        change = LowRank(linear.weight, generator)
        parametrize.register_parametrization(linear, "weight", change)
        learning += [change.down, change.up]
    return learning


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights by their own names, each change added to the matrix that it is of; copies, on the CPU."""
    changed = {f"{name}.weight": linear.weight for name, linear in model.named_modules() if parametrize.is_parametrized(linear)}
    plain = {name: weight for name, weight in model.state_dict().items() if ".parametrizations." not in name}
    return {name: weight.detach().cpu().clone() for name, weight in (plain | changed).items()}


def _projections(model: nn.Module) -> list[nn.Linear]:
    return [getattr(module, name) for module in model.modules() if isinstance(module, Attention) for name in PROJECTIONS]
