"""One table for several features, each with its own range of keys.

Coleman et al., Unified Embedding: Battle-Tested Feature Representations for Web-Scale ML Systems,
NeurIPS 2023. With a hashed table beneath, users, items and whatever else share one pool of rows,
and one budget; which rows collide differs from feature to feature, as their keys do.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn

from recsys.tables import EmbeddingTable, TableConfig, build_table


class SharedSpace(nn.Module):
    """A table over the concatenated indices of all features."""

    def __init__(
        self,
        config: TableConfig,
        num_rows: dict[str, int],
        embedding_dim: int,
        *,
        init_std: float,
        sizes: Sequence[int] = (),
    ) -> None:
        """`num_rows`: of each feature, by its name; `sizes`: as `build_table` takes them.

        Raises:
            ConfigError: the settings do not fit that many rows.
        """
        super().__init__()
        total = sum(num_rows.values())
        built = build_table(config, total, embedding_dim, init_std=init_std, sizes=sizes)
        self.table = cast(EmbeddingTable, built)
        self.num_rows = dict(num_rows)
        starts = accumulate(num_rows.values(), initial=0)
        self.starts = dict(zip(num_rows, starts, strict=False))

    def feature(self, name: str) -> "FeatureView":
        """The part of the space that belongs to a feature, as a table."""
        return FeatureView(self, self.starts[name], self.num_rows[name])

    @property
    def nbytes(self) -> int:
        """Of all features together."""
        return self.table.nbytes


class FeatureView:
    """One feature's rows of a `SharedSpace`: an `EmbeddingTable` without parameters of its own."""

    def __init__(self, space: SharedSpace, start: int, num_rows: int) -> None:
        self._space, self._start, self.num_rows = space, start, num_rows
        self.embedding_dim = space.table.embedding_dim

    def __call__(self, rows: Tensor, *, size: int | None = None, sparse: bool = False) -> Tensor:
        """See `EmbeddingTable`."""
        return self._space.table(rows + self._start, size=size, sparse=sparse)

    def vectors(self) -> Tensor:
        """`[num_rows, D]`, all of them."""
        device = next(self._space.parameters()).device
        return self(torch.arange(self.num_rows, device=device))

    @property
    def nbytes(self) -> int:
        """Its share of the space, by number of rows."""
        return self._space.nbytes * self.num_rows // self._space.table.num_rows
