"""Trainable rows: what looks vectors up by index, in as many bytes as its kind takes.

Every table is built by `build_table` and kept by the model as `EmbeddingTable`.
"""

from typing import Protocol

from torch import Tensor, nn

from recsys.tables.dense import DenseConfig, DenseTable

__all__ = ["DenseConfig", "DenseTable", "EmbeddingTable", "TableConfig", "build_table"]

TableConfig = DenseConfig
"""The union of all table configs; `name` tells them apart, `dense` where it is left out."""


class EmbeddingTable(Protocol):
    """What a model asks of a table, beside being an nn.Module."""

    def __call__(self, rows: Tensor, *, sparse: bool = False) -> Tensor:
        """`[...]` int64 -> `[..., D]`; `sparse`: the gradient holds the rows looked up alone."""
        ...

    def vectors(self) -> Tensor:
        """`[num_rows, D]`, all of them."""
        ...


def build_table(
    config: TableConfig,  # noqa: ARG001 - one kind as yet
    num_rows: int,
    embedding_dim: int,
    *,
    init_std: float,
) -> nn.Module:
    """An untrained table; it is also an `EmbeddingTable`.

    Args:
        config: which kind, with its settings.
        num_rows: indices are `0 .. num_rows - 1`.
        embedding_dim: D.
        init_std: standard deviation of the first values.
    """
    return DenseTable(num_rows, embedding_dim, init_std=init_std)
