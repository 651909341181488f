"""Item vectors that stay usable beside those of the parent run.

Two ways. `items`: the parameters that make the vectors of trained items stand still, so the old
index and the new one hold the same vectors of these items, and what trains is fitted to them.
`anchor`: the vectors may move, and the loss draws every prefix to where it was (as the influence
loss of Shen et al., Towards Backward-Compatible Representation Learning, CVPR 2020, does by the old
classifier).

Shape legend: N items, R items of a step, D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.granularity import Granularities
from recsys.models import Model
from recsys.tables import DenseTable
from recsys.towers.items import ItemTower

_ANCHORED = 1024
"""Items whose vectors are compared in a step."""


def hold_items(model: Model, trained: Tensor) -> list[tuple[str, Tensor]]:
    """Stops whatever makes the vectors of trained items.

    Args:
        model: with the parent's weights.
        trained: `[N]` bool.

    Returns:
        Names of tables, and the rows of each that stand still.

    Raises:
        ConfigError: the vectors are not made of rows of their own alone.
    """
    moves = model.why_items_move()
    if moves is not None:
        raise ConfigError(
            f"vectors of old items cannot stand still: {moves}; say update.hold=anchor, which "
            "draws them to where they were, or leave --compatible and update.hold out"
        )
    table: Any = getattr(model, "table", None)
    rows = table.ids if isinstance(table, ItemTower) else table
    if rows is not None and not isinstance(rows, DenseTable):
        raise ConfigError(
            "item rows of this model.table are shared between items, so the old ones cannot stand "
            "still while new ones learn; say update.hold=anchor, or train with a dense table"
        )
    still = [getattr(model, "projection", None)]
    if isinstance(table, ItemTower):
        still += [table.modalities, table.fusion]
    for module in still:
        if module is not None:
            module.requires_grad_(False)
    if rows is None:
        return []
    kept = trained.clone()
    rows.weight.register_hook(lambda gradient: _without(gradient, kept))
    name = next(name for name, p in model.named_parameters() if p is rows.weight)
    return [(name, kept)]


def _without(gradient: Tensor, kept: Tensor) -> Tensor:
    """The gradient of a table without that of rows that stand still."""
    kept = kept.to(gradient.device)
    if not gradient.is_sparse:
        return gradient.masked_fill(kept[:, None], 0.0)
    gradient = gradient.coalesce()
    rows = gradient.indices()[0]
    values = gradient.values().masked_fill(kept[rows, None], 0.0)
    return torch.sparse_coo_tensor(
        gradient.indices(), values, gradient.shape, is_coalesced=True, check_invariants=False
    )


class Anchor(nn.Module):
    """Draws item vectors to where they were, prefix by prefix. It is no part of the weights."""

    def __init__(
        self,
        vectors_at: Callable[[Tensor], Tensor],
        items: Tensor,
        old: Tensor,
        granularities: Granularities,
        weight: float,
    ) -> None:
        """Args:
        vectors_at: items `[R]` -> `[R, D]` of the model that trains.
        items: `[N]` indices of items that are drawn.
        old: `[N, D]` their old vectors.
        granularities: the prefixes.
        weight: of the penalty.
        """
        super().__init__()
        self.vectors_at, self.granularities, self.weight = vectors_at, granularities, weight
        self.register_buffer("items", items, persistent=False)
        self.register_buffer("old", old, persistent=False)

    def penalty(self) -> Tensor | None:
        """The weight times the mean of 1 - cosine over some items and all prefixes."""
        if not self.training:
            return None
        items, old = self.get_buffer("items"), self.get_buffer("old")
        places = torch.randint(len(items), (min(_ANCHORED, len(items)),), device=items.device)
        now = self.vectors_at(items[places])
        before, total = old[places], now.new_zeros(())
        for size in self.granularities.sizes:
            cosines = nn.functional.cosine_similarity(now[:, :size], before[:, :size], dim=1)
            total = total + (1 - cosines).mean()
        return self.weight * total / len(self.granularities)


def anchor_items(model: Model, trained: Tensor, old: Tensor, weight: float) -> None:
    """Puts an `Anchor` into a model.

    Args:
        model: that trains.
        trained: `[N]` bool: the items that are drawn.
        old: their old vectors, one row for each of these.
        weight: of the penalty.

    Raises:
        ConfigError: the model gives no vectors of some items.
    """
    at: Any = getattr(model, "item_vectors_at", None) or getattr(model, "rows", None)
    if at is None:
        raise ConfigError(
            f"{type(model).__name__} gives no vectors of some items (item_vectors_at), so they "
            "cannot be drawn to where they were; say update.hold=items"
        )
    items = trained.nonzero().squeeze(1)
    model.add_module("anchor", Anchor(at, items, old, model.granularities, weight))
