"""Weights and moments of a run, put into a model of more items and users.

Shape legend: N items, U users.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recsys.data.dataset import Dataset
from recsys.errors import ConfigError
from recsys.models import Model
from recsys.runs.config import RunConfig
from recsys.tables import (
    DenseConfig,
    DynamicConfig,
    HashedConfig,
    MappedConfig,
    ShardedConfig,
)

_REMEDY = "train anew (`recsys train`), or once with model.table: {name: dense}, whose rows grow"


@dataclass(frozen=True)
class Growth:
    """How many items and users there were, and are now."""

    items: tuple[int, int]
    users: tuple[int, int]

    @property
    def grows(self) -> bool:
        """Whether there is any new id."""
        return self.items[0] != self.items[1] or self.users[0] != self.users[1]

    @classmethod
    def between(cls, old: Dataset, new: Dataset) -> Growth:
        """Of two data sets."""
        return cls((old.num_items, new.num_items), (old.num_users, new.num_users))


def growing_config(config: RunConfig, growth: Growth) -> RunConfig:
    """The config of the run's model for more rows: a hashed pool keeps its size.

    Raises:
        ConfigError: a table of the model cannot grow.
    """
    if getattr(config.model, "shared_table", False) and growth.grows:
        raise ConfigError(
            "users stand behind the items in one table (model.shared_table), so new items would "
            f"take their places: such a run cannot be updated with new ids; {_REMEDY}"
        )
    changes = {}
    for name, (before, now) in _tables(config, growth).items():
        table = getattr(config.model, name)
        if isinstance(table, DynamicConfig | MappedConfig | ShardedConfig):
            raise ConfigError(
                f"model.{name} is {table.name}, which keeps rows and moments itself, so its run "
                f"cannot be updated; {_REMEDY}"
            )
        if now == before or isinstance(table, DenseConfig):
            continue
        if not isinstance(table, HashedConfig) or table.method == "quotient_remainder":
            kind = getattr(table, "method", table.name)
            raise ConfigError(
                f"model.{name} is {kind}, whose rows are laid out for {before:,} ids and not for "
                f"{now:,}: dense tables grow, hashed ones (hash, double, bloom, multi_probe) share "
                f"their pool with new ids, others cannot be updated with new ids; {_REMEDY}"
            )
        dim = config.model.granularities.embedding_dim
        changes[name] = table.model_copy(update={"share": _same_pool(table, before, now, dim)})
    return config.model_copy(update={"model": config.model.model_copy(update=changes)})


def _tables(config: RunConfig, growth: Growth) -> dict[str, tuple[int, int]]:
    """Rows before and now of each table that the model has."""
    model: Any = config.model
    found = {}
    if hasattr(model, "table"):
        items = getattr(model, "items", None)
        if getattr(model, "ids", True) if items is None else items.ids:
            found["table"] = growth.items
    if hasattr(model, "user_table"):
        found["user_table"] = growth.users
    return found


def _same_pool(table: HashedConfig, before: int, now: int, dim: int) -> float:
    """The share of a larger table that is as many pooled numbers."""
    width = dim // table.hashes if table.method == "multi_probe" else dim
    pool = int(table.share * before * dim) // width
    return (pool * width + 0.5) / (now * dim)


def grown_tensor(name: str, old: Tensor, fresh: Tensor, growth: Growth) -> Tensor:
    """The old values, and after them the fresh ones of rows that were not there.

    Raises:
        ConfigError: the tensors are not of one model.
    """
    if old.shape == fresh.shape:
        return old.clone()
    rows = (len(old), len(fresh)) if old.dim() and fresh.dim() else (0, 0)
    if rows not in (growth.items, growth.users) or old.shape[1:] != fresh.shape[1:]:
        raise ConfigError(
            f"{name} is {tuple(old.shape)} in the run and {tuple(fresh.shape)} with the new data, "
            "so its weights cannot go on. Features must have the columns, categories and bins they "
            "had (take them over with `recsys attach`), and model options stay as they were; or "
            "train anew"
        )
    return torch.cat([old, fresh[len(old) :]])


def grow_weights(old: Model, new: Model, growth: Growth) -> None:
    """Puts the weights of a model into one of more rows.

    Raises:
        ConfigError: they are not of one kind.
    """
    before, fresh = old.state_dict(), new.state_dict()
    if strange := sorted(set(before) ^ set(fresh)):
        raise ConfigError(
            f"the run's model and the new one differ in {', '.join(strange[:3])}; model options "
            "stay as they were in an update: leave them out, or train anew"
        )
    grown = {name: grown_tensor(name, before[name], fresh[name], growth) for name in fresh}
    new.load_state_dict(grown)


def grow_moments(slots: Mapping[str, Tensor], model: Model, growth: Growth) -> dict[str, Tensor]:
    """Optimizer state by `slot/parameter`, with zeros for new rows."""
    shapes = dict(model.named_parameters())
    grown = {}
    for key, tensor in slots.items():
        parameter = shapes.get(key.partition("/")[2])
        if parameter is None:
            continue
        fresh = torch.zeros_like(parameter) if tensor.dim() else tensor
        grown[key] = grown_tensor(key, tensor, fresh.detach(), growth)
    return grown
