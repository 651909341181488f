"""Hashed tables: each vector is a combination of a few shared rows.

| method              | a vector is                                          | from |
|---------------------|------------------------------------------------------|------|
| hash                | one row                                              | Weinberger et al., ICML 2009 |
| double              | the sum of two rows                                  | Zhang et al., RecSys 2020 |
| bloom               | the sum of `num_hashes` rows                         | Serra and Karatzoglou, RecSys 2017 |
| multi_probe         | `num_hashes` shorter rows, one after another         | Coleman et al., Unified Embedding, NeurIPS 2023 |
| quotient_remainder  | the product of the row of index // m and of index % m | Shi et al., KDD 2020 |

Only `hash` gives two indices the very same vector; a ranking cannot tell those apart.

Shape legend: N indices, P rows of the pool, H hashes, D embedding_dim.
"""  # noqa: E501 - a table

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.config import StrictModel
from recsys.errors import ConfigError
from recsys.tables.plain.lookup import lookup, mix

Method = Literal["hash", "double", "bloom", "multi_probe", "quotient_remainder"]


class HashedConfig(StrictModel):
    """Options of a hashed table."""

    name: Literal["hashed"] = "hashed"
    method: Method = "double"
    share: float = Field(default=0.25, gt=0, le=1)
    """Bytes of the table over those of a dense one, at most."""
    num_hashes: int = Field(default=4, ge=2, le=16)
    """Of bloom and multi_probe."""
    seed: int = Field(default=0, ge=0)
    """Of the hash functions."""

    @property
    def hashes(self) -> int:
        """H."""
        fixed = {"hash": 1, "double": 2, "quotient_remainder": 2}
        return fixed.get(self.method, self.num_hashes)


class HashedTable(nn.Module):
    """A pool of rows, and the rule that combines some of them for each index."""

    def __init__(
        self, config: HashedConfig, num_rows: int, embedding_dim: int, *, init_std: float
    ) -> None:
        """Raises ConfigError when the share is too small for the method."""
        super().__init__()
        self.config, self.num_rows, self.embedding_dim = config, num_rows, embedding_dim
        self.width, left = embedding_dim, 0
        if config.method == "multi_probe":
            self.width, left = divmod(embedding_dim, config.hashes)
        if left:
            raise ConfigError(
                f"table.num_hashes {config.hashes} does not divide embedding_dim {embedding_dim}"
            )
        num_pooled = int(config.share * num_rows * embedding_dim) // self.width
        if config.method == "quotient_remainder":
            self.modulus = self._modulus(num_pooled)
            num_pooled = -(-num_rows // self.modulus) + self.modulus
        if num_pooled < 1:
            raise ConfigError(f"table.share {config.share} of {num_rows} rows holds no row at all")
        std = init_std / math.sqrt(config.hashes) if self._sums else init_std
        self.weight = nn.Parameter(torch.randn(num_pooled, self.width) * std)
        if config.method == "quotient_remainder":
            with torch.no_grad():  # a product that starts near the remainder's row
                self.weight[self.modulus :].mul_(0.1 / init_std).add_(1.0)

    @property
    def _sums(self) -> bool:
        return self.config.method in ("double", "bloom")

    def _modulus(self, num_pooled: int) -> int:
        """The largest m with N / m + m rows in the pool: the most remainders the share allows."""
        discriminant = num_pooled**2 - 4 * self.num_rows
        modulus = (num_pooled + math.isqrt(max(discriminant, 0))) // 2
        while modulus > 1 and -(-self.num_rows // modulus) + modulus > num_pooled:
            modulus -= 1
        if discriminant < 0 or modulus < 1 or -(-self.num_rows // modulus) + modulus > num_pooled:
            least = math.ceil(2 * math.sqrt(self.num_rows) + 1) / self.num_rows
            raise ConfigError(
                f"table.share {self.config.share} is too small for quotient_remainder of "
                f"{self.num_rows} rows; it needs {least:.3f}"
            )
        return modulus

    def places(self, rows: Tensor) -> Tensor:
        """Rows of the pool that each index is made of: `[...]` -> `[..., H]`."""
        if self.config.method == "quotient_remainder":
            quotient = rows.div(self.modulus, rounding_mode="floor")
            return torch.stack([rows % self.modulus, self.modulus + quotient], dim=-1)
        seeds = range(
            self.config.seed * self.config.hashes, (self.config.seed + 1) * self.config.hashes
        )
        return torch.stack([mix(rows, seed) for seed in seeds], dim=-1) % len(self.weight)

    def forward(self, rows: Tensor, *, size: int | None = None, sparse: bool = False) -> Tensor:
        """See `EmbeddingTable`."""
        size = size or self.embedding_dim
        places = self.places(rows)
        if self.config.method == "multi_probe":
            probes = -(-size // self.width)
            parts = lookup(self.weight, places[..., :probes], None, sparse=sparse)
            return parts.flatten(-2)[..., :size]
        parts = lookup(self.weight, places, size, sparse=sparse)
        return parts.prod(-2) if self.config.method == "quotient_remainder" else parts.sum(-2)

    def vectors(self) -> Tensor:
        """`[num_rows, D]`, all of them."""
        found: Tensor = self(torch.arange(self.num_rows, device=self.weight.device))
        return found

    @property
    def nbytes(self) -> int:
        """4 P D / H for multi_probe, else 4 P D: hash functions take no room."""
        return self.weight.nbytes
