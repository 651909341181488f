"""The user tower over columns: nested vectors from what a users table tells.

    model.columns = {"categories": ["gender", "occupation"], "numbers": ["age"]}

It is the item tower over features (`towers.items`) without rows of its own, so a user whom training
has not seen has a vector as good as that of any other. In training columns are left out at random:
what is missing later has been missing before.

Shape legend: U users, D embedding_dim.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from recsys.data.features.loading import ItemFeatures
from recsys.data.features.user_columns import UserColumns
from recsys.granularity import Granularities
from recsys.towers.items import ItemsConfig, ItemTower, refuse_taken


class ColumnsConfig(UserColumns):
    """Columns of the users table, and how they become a vector."""

    fusion: Literal["gated_sum", "projection"] = "gated_sum"
    """As of `model.items`."""
    column_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of a user's columns that training leaves out, each by itself."""
    bins: int = Field(default=16, ge=1)
    """Parts that the range of a number is divided into."""

    @model_validator(mode="after")
    def _can_be_parts(self) -> ColumnsConfig:
        refuse_taken(self.names)
        return self


def column_tower(
    config: ColumnsConfig, features: ItemFeatures, granularities: Granularities, *, init_std: float
) -> ItemTower:
    """The tower of users' columns, whose "items" are the users.

    Args:
        config: which columns, and how they are put together.
        features: of U users (`data.features.user_columns.user_features`).
        granularities: their last is D.
        init_std: standard deviation of the first values.
    """
    parts = ItemsConfig(
        features=config.names,
        ids=False,
        fusion=config.fusion,
        modality_dropout=config.column_dropout,
        bins=config.bins,
    )
    return ItemTower(parts, None, features, granularities, init_std=init_std)
