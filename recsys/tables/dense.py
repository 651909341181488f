"""The plain table: one trainable row per item in one tensor."""

from typing import Literal

import torch
from torch import Tensor, nn

from recsys.config import StrictModel


class DenseConfig(StrictModel):
    """One row of float32 for every index."""

    name: Literal["dense"] = "dense"


class DenseTable(nn.Module):
    """`num_rows` vectors of `embedding_dim` float32, normally initialized with `init_std`."""

    def __init__(self, num_rows: int, embedding_dim: int, *, init_std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_rows, embedding_dim) * init_std)

    def forward(self, rows: Tensor, *, sparse: bool = False) -> Tensor:
        """`[...]` int64 -> `[..., D]`; `sparse`: the gradient holds the rows looked up alone."""
        return nn.functional.embedding(rows, self.weight, sparse=sparse)

    def vectors(self) -> Tensor:
        """`[num_rows, D]`, all of them."""
        return self.weight
