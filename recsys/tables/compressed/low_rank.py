"""Low-rank tables: a short trained code for each index, and one linear map for all.

Shape legend: N indices, R rank, D embedding_dim.
"""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.config import StrictModel
from recsys.errors import ConfigError
from recsys.tables.plain.lookup import lookup


class LowRankConfig(StrictModel):
    """Options of a low-rank table."""

    name: Literal["low_rank"] = "low_rank"
    share: float = Field(default=0.25, gt=0, le=1)
    """Bytes of the table over those of a dense one, at most."""


class LowRankTable(nn.Module):
    """`codes [N, R] @ basis [R, D]`."""

    def __init__(
        self, config: LowRankConfig, num_rows: int, embedding_dim: int, *, init_std: float
    ) -> None:
        """Raises ConfigError when the share holds no rank at all."""
        super().__init__()
        self.num_rows, self.embedding_dim = num_rows, embedding_dim
        room = config.share * num_rows * embedding_dim
        rank = min(embedding_dim, int(room / (num_rows + embedding_dim)))
        if rank < 1:
            raise ConfigError(
                f"table.share {config.share} of {num_rows} x {embedding_dim} is too small for a "
                "low-rank table; raise it"
            )
        self.codes = nn.Parameter(torch.randn(num_rows, rank) * init_std)
        # Orthogonal rows, scaled so that a vector's coordinates start with init_std too.
        basis = nn.init.orthogonal_(torch.empty(rank, embedding_dim))
        self.basis = nn.Parameter(basis * math.sqrt(embedding_dim / rank))

    def forward(self, rows: Tensor, *, size: int | None = None, sparse: bool = False) -> Tensor:
        """See `EmbeddingTable`."""
        return lookup(self.codes, rows, None, sparse=sparse) @ self.basis[:, :size]

    def vectors(self) -> Tensor:
        """`[num_rows, D]`, all of them."""
        return self.codes @ self.basis

    @property
    def nbytes(self) -> int:
        """4 R (N + D)."""
        return self.codes.nbytes + self.basis.nbytes
