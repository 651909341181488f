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
from recsys.towers.modalities import CategoryModality, NumberModality, take_bins

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
            "so its weights cannot go on. Features must have the columns they had (take them over "
            "with `recsys attach`), and model options stay as they were; or train anew"
        )
    return torch.cat([old, fresh[len(old) :]])


def category_rows(old: Model, new: Model) -> dict[str, Tensor]:
    """Where rows of categories stood, by the name of their weights: `[C]` rows of the old model, -1
    of categories that it does not know.

    Categories stand in the order in which a table names them first, which is another one as soon as
    a user or an item has changed.
    """
    before = dict(old.named_modules())
    found = {}
    for name, part in new.named_modules():
        other = before.get(name)
        if isinstance(part, CategoryModality) and isinstance(other, CategoryModality):
            places = {each: row for row, each in enumerate(other.feature.names)}
            rows = [places.get(each, -1) for each in part.feature.names]
            found[f"{name}.weight"] = torch.tensor(rows)
    return found


def _kept_bins(old: Model, new: Model) -> set[str]:
    """Names of the parameters and buffers of numbers, whose bins stay those of the old model.

    Raises:
        ConfigError: other bins are asked for.
    """
    before, found = dict(old.named_modules()), set()
    for name, part in new.named_modules():
        other = before.get(name)
        if not (isinstance(part, NumberModality) and isinstance(other, NumberModality)):
            continue
        if part.bins != other.bins:
            raise ConfigError(
                f"{name} has {other.bins} bins in the run and {part.bins} in the update; the "
                "weights mean those of the run: leave bins as it was, or train anew"
            )
        found |= {f"{name}.edges", f"{name}.weight"}
    return found


def _of_categories(old: Tensor, fresh: Tensor, rows: Tensor) -> Tensor:
    """Rows of the old values where there are some, else of the fresh ones."""
    known = (rows >= 0).to(old.device)
    return torch.where(known[:, None], old[rows.clamp_min(0).to(old.device)], fresh.to(old.device))


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
    rows, kept = category_rows(old, new), _kept_bins(old, new)
    grown = {}
    for name in fresh:
        if name in kept:
            grown[name] = before[name].clone()
        elif name in rows:
            grown[name] = _of_categories(before[name], fresh[name], rows[name])
        else:
            grown[name] = grown_tensor(name, before[name], fresh[name], growth)
    take_bins(new, grown)
    new.load_state_dict(grown)


def grow_moments(
    slots: Mapping[str, Tensor], old: Model, new: Model, growth: Growth
) -> dict[str, Tensor]:
    """Optimizer state of the old model by `slot/parameter`, with zeros for new rows."""
    shapes, rows = dict(new.named_parameters()), category_rows(old, new)
    grown = {}
    for key, tensor in slots.items():
        name = key.partition("/")[2]
        if name not in shapes:
            continue
        fresh = (torch.zeros_like(shapes[name]) if tensor.dim() else tensor).detach()
        if name in rows and tensor.dim():
            grown[key] = _of_categories(tensor, fresh, rows[name])
        else:
            grown[key] = grown_tensor(key, tensor, fresh, growth)
    return grown
