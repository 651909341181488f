"""Losses of (user, item) pairs in which each user stands once.

A user without a sequence has one vector for all that he has had, so the scores of the negatives are
the same for each of his pairs. Computed once a user instead of once a pair, a step costs as many
times less as a user has pairs (27 on average in Gowalla).

Sampled negatives: what the user has among the targets of the batch is no negative of his, nor what
is withheld from them (`Negatives.withheld`). In `nested_softmax` only a pair's own target is taken
out, which here would need a sum of its own for each pair. A full softmax has all that he has among
its candidates, also where the candidates are some of the items (`Negatives.whole`).

Shape legend: U users of the batch, T pairs, K sampled negatives, N items, G granularities, D
embedding_dim.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from recsys.granularity import Granularities
from recsys.layers.precision import sums_in_float32
from recsys.losses.logsumexp import nested_logsumexp
from recsys.losses.prefix_scales import PrefixScales, prefix_scales
from recsys.losses.softmax import (
    Negatives,
    NestedLossOutput,
    Teaching,
    cross_entropy,
    find_places,
    join,
    own_logits,
)


def owners_of(lengths: Tensor, num_pairs: int) -> Tensor:
    """`[T]` the row of the user of each pair, from the pairs of each user, `lengths [U]`."""
    rows = torch.arange(len(lengths), device=lengths.device)
    return rows.repeat_interleave(lengths, output_size=num_pairs)


class RepeatedUsers(nn.Module):
    """Any objective, called with one row for each user: the row is repeated for every pair."""

    def __init__(self, objective: Any) -> None:
        """`objective`: called as `nested_softmax` is; if it is a module, it is trained."""
        super().__init__()
        self.objective = objective

    def forward(
        self,
        users: Tensor,
        items: Tensor,
        targets: Tensor,
        *given: Any,
        lengths: Tensor,
        **more: Any,
    ) -> NestedLossOutput:
        """`users [U, D]` and `lengths [U]`; for the others see `nested_softmax`."""
        repeated = users[owners_of(lengths, len(targets))]
        found: NestedLossOutput = self.objective(repeated, items, targets, *given, **more)
        return found


@sums_in_float32
def grouped_softmax(
    users: Tensor,
    items: Tensor,
    targets: Tensor,
    scales: Tensor,
    granularities: Granularities,
    *,
    lengths: Tensor,
    negatives: Negatives | None = None,
    teaching: Teaching = Teaching(),  # noqa: B008 - frozen
) -> NestedLossOutput:
    """`nested_softmax` of pairs: the same over all items; for negatives see above.

    Args:
        users: `[U, D]`.
        items: `[N, D]` of the catalogue, or `[K + T, D]`: of the negatives, then of the targets.
        targets: `[T]` item indices, user by user.
        scales: `[G]`.
        granularities: sizes, weights and normalization.
        lengths: `[U]` pairs of each user; their sum is T.
        negatives: the sampled candidates; None: full softmax.
        teaching: see `nested_softmax`.

    Returns:
        The loss, averaged over pairs.
    """
    owners, means = owners_of(lengths, len(targets)), teaching.distillation > 0
    factors = prefix_scales(users, items, scales, granularities)
    if negatives is None:
        everything, taught = nested_logsumexp(
            users, items, factors.rows, factors.slices, col_scale=factors.cols, means=means
        )
        chosen = nn.functional.embedding(targets, items, sparse=True)  # no second [N, D] gradient
        positive = own_logits(users[owners], chosen, _of_pairs(factors, owners, targets))
    else:
        k = len(negatives.items)
        skip = None if negatives.whole else own_places(negatives, targets, owners, len(users))
        everything, taught = nested_logsumexp(
            users,
            items[:k],
            factors.rows,
            factors.slices,
            col_scale=factors.of(slice(k)).cols,
            bias=None if negatives.log_q is None else -negatives.log_q,
            skip=skip,
            means=means,
        )
        places = _target_places(negatives, targets)
        positive = own_logits(users[owners], items[places], _of_pairs(factors, owners, places))
    everything = everything[:, owners]
    taught = taught[:, owners] if means else taught
    if negatives is not None:
        joined = join(everything, taught, positive, positive)
        if isinstance(places, Tensor):  # those that are candidates already count once
            once = places < k
            joined = (
                torch.where(once, everything, joined[0]),
                torch.where(once, taught, joined[1]) if means else taught,
            )
        everything, taught = joined
    return cross_entropy(everything, taught, positive, granularities, teaching)


def _of_pairs(factors: PrefixScales, owners: Tensor, items: slice | Tensor) -> PrefixScales:
    """The factors of pairs: of their users' rows, and of some of the items."""
    return replace(factors.of(items), rows=factors.rows[:, owners])


def _target_places(negatives: Negatives, targets: Tensor) -> slice | Tensor:
    """Where `items [K + T, D]` hold the targets: behind the negatives, or, of a full softmax, in
    `[T]` rows that are candidates, as over all items (those of pairs for what is none).
    """
    k = len(negatives.items)
    if not negatives.whole:
        return slice(k, None)
    found = find_places(negatives.items, targets)
    own = k + torch.arange(len(targets), device=targets.device)
    return torch.where(found >= 0, found, own)


def _had(negatives: Negatives, targets: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
    """`[S]` rows of users, ascending, and `[S]` items that are no negatives of theirs."""
    if negatives.withheld is None:
        return owners, targets
    rows, items = (
        torch.cat(parts) for parts in zip((owners, targets), negatives.withheld, strict=True)
    )
    order = rows.argsort(stable=True)
    return rows[order], items[order]


def own_places(negatives: Negatives, targets: Tensor, owners: Tensor, num_users: int) -> Tensor:
    """`[U, S]` int64: where what each user has stands among the negatives, -1 for none.

    Args:
        negatives: of the batch.
        targets: `[T]` item indices.
        owners: `[T]` the row of each target's user, ascending.
        num_users: U.
    """
    rows, items = _had(negatives, targets, owners)
    places = find_places(negatives.items, items)
    found = places >= 0
    rows, places = rows[found], places[found]
    counts = torch.bincount(rows, minlength=num_users)
    columns = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    table = torch.full((num_users, int(counts.max())), -1, device=rows.device)
    table[rows, columns] = places
    return table


def negative_shares(negatives: Negatives, targets: Tensor, owners: Tensor, users: Tensor) -> Tensor:
    """`[U, K]` what each negative counts in a user's mean; what he has counts nothing."""
    k = len(negatives.items)
    weight = users.new_ones(k)
    if negatives.log_q is not None:
        weight = (-negatives.log_q).softmax(0).to(users.dtype)
    rows, items = _had(negatives, targets, owners)
    places = find_places(negatives.items, items)
    shares = torch.cat([weight.expand(len(users), -1), users.new_zeros(len(users), 1)], dim=1)
    # The last column is left out: it takes items that are none of the negatives.
    shares[rows, torch.where(places >= 0, places, k)] = 0.0
    shares = shares[:, :k]
    return shares / shares.sum(1, keepdim=True).clamp_min(1e-12)
