"""Dense tables: one trainable row for each index in one tensor."""

from typing import Literal

import torch
from torch import Tensor, nn

from recsys.config import StrictModel
from recsys.tables.plain.lookup import lookup


class DenseConfig(StrictModel):
    """Options of a dense table."""

    name: Literal["dense"] = "dense"


class DenseTable(nn.Module):
    """`num_rows` vectors of `embedding_dim` float32, normally initialized with `init_std`."""

    def __init__(
        self,
        config: DenseConfig,  # noqa: ARG002 - every table is built alike
        num_rows: int,
        embedding_dim: int,
        *,
        init_std: float,
    ) -> None:
        super().__init__()
        self.num_rows, self.embedding_dim = num_rows, embedding_dim
        self.weight = nn.Parameter(torch.randn(num_rows, embedding_dim) * init_std)

    def forward(self, rows: Tensor, *, size: int | None = None, sparse: bool = False) -> Tensor:
        """See `EmbeddingTable`."""
        return lookup(self.weight, rows, size, sparse=sparse)

    def vectors(self) -> Tensor:
        """`[num_rows, D]`, all of them."""
        return self.weight

    @property
    def nbytes(self) -> int:
        """4 N D."""
        return self.weight.nbytes
