"""A history's own items as negatives of what follows it: for rankings that do not filter them.

Sampled negatives hardly ever hold what a user has just had, so a model trained by them ranks it
first: that nobody wants it twice is told by the full softmax alone. Here it is told at the cost of
attention scores, with the weight that the full softmax gives it.

Shape legend: B users, L longest history, T tokens, D embedding_dim, G granularities.
"""

from typing import Protocol

import torch
from torch import Tensor

from recsys.granularity import Granularities, prefix_norms

_NEVER = -1e4
"""A logit that adds nothing; minus infinity would make gradients of rows of nothing else NaN."""


class Layout(Protocol):
    """How packed tokens stand in a padded grid (`towers.jagged.JaggedLayout`)."""

    def pad(self, packed: Tensor) -> Tensor:
        """`[T, ...] -> [B, L, ...]`."""
        ...

    def pack(self, padded: Tensor) -> Tensor:
        """`[B, L, ...] -> [T, ...]`."""
        ...


def seen_logsumexp(
    users: Tensor,
    read: Tensor,
    items: Tensor,
    targets: Tensor,
    scales: Tensor,
    granularities: Granularities,
    layout: Layout,
) -> Tensor:
    """log-sum-exp of the scores of all that each token's user has had, up to and with the token.

    Args:
        users: `[T, D]`.
        read: `[T, D]` vectors of the items that the tokens stand for.
        items: `[T]` those items.
        targets: `[T]`; an item that does come again is no negative.
        scales: `[G]`.
        granularities: sizes and normalization.
        layout: of the histories.

    Returns:
        `[G, T]`, about -1e4 where there is nothing.
    """
    rows, columns = layout.pad(users), layout.pad(read)
    seen = torch.ones(rows.shape[1], rows.shape[1], dtype=torch.bool).tril()
    seen = seen & (layout.pad(items)[:, None, :] != layout.pad(targets)[:, :, None])
    row_norms, column_norms = None, None
    if granularities.normalize:
        row_norms, column_norms = (prefix_norms(side, granularities) for side in (rows, columns))
    products, found = torch.zeros(()), []
    for g, (lo, hi) in enumerate(granularities.slices):
        products = products + rows[..., lo:hi] @ columns[..., lo:hi].mT
        logits = products * scales[g]
        if row_norms is not None and column_norms is not None:
            logits = logits / row_norms[g][:, :, None] / column_norms[g][:, None, :]
        found.append(layout.pack(logits.masked_fill(~seen, _NEVER).logsumexp(2)))
    return torch.stack(found)
