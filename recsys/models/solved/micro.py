"""MiCRO: users and items over interests, items by what users of each interest have had lately.

Portman, Ragain and El-Kishky, MiCRO: Multi-interest Candidate Retrieval Online, 2022 (arXiv
2210.16271): interests are communities, a user has weights over them, and an item has, for each
interest, the engagement of its users, which decays with time and is counted without training.

Here interests are clusters of items, by k-means on leading eigenvectors of their graph. Each block
of coordinates is a clustering of its own, the first the coarsest, with as many clusters as it has
coordinates: so a prefix is the same model with broader interests. Coordinate 0 is an interest that
all users share. With P(k | u) the share of interest k in what user u had in training, w the decayed
weight of an interaction and s_k the share of interest k in them all,

    e_ik = sum of w P(k | u) over those who had i,   r_i = sum of w,
    x_ik = (e_ik - r_i s_k) / s_k^(1/2)              engagement beyond what any item would have,
    v_i  = r_i^(popularity - 1) (r_i, x_i1, x_i2, ...),

and a user is the sum of v_i / v_i0 over the history, later items weighing more. So item j scores
r_j^popularity (background + sum_k x_ik x_jk / (r_i r_j)) for each item i of the history: how
popular j is now, and how much more so among users of the interests of i.

An update (`recsys update`) keeps the interests and counts anew, so that items move and new ones get
vectors, all in the space of the old ones.

Time: the weight of an interaction in an item halves every `half_life_days` before the last
interaction of all, 60 times at most (less would be rounded away), down to `lasting`. Rows without
timestamps have no common clock; there the order of each user's rows is taken, with `half_life_rows`
as the half-life. A user's own history is always weighed by the order.

Departures from the paper: interests are several clusterings of items and no communities of a graph
of users; a user is one vector, scored by the sum over interests and not searched interest by
interest; weights are not cut to the largest few.

Shape legend: B users, L longest history, T items of all histories, U users, N items, K interests of
a block, G granularities, D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from recsys.arrays import Float64, Int32, Int64
from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.devices import to_indices
from recsys.layers.histories.sums import HistorySum, history_sums
from recsys.layers.spectrum import leading, normalized
from recsys.losses.softmax import NestedLossOutput, ScoreScales, nested_softmax
from recsys.models.base import Model, ModelConfig
from recsys.tables.shared_rows.clusters import vector_clusters

_BLOCK = 4096
"""Items counted at once."""
_DAY = 86_400
_FIRST = 4.0
"""By what r_i is multiplied in coordinate 0, so that no codec loses what others are divided by."""
_HALVINGS = 60
"""How often age halves a weight at most: quotients of lesser ones are lost, at last in float32."""
_NONE = -1
"""The interest of an item without a training row."""


class MiCROConfig(ModelConfig):
    """Options of MiCRO."""

    name: Literal["micro"] = "micro"
    history_length: int = Field(default=10_000, ge=1)
    """Most recent interactions of a user that are read."""
    half_life_days: float | None = Field(default=30.0, gt=0)
    """After so many days an interaction weighs half as much in an item's vector; null: all alike.
    """
    half_life_rows: float | None = Field(default=2.0, gt=0)
    """An item weighs half as much in a user's vector when so many came after it; null: all alike.
    Where rows have no timestamps, interactions decay so in items too."""
    lasting: float = Field(default=0.1, ge=0, le=1)
    """The share of an interaction's weight in an item that never decays."""
    popularity: float = Field(default=0.85, ge=0, le=4)
    """Scores of an item grow with its decayed number of interactions to this power; those of higher
    powers are beyond float32."""
    background: float = Field(default=0.1, gt=0)
    """What the popularity of items weighs beside the user's own interests."""

    @model_validator(mode="after")
    def _of_this_form(self) -> MiCROConfig:
        if self.granularities.sizes[0] < 2:
            raise ValueError(
                "the first coordinate is an interest of all users, so a granularity of 1 tells no "
                "two users apart; granularities.sizes must start at 2 or above"
            )
        if self.granularities.normalize:
            raise ValueError(
                "vectors of micro are scored by dot products; set granularities.normalize to false"
            )
        return self

    @property
    def order_free(self) -> bool:
        """Without a half-life by order, none is looked at."""
        return self.half_life_rows is None

    @property
    def solved(self) -> bool:
        """Vectors are counts."""
        return True

    @property
    def updatable(self) -> bool:
        """Interests stay, counts are made anew."""
        return True

    @property
    def nested(self) -> bool:
        """No coordinate is made of a later one."""
        return True


class MiCRO(Model):
    """Item vectors of decayed engagement; user vectors are sums of what they had."""

    Config = MiCROConfig
    config: MiCROConfig
    interest_of: Tensor

    def __init__(
        self,
        config: MiCROConfig,
        num_items: int,
        *,
        num_users: int = 0,
        features: ItemFeatures | None = None,
        objective: Callable[..., NestedLossOutput] = nested_softmax,
    ) -> None:
        """Args:
        config: of this model.
        num_items: N.
        num_users: not used: users are what they have had.
        features: not used.
        objective: not used: nothing is trained.
        """
        super().__init__()
        self.config, self.granularities = config, config.granularities
        dim, blocks = self.granularities.embedding_dim, len(self.granularities)
        self.items = nn.Parameter(torch.zeros(num_items, dim), requires_grad=False)
        nothing = torch.full((num_items, blocks), _NONE, dtype=torch.int32)
        self.register_buffer("interest_of", nothing)
        self.scales = ScoreScales(self.granularities)

    @torch.no_grad()
    def solve(self, rows: Histories) -> Iterator[None]:
        """One round. Interests that the model has already (in an update) are kept."""
        sizes = self.granularities.sizes
        counts = np.diff((1, *sizes)).tolist()  # the first coordinate is no cluster
        if bool((self.interest_of == _NONE).all()):
            seed = int(torch.randint(1 << 31, (1,)))  # of the run's own random numbers
            self.interest_of.copy_(_interests(rows, len(self.items), counts, seed))
        owners = np.repeat(np.arange(len(rows)), rows.lengths)
        weights = self._weights(rows)
        shape = (len(self.items), len(rows))
        had = sp.csr_matrix((weights, (rows.items, owners)), shape=shape)
        totals = np.asarray(had.sum(axis=1))  # [N, 1]
        usual = totals.sum() / max(1, np.count_nonzero(totals))
        relative = totals / usual if usual else totals
        powers = np.where(totals > 0, relative, 1.0) ** (self.config.popularity - 1)
        self._put(0, _FIRST * relative * powers)
        after, order = _rows_after(rows), self.interest_of.cpu().numpy()
        recency = _halved(after, self.config.half_life_rows)
        for block, (lo, count) in enumerate(zip((1, *sizes[:-1]), counts, strict=True)):
            shares = _shares(rows, owners, order[:, block], recency, count)
            self._put(lo, _excess(had, shares) * (powers / (usual or 1.0)))
        yield

    def _put(self, lo: int, columns: Float64) -> None:
        found = torch.from_numpy(columns.astype(np.float32))
        self.items[:, lo : lo + found.shape[1]] = found.to(self.device)

    def _weights(self, rows: Histories) -> Float64:
        """`[T]` of the interactions in items: down from 1 to `lasting`."""
        if rows.timestamps is None:
            decayed = _halved(_rows_after(rows), self.config.half_life_rows)
        else:
            latest = rows.timestamps.max(initial=np.iinfo(np.int64).min)  # may lie before 1970
            days = (latest - rows.timestamps) / _DAY
            decayed = _halved(days, self.config.half_life_days)
        return self.config.lasting + (1 - self.config.lasting) * decayed

    def user_vectors(self, histories: Histories) -> Tensor:
        """`[B, D]`: weighted sums of the most recent `history_length` interactions."""
        recent = histories.last(self.config.history_length)
        rows = self.items[to_indices(recent.items, self.device)]
        weights = _halved(_rows_after(recent), self.config.half_life_rows).astype(np.float32)
        weighed = torch.from_numpy(weights).to(self.device)[:, None]
        return history_sums(recent, profiles(rows, self.config.background) * weighed)

    def item_vectors(self) -> Tensor:
        """`[N, D]`."""
        return self.items

    def user_tower(self) -> nn.Module:
        """The weighted sum of profiles."""
        return ProfileSum(self.config.background, self.config.half_life_rows)


def profiles(vectors: Tensor, background: float) -> Tensor:
    """`[..., D]` what an item tells of its user: its interests, however popular it is.

    Zeros of an item that nobody had.
    """
    first = vectors[..., :1]
    others = vectors[..., 1:] / torch.where(first > 0, first, 1.0)
    shared = torch.where(first > 0, background / _FIRST**2, 0.0)
    return torch.cat([shared, others], dim=-1)


class ProfileSum(nn.Module):
    """`vectors [B, L, D]`, `lengths [B]` -> users `[B, D]`."""

    def __init__(self, background: float, half_life: float | None) -> None:
        """Of the options `background` and `half_life_rows`."""
        super().__init__()
        self.background, self.half_life = background, half_life
        self.sums = HistorySum()

    def forward(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """The weighted sum of each history."""
        found = profiles(vectors, self.background)
        if self.half_life is not None:
            steps = torch.arange(vectors.shape[1], device=vectors.device)
            after = (lengths[:, None] - 1 - steps).clamp_min(0).to(vectors.dtype)
            halvings = (after / self.half_life).clamp_max(_HALVINGS)
            found = found * torch.exp2(-halvings)[:, :, None]
        users: Tensor = self.sums(found, lengths)
        return users


def _interests(rows: Histories, num_items: int, counts: list[int], seed: int) -> Tensor:
    """`[N, G]` int32: the cluster of each item in each block, by K leading eigenvectors (8 at
    least), weighed by their values; `_NONE` of an item without a row.
    """
    known = rows.rows(np.flatnonzero(rows.lengths))
    had = known.to_csr(num_items)
    dim = min(max(8, *counts), len(known), num_items)
    vectors, values = leading(normalized(had, 0.5, 0.5), dim, seed=seed)
    directions = torch.from_numpy(vectors * values)
    items = np.unique(had.indices)
    found = torch.full((num_items, len(counts)), _NONE, dtype=torch.int32)
    for block, count in enumerate(counts):
        of_items = directions[items, : max(8, count)]
        found[items, block] = vector_clusters(of_items, count, seed=seed).to(torch.int32)
    return found


def _rows_after(rows: Histories) -> Int64:
    """`[T]` how many interactions came after each in its history."""
    return np.repeat(rows.offsets[1:], rows.lengths) - 1 - np.arange(len(rows.items))


def _halved(age: Int64 | Float64, half_life: float | None) -> Float64:
    """`[T]` 1 at age 0, half as much after each of the first `_HALVINGS` half-lives; null: 1."""
    if half_life is None:
        return np.ones(len(age))
    decayed: Float64 = np.exp2(-np.minimum(age / half_life, _HALVINGS))
    return decayed


def _shares(
    rows: Histories, owners: Int64, interest_of: Int32, weights: Float64, count: int
) -> sp.csr_matrix:
    """`[U, K]`: the share of each interest in what users had; rows of none are zeros."""
    places = interest_of[rows.items]
    known = places != _NONE
    shape = (len(rows), count)
    sums = sp.csr_matrix((weights[known], (owners[known], places[known])), shape=shape)
    totals = np.asarray(sums.sum(axis=1)).ravel()
    return sp.csr_matrix(sp.diags_array(1 / np.where(totals > 0, totals, 1.0)) @ sums)


def _excess(had: sp.csr_matrix, shares: sp.csr_matrix) -> Float64:
    """`[N, K]` x of the module's formulas.

    Args:
        had: `[N, U]` decayed weights.
        shares: `[U, K]`.
    """
    found = np.empty((had.shape[0], shares.shape[1]))
    for lo in range(0, len(found), _BLOCK):
        found[lo : lo + _BLOCK] = (had[lo : lo + _BLOCK] @ shares).toarray()
    usual = found.sum(axis=0) / max(found.sum(), 1e-12)
    found -= found.sum(axis=1, keepdims=True) * usual
    return found / np.sqrt(np.where(usual > 0, usual, 1.0))
