"""Tables: trainable rows by index, in many storage forms, by name.

Every table is built by `build_table` and kept by the model as `EmbeddingTable`. A new kind is one
new file, one line in `_KINDS` and one in `TableConfig`.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Protocol, runtime_checkable

import torch
from pydantic import Discriminator, Tag
from torch import Tensor, nn

from recsys.tables.compressed.low_rank import LowRankConfig, LowRankTable
from recsys.tables.compressed.quantized import QuantizedConfig, QuantizedTable
from recsys.tables.compressed.ramp import RampedTable
from recsys.tables.compressed.sparse import SparseConfig, SparseTable
from recsys.tables.compressed.tensor_train import TensorTrainConfig, TensorTrainTable
from recsys.tables.compressed.widths import WidthsConfig, WidthsTable
from recsys.tables.distributed.plan import ShardedConfig
from recsys.tables.dynamic import DynamicConfig, DynamicTable
from recsys.tables.plain.dense import DenseConfig, DenseTable
from recsys.tables.plain.mapped import MappedConfig, MappedTable
from recsys.tables.row_optimizers import UpdateRule
from recsys.tables.shared_rows.clustered import ClusteredConfig, ClusteredTable
from recsys.tables.shared_rows.hashed import HashedConfig, HashedTable

__all__ = [
    "ClusteredConfig",
    "ClusteredTable",
    "DenseConfig",
    "DenseTable",
    "DynamicConfig",
    "DynamicTable",
    "EmbeddingTable",
    "HashedConfig",
    "HashedTable",
    "LowRankConfig",
    "LowRankTable",
    "MappedConfig",
    "MappedTable",
    "QuantizedConfig",
    "QuantizedTable",
    "RampedTable",
    "SelfUpdating",
    "ShardedConfig",
    "SparseConfig",
    "SparseTable",
    "TableConfig",
    "TensorTrainConfig",
    "TensorTrainTable",
    "UpdateRule",
    "WidthsConfig",
    "WidthsTable",
    "build_table",
    "clustered_tables",
    "is_of_users",
    "note_events",
    "note_progress",
    "penalty_of",
    "ramped_tables",
    "self_updating",
]

_KINDS: dict[str, Any] = {
    "clustered": ClusteredTable,
    "dense": DenseTable,
    "dynamic": DynamicTable,
    "hashed": HashedTable,
    "low_rank": LowRankTable,
    "mapped": MappedTable,
    "quantized": QuantizedTable,
    "sparse": SparseTable,
    "tensor_train": TensorTrainTable,
    "widths": WidthsTable,
}


def _name_of(config: Any) -> str:
    named = config.get("name") if isinstance(config, dict) else getattr(config, "name", None)
    return str(named or "dense")


TableConfig = Annotated[
    Annotated[ClusteredConfig, Tag("clustered")]
    | Annotated[DenseConfig, Tag("dense")]
    | Annotated[DynamicConfig, Tag("dynamic")]
    | Annotated[HashedConfig, Tag("hashed")]
    | Annotated[LowRankConfig, Tag("low_rank")]
    | Annotated[MappedConfig, Tag("mapped")]
    | Annotated[QuantizedConfig, Tag("quantized")]
    | Annotated[ShardedConfig, Tag("sharded")]
    | Annotated[SparseConfig, Tag("sparse")]
    | Annotated[TensorTrainConfig, Tag("tensor_train")]
    | Annotated[WidthsConfig, Tag("widths")],
    Discriminator(
        _name_of,
        custom_error_type="unknown_table",
        custom_error_message=f"there is no table of this name; known: sharded, {', '.join(_KINDS)}",
    ),
]
"""The union of all table configs; `name` tells them apart, `dense` where it is left out."""


class EmbeddingTable(Protocol):
    """The methods a model needs from a table, which is also an nn.Module."""

    num_rows: int
    """Indices are `0 .. num_rows - 1`."""
    embedding_dim: int
    """D."""

    def __call__(self, rows: Tensor, *, size: int | None = None, sparse: bool = False) -> Tensor:
        """Looks rows up at a granularity.

        Args:
            rows: `[...]` int64.
            size: the prefix wanted, 1..D; None: all of it. Only what that needs is read.
            sparse: the gradient holds the rows looked up alone, where the kind allows it.

        Returns:
            `[..., size]` float32.
        """
        ...

    def vectors(self) -> Tensor:
        """`[num_rows, D]`, all of them."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes that a server of this table keeps (not what training needs on top)."""
        ...


@runtime_checkable
class SelfUpdating(Protocol):
    """A table that updates its own parameters, without the run's optimizer.

    Its parameters still carry gradients between backward and update, so that clipping sees them.
    """

    def update_rows(self, rule: UpdateRule) -> None:
        """One update from the gradients that stand, which are gone afterwards."""
        ...

    def optimizer_slots(self) -> dict[str, Tensor]:
        """The state of its optimizer, the tensors themselves: a checkpoint reads and fills them."""
        ...

    def release(self) -> None:
        """Lets go of memory that can be read again from elsewhere."""
        ...


@runtime_checkable
class _Penalized(Protocol):
    """A module that adds something to the loss."""

    def penalty(self) -> Tensor | None:
        """What is added for the step that was just made."""
        ...


def self_updating(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """`(name, table)` of every table in the model that updates itself; each is `SelfUpdating`."""
    for name, module in model.named_modules():
        if hasattr(type(module), "update_rows"):  # the protocol itself is slow
            yield name, module


def build_table(
    config: TableConfig,
    num_rows: int,
    embedding_dim: int,
    *,
    init_std: float,
    sizes: Sequence[int] = (),
) -> nn.Module:
    """An untrained table; it is also an `EmbeddingTable`.

    Args:
        config: which kind, with its settings.
        num_rows: indices are `0 .. num_rows - 1`.
        embedding_dim: D.
        init_std: standard deviation of the first values.
        sizes: granularities, ascending: where a sharded table is cut, and which slices a sparse one
            keeps a share of; () is (D,).

    Raises:
        ConfigError: the settings do not fit that many rows and coordinates.
    """
    if isinstance(config, ShardedConfig):
        from recsys.tables.distributed.sharded import (
            ShardedTable,  # torchrec takes seconds to import
        )

        return ShardedTable(config, num_rows, embedding_dim, init_std=init_std, sizes=sizes)
    if isinstance(config, SparseConfig):
        return SparseTable(config, num_rows, embedding_dim, init_std=init_std, sizes=sizes)
    table: nn.Module = _KINDS[config.name](config, num_rows, embedding_dim, init_std=init_std)
    return table


def is_of_users(name: str) -> bool:
    """Whether the table of that name in a model holds users: models call it `user...`."""
    return name.startswith("user")


def note_events(model: nn.Module, users: Tensor, items: Tensor) -> None:
    """Tells tables whose rows depend on it what happened in a training step.

    Args:
        model: whatever holds tables.
        users: `[T]` user indices of its interactions.
        items: `[T]` their items.
    """
    for name, module in model.named_modules():
        if isinstance(module, DynamicTable):
            module.observe(users if is_of_users(name) else items)


def note_progress(model: nn.Module, progress: float) -> None:
    """Tells tables whose rows depend on it how far training is.

    Args:
        model: whatever holds tables.
        progress: where the step that follows stands, 0..1 of what is planned.
    """
    for _, table in ramped_tables(model):
        table.note_progress(progress)


def penalty_of(model: nn.Module) -> Tensor | None:
    """What parts of the model add to the loss of the step that was just made; None: nothing.

    Any module with a method `penalty` is asked, such as a quantized table.
    """
    found = [each.penalty() for each in model.modules() if isinstance(each, _Penalized)]
    added = [penalty for penalty in found if penalty is not None]
    return torch.stack(added).sum() if added else None


def clustered_tables(model: nn.Module) -> Iterator[tuple[str, ClusteredTable]]:
    """`(name, table)` of every clustered table: they wait for `assign` before training."""
    for name, module in model.named_modules():
        if isinstance(module, ClusteredTable):
            yield name, module


def ramped_tables(model: nn.Module) -> Iterator[tuple[str, RampedTable]]:
    """`(name, table)` of every table whose rows get smaller while training goes on."""
    for name, module in model.named_modules():
        if isinstance(module, RampedTable):
            yield name, module
