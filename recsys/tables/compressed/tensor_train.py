"""Tensor-train tables: a row is a product of three small matrices, shared by many rows.

Yin et al., TT-Rec: Tensor Train Compression for Deep Learning Recommendation Models, MLSys 2021.
An index is written as three digits, a coordinate as three digits; core c holds a matrix for each of
its digits of both.

Shape legend: N indices <= N1 N2 N3, D = D1 D2 D3 coordinates, R rank, B rows requested.
"""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.config import StrictModel
from recsys.errors import ConfigError
from recsys.tables.plain.lookup import distinct

_BLOCK = 1 << 12


class TensorTrainConfig(StrictModel):
    """Options of a tensor-train table."""

    name: Literal["tensor_train"] = "tensor_train"
    share: float = Field(default=0.25, gt=0, le=1)
    """Bytes of the table over those of a dense one, at most."""
    max_rank: int = Field(default=64, ge=1)
    """A lookup costs about D R + D2 R^2 / D3 products a coordinate: large ranks are slow."""


class TensorTrainTable(nn.Module):
    """Cores `[N1, D1, R]`, `[N2, R, D2, R]`, `[N3, R, D3]`."""

    def __init__(
        self, config: TensorTrainConfig, num_rows: int, embedding_dim: int, *, init_std: float
    ) -> None:
        """Raises ConfigError when the share is too small."""
        super().__init__()
        self.num_rows, self.embedding_dim = num_rows, embedding_dim
        self.digits = _three_parts(num_rows)
        widths = _three_factors(embedding_dim)
        rank = min(config.max_rank, self._rank(config.share, widths))
        if rank < 1:
            raise ConfigError(
                f"table.share {config.share} of {num_rows} x {embedding_dim} is too small for a "
                "tensor train; raise it"
            )
        shapes = [
            (self.digits[0], widths[0], rank),
            (self.digits[1], rank, widths[1], rank),
            (self.digits[2], rank, widths[2]),
        ]
        # A coordinate is a sum of R^2 products of three: their deviations multiply to init_std.
        std = (init_std / rank) ** (1 / 3)
        self.cores = nn.ParameterList(nn.Parameter(torch.randn(*shape) * std) for shape in shapes)

    def _rank(self, share: float, widths: tuple[int, int, int]) -> int:
        """The largest R with N1 D1 R + N2 D2 R^2 + N3 D3 R numbers in the share."""
        (n1, n2, n3), (d1, d2, d3) = self.digits, widths
        linear, square = n1 * d1 + n3 * d3, n2 * d2
        room = share * self.num_rows * self.embedding_dim
        return int((math.sqrt(linear**2 + 4 * square * room) - linear) / (2 * square))

    def forward(self, rows: Tensor, *, size: int | None = None, sparse: bool = False) -> Tensor:  # noqa: ARG002
        """See `EmbeddingTable`; the gradient of a core is dense, and small."""
        unique, place, _ = distinct(rows)
        found = torch.cat([self._rows(block) for block in unique.split(_BLOCK)])
        return found[:, :size][place]

    def _rows(self, rows: Tensor) -> Tensor:
        """`[B]` -> `[B, D]`."""
        _, n2, n3 = self.digits
        first = self.cores[0][rows // (n2 * n3)]  # [B, D1, R]
        second = self.cores[1][rows // n3 % n2]  # [B, R, D2, R]
        third = self.cores[2][rows % n3]  # [B, R, D3]
        left = torch.bmm(first, second.flatten(2))  # [B, D1, D2 R]
        left = left.view(len(rows), -1, third.shape[1])  # [B, D1 D2, R]
        return torch.bmm(left, third).flatten(1)

    def vectors(self) -> Tensor:
        """`[num_rows, D]`, all of them."""
        found: Tensor = self(torch.arange(self.num_rows, device=self.cores[0].device))
        return found

    @property
    def nbytes(self) -> int:
        """4 (N1 D1 R + N2 D2 R^2 + N3 D3 R)."""
        return sum(core.nbytes for core in self.cores)


def _three_parts(count: int) -> tuple[int, int, int]:
    """Three nearly equal numbers whose product is at least `count`."""
    first = max(1, math.ceil(round(count ** (1 / 3), 9)))
    second = max(1, math.ceil(round(math.sqrt(count / first), 9)))
    return first, second, -(-count // (first * second))


def _three_factors(dim: int) -> tuple[int, int, int]:
    """Three factors of `dim`, as equal as it has them, ascending."""
    triples = [
        (a, b, dim // (a * b))
        for a in range(1, dim + 1)
        if dim % a == 0
        for b in range(a, dim // a + 1)
        if dim // a % b == 0 and dim // (a * b) >= b
    ]
    return min(triples, key=lambda triple: triple[2] - triple[0])
