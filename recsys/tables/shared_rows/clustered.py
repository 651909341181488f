"""Clustered tables: the indices of a cluster share a row.

Which index belongs to which cluster is known before training: from the graph of who had what
(GraphHash: Wu et al., WWW 2025) or from feature vectors; `clusters.py` finds them and `assign`
takes them. With `hashed_share` a row from a second, hashed pool is added (DoubleGraphHash of that
paper), so that members of a cluster can be told apart.

Shape legend: N indices, K clusters at most, P hashed rows, D embedding_dim.
"""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.config import StrictModel
from recsys.errors import ConfigError, RunError
from recsys.tables.plain.lookup import lookup, mix


class ClusteredConfig(StrictModel):
    """Options of a clustered table."""

    name: Literal["clustered"] = "clustered"
    by: Literal["graph", "features"] = "graph"
    """graph: modularity of the training interactions. features: k-means on `feature`."""
    feature: str | None = None
    """Name of a feature of vectors, with `by: features`."""
    share: float = Field(default=0.25, gt=0, le=1)
    """Bytes of the table over those of a dense one, at most."""
    hashed_share: float = Field(default=0.5, ge=0, lt=1)
    """Of its rows, the part that is hashed and added; 0: members of a cluster are alike."""
    seed: int = Field(default=0, ge=0)


class ClusteredTable(nn.Module):
    """At most K rows of clusters, P hashed rows, and the cluster of every index."""

    clusters: Tensor

    def __init__(
        self, config: ClusteredConfig, num_rows: int, embedding_dim: int, *, init_std: float
    ) -> None:
        """Raises ConfigError when the share is too small."""
        super().__init__()
        self.config, self.num_rows, self.embedding_dim = config, num_rows, embedding_dim
        # The list of clusters, four bytes an index, is paid for by rows.
        affordable = int(config.share * num_rows - num_rows / embedding_dim)
        self.num_hashed = int(config.hashed_share * affordable)
        self.num_clusters = affordable - self.num_hashed
        if self.num_clusters < 1:
            raise ConfigError(
                f"table.share {config.share} of {num_rows} rows holds no cluster beside the list "
                "of clusters; raise it"
            )
        std = init_std / math.sqrt(2) if self.num_hashed else init_std
        self.weight = nn.Parameter(torch.randn(self.num_clusters, embedding_dim) * std)
        if self.num_hashed:
            self.hashed = nn.Parameter(torch.randn(self.num_hashed, embedding_dim) * std)
        self.register_buffer("clusters", torch.full((num_rows,), -1, dtype=torch.int32))
        self._known = False

    def assign(self, clusters: Tensor) -> None:
        """Takes the cluster of every index, `[N]` in 0..K-1.

        Raises:
            RunError: they are not as many, or not in range.
        """
        low, high = int(clusters.min()), int(clusters.max())
        if len(clusters) != self.num_rows or low < 0 or high >= self.num_clusters:
            raise RunError(
                f"{len(clusters)} indices in clusters {low}..{high}; this table has "
                f"{self.num_rows} indices and {self.num_clusters} clusters"
            )
        self.clusters.copy_(clusters)

    def forward(self, rows: Tensor, *, size: int | None = None, sparse: bool = False) -> Tensor:
        """See `EmbeddingTable`.

        Raises:
            RunError: the clusters are not known yet.
        """
        self._known = self._known or bool(self.clusters[0] >= 0)  # read from a device once
        if not self._known:
            raise RunError("this table has no clusters yet; call assign first")
        found = lookup(self.weight, self.clusters[rows].long(), size, sparse=sparse)
        if self.num_hashed:
            places = mix(rows, self.config.seed) % self.num_hashed
            found = found + lookup(self.hashed, places, size, sparse=sparse)
        return found

    def vectors(self) -> Tensor:
        """`[num_rows, D]`, all of them."""
        found: Tensor = self(torch.arange(self.num_rows, device=self.weight.device))
        return found

    @property
    def nbytes(self) -> int:
        """4 (K + P) D + 4 N."""
        hashed = self.hashed.nbytes if self.num_hashed else 0
        return self.weight.nbytes + hashed + self.clusters.nbytes
