"""Tables of sparse rows: each row keeps its few largest coordinates.

Vančura et al., Efficient Learning of Sparse Representations from Interactions (Compressed ELSA),
WWW 2026: the rows that score are the parameters with all but the k largest of each row set to 0,
chosen anew at every step, and k falls exponentially while training goes on. Gradients reach what is
kept alone. Beyond ELSA: Wen et al., Beyond Matryoshka: Revisiting Sparse Coding for Adaptive
Representation (CSR), ICML 2025.

Nested prefixes: each slice of coordinates that a granularity adds keeps a share of its own, in
proportion to its length and at least one. So every prefix is a sparse vector too, whose coordinates
are among those of the longer ones, and nothing behind a prefix decides what it keeps.

Training keeps full rows.

Shape legend: N indices, D embedding_dim, G granularities, B rows requested.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.tables.compressed.ramp import RampConfig, RampedTable

_PLACE_BYTES = 2
_VALUE_BYTES = 4


class SparseConfig(RampConfig):
    """Options of a table of sparse rows."""

    name: Literal["sparse"] = "sparse"
    kept: int = Field(default=32, ge=1)
    """Coordinates that each row keeps of all D, k in the paper."""


class SparseTable(RampedTable):
    """Full rows, of which the largest coordinates are looked at."""

    def __init__(
        self,
        config: SparseConfig,
        num_rows: int,
        embedding_dim: int,
        *,
        init_std: float,
        sizes: Sequence[int] = (),
    ) -> None:
        """Raises ConfigError when a granularity could not add a coordinate, or none is left out."""
        super().__init__(config)
        self.config, self.num_rows, self.embedding_dim = config, num_rows, embedding_dim
        self.sizes = tuple(sizes) or (embedding_dim,)
        if not len(self.sizes) <= config.kept < embedding_dim:
            raise ConfigError(
                f"table.kept {config.kept} of {embedding_dim} coordinates at {len(self.sizes)} "
                f"granularities: choose {len(self.sizes)} (one for each slice) to "
                f"{embedding_dim - 1}, or fewer granularities"
            )
        self.weight = nn.Parameter(torch.randn(num_rows, embedding_dim) * init_std)

    def kept_at(self, count: int) -> tuple[int, ...]:
        """`[G]` how many coordinates each prefix keeps if the whole row keeps `count`."""
        kept = [count]
        for g in reversed(range(len(self.sizes) - 1)):
            share = round(count * self.sizes[g] / self.embedding_dim)
            kept.append(min(max(share, g + 1), kept[-1] - 1))
        return tuple(reversed(kept))

    @property
    def count(self) -> int:
        """Coordinates that a row keeps now, from D to `kept` in equal ratios; in evaluation mode
        always `kept`.
        """
        if not self.training:
            return self.config.kept
        ratio = self.config.kept / self.embedding_dim
        count: int = round(self.embedding_dim * ratio**self.ramped)
        return count

    def _cut(self, rows: Tensor) -> Tensor:
        """`[B, D]` with zeros in all but the largest coordinates of each slice."""
        count = self.count
        if count == self.embedding_dim:
            return rows
        edges, kept = (0, *self.sizes), (0, *self.kept_at(count))
        slices = rows.detach().abs().split([hi - lo for lo, hi in pairwise(edges)], 1)
        masks = [
            torch.zeros_like(sizes).scatter_(1, sizes.topk(hi - lo, 1, sorted=False).indices, 1.0)
            for sizes, (lo, hi) in zip(slices, pairwise(kept), strict=True)
        ]
        return rows * torch.cat(masks, 1)

    def forward(self, rows: Tensor, *, size: int | None = None, sparse: bool = False) -> Tensor:
        """See `EmbeddingTable`."""
        found = nn.functional.embedding(rows.reshape(-1), self.weight, sparse=sparse)
        return self._cut(found)[:, :size].reshape(*rows.shape, -1)

    def vectors(self) -> Tensor:
        """`[num_rows, D]`, all of them."""
        return self._cut(self.weight)

    @property
    def served_as(self) -> str:
        """The number of coordinates."""
        return f"{self.config.kept} coordinates"

    @property
    def nbytes(self) -> int:
        """Four bytes for each number that is kept, and two for its place."""
        return (_VALUE_BYTES + _PLACE_BYTES) * self.config.kept * self.num_rows
