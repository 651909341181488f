"""Nested contrastive loss of two views: each item's first view finds its second among all others.

Yao et al., Self-supervised Learning for Large-scale Item Recommendations, CIKM 2021, eq. 2: a
softmax over the items of the batch, of cosines over a temperature. Here it is taken at every
granularity, as it is the nested softmax with first views for users and second views for items.

Shape legend: n items, G granularities, D embedding_dim.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from recsys.config import StrictModel
from recsys.granularity import Granularities
from recsys.losses.softmax import NestedLossOutput, nested_softmax


class ViewsConfig(StrictModel):
    """Options of the regulariser of items by two views."""

    weight: float = Field(default=0.1, gt=0)
    """Of this loss beside that of the pairs."""
    temperature: float = Field(default=0.1, gt=0)
    """Cosines are divided by it."""
    items: int = Field(default=512, ge=2)
    """Items of a step, drawn uniformly from the whole catalogue, also those nobody has had."""


def view_loss(
    first: Tensor, second: Tensor, granularities: Granularities, *, temperature: float
) -> NestedLossOutput:
    """The loss of `first [n, D]` and `second [n, D]`, of the same items in the same order."""
    cosines = granularities.model_copy(update={"normalize": True})
    scales = first.new_full((len(granularities),), 1.0 / temperature)
    places = torch.arange(len(first), device=first.device)
    return nested_softmax(first, second, places, scales, cosines)


def with_views(found: NestedLossOutput, views: NestedLossOutput, weight: float) -> NestedLossOutput:
    """A loss with that of the views added."""
    return replace(
        found,
        total=found.total + weight * views.total,
        per_granularity=found.per_granularity + weight * views.per_granularity,
    )
