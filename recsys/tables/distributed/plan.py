"""Plans for cutting a table over processes, and their costs.

Shape legend: N rows, D embedding_dim, W processes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from pydantic import Field
from torch import Tensor, nn

from recsys.config import StrictModel
from recsys.errors import ConfigError

LANE = 4
"""Widths of shards are multiples of this, or the engine's kernels read beside them."""


class ShardedConfig(StrictModel):
    """Options of a sharded table, whose rows are updated in place during backward."""

    name: Literal["sharded"] = "sharded"
    sharding: Literal["table_wise", "row_wise", "column_wise", "tier_aligned", "auto"] = (
        "tier_aligned"
    )
    """table_wise: all on one process. row_wise: equal blocks of rows. column_wise: about equal
    columns. tier_aligned: columns, cut where granularities are cut as well. auto: what torchrec's
    planner finds."""
    ranks: tuple[int, ...] | None = None
    """The process of each shard, in order of columns (table_wise: one; tier_aligned: one for each
    granularity, whose shards are then as uneven as they are); None: spread evenly."""
    optimizer: Literal["sgd", "adagrad", "rowwise_adagrad"] = "rowwise_adagrad"
    """adagrad: one sum for every number. rowwise_adagrad: one for every row (of a shard)."""
    learning_rate: float = Field(default=0.05, gt=0)
    """Peak of the table's own rate; it rises and falls with the run's schedule."""
    eps: float = Field(default=1e-8, gt=0)
    """Of Adagrad."""


@dataclass(frozen=True)
class Shard:
    """A rectangle of a table, and the process that holds it."""

    rank: int
    row: int
    """First row ..."""
    rows: int
    """... and how many."""
    column: int
    """First coordinate ..."""
    width: int
    """... and how many."""

    @property
    def row_end(self) -> int:
        """Behind the last row."""
        return self.row + self.rows

    @property
    def end(self) -> int:
        """Behind the last coordinate."""
        return self.column + self.width

    @property
    def nbytes(self) -> int:
        """Of the weights, float32."""
        return 4 * self.rows * self.width


def cut(
    config: ShardedConfig, num_rows: int, sizes: Sequence[int], world_size: int
) -> tuple[Shard, ...]:
    """The shards of a table, as the config names them (`auto` is for the planner).

    Args:
        config: which sharding, and which process holds what.
        num_rows: N.
        sizes: granularities, ascending; the last is D.
        world_size: W.

    Raises:
        ConfigError: the table cannot be cut like that.
    """
    dim = sizes[-1]
    if dim % LANE:
        raise ConfigError(
            f"a sharded table needs an embedding_dim that is a multiple of {LANE}, found {dim}"
        )
    if config.sharding == "row_wise":
        if config.ranks is not None:
            raise ConfigError(
                "table.ranks is not for row_wise: block r of the rows is process r's; leave it out"
            )
        return _rows(num_rows, dim, world_size)
    edges, ranks = _columns(config, tuple(sizes), world_size)
    return tuple(
        Shard(rank, 0, num_rows, lo, hi - lo)
        for rank, (lo, hi) in zip(ranks, pairwise(edges), strict=True)
    )


def _rows(num_rows: int, dim: int, world_size: int) -> tuple[Shard, ...]:
    step = -(-num_rows // world_size)  # torchrec finds the process of a row by this very step
    if step * (world_size - 1) >= num_rows:
        raise ConfigError(
            f"{num_rows} rows cannot be cut into {world_size} blocks of {step}; use fewer "
            "processes, or another sharding"
        )
    return tuple(
        Shard(rank, rank * step, min(step, num_rows - rank * step), 0, dim)
        for rank in range(world_size)
    )


def _columns(
    config: ShardedConfig, sizes: tuple[int, ...], world_size: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Edges of the column shards, and the process of each.

    Unless the config names processes, process p holds the p-th W-th of the columns: as even as
    lanes allow, and a prefix stands on as few processes as there can be.
    """
    dim = sizes[-1]
    if config.sharding == "table_wise":
        return (0, dim), _checked(config.ranks or (0,), (0, dim), world_size)
    parts = min(world_size, dim // LANE)
    fair = tuple(LANE * (dim // LANE * part // parts) for part in range(parts + 1))
    if config.sharding == "column_wise":
        return fair, _checked(config.ranks or tuple(range(parts)), fair, world_size)
    if wrong := [size for size in sizes if size % LANE]:
        raise ConfigError(
            f"tier_aligned cuts columns at the granularities {sizes}, and {wrong[0]} is not a "
            f"multiple of {LANE}; choose other sizes, or sharding: column_wise"
        )
    if config.ranks is not None:
        edges = (0, *sizes)
        return edges, _checked(config.ranks, edges, world_size)
    edges = tuple(sorted({*fair, *sizes}))
    return edges, tuple(bisect_right(fair, lo) - 1 for lo in edges[:-1])


def _checked(ranks: tuple[int, ...], edges: tuple[int, ...], world_size: int) -> tuple[int, ...]:
    if len(ranks) != len(edges) - 1:
        raise ConfigError(
            f"table.ranks names {len(ranks)} processes for the {len(edges) - 1} shards between "
            f"the columns {edges}; name one for each, or leave it out"
        )
    if wrong := [rank for rank in ranks if not 0 <= rank < world_size]:
        raise ConfigError(
            f"table.ranks names process {wrong[0]}, there are 0..{world_size - 1}; leave it out "
            "and the shards are spread evenly"
        )
    return ranks


def holders(shards: Sequence[Shard], size: int) -> tuple[int, ...]:
    """The processes that a lookup of the first `size` coordinates touches, ascending."""
    return tuple(sorted({shard.rank for shard in shards if shard.column < size}))


@runtime_checkable
class Sharded(Protocol):
    """The methods a run needs from a sharded table; all processes call them together."""

    def set_rate(self, share: float) -> None:
        """Before backward, inside which rows are updated: the rate is this share of its peak."""
        ...

    def save(self, folder: Path) -> None:
        """Writes weights and optimizer state into an empty folder."""
        ...

    def load(self, folder: Path) -> None:
        """Reads what any number of processes have saved."""
        ...

    def gathered(self, folder: Path) -> AbstractContextManager[Tensor]:
        """`[N, D]` on the first process, in a file of `folder` that is gone afterwards."""
        ...


def sharded_tables(model: nn.Module) -> Iterator[tuple[str, Sharded]]:
    """`(name, table)` of every table of the model that is spread over processes."""
    for name, module in model.named_modules():
        if isinstance(module, Sharded):
            yield name, module
