"""A history's own items as candidates of what follows it: for rankings that do not filter them.

Sampled negatives hardly ever hold what a user has just had, so a model trained by them ranks it
first: that nobody wants it twice is told by the full softmax alone. Here it is told at the cost of
attention scores, with the weight that the full softmax gives it.

Vectors by themselves learn it badly: what a user has had is what is most like what comes next. A
`RepeatBias` takes that from them: one learned number for each granularity, added to the logits of
all that the user has had, in training and in ranking. Where nobody has anything twice it falls
until nothing had is recommended; where people come back to what they know it rises. It is the least
there can be of a repeat mode (Ren et al., RepeatNet, AAAI 2019).

Shape legend: B users, L longest history, T tokens, D embedding_dim, G granularities.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from recsys.granularity import Granularities, prefix_norms

_NEVER = -1e4
"""A logit that adds nothing; minus infinity would make gradients of rows of nothing else NaN."""


_STEP = 10.0
"""A logit for a tenth of it in weights: optimizers move weights by their rate, and a rate that fits
vectors would need more steps than there are to move a logit by five."""


class RepeatBias(nn.Module):
    """What is added to the logits of all that a user has had, `[G]`; learned, 0 at first."""

    def __init__(self, granularities: Granularities) -> None:
        super().__init__()
        self.sizes = granularities.sizes
        self.weight = nn.Parameter(torch.zeros(len(granularities)))

    def forward(self) -> Tensor:
        """`[G]` logits."""
        return _STEP * self.weight

    def of_scores(self, sizes: tuple[int, ...], scales: Tensor) -> Tensor:
        """The same as `[S]` parts of scores (before `scales [G]`), of any prefixes `sizes`.

        Between granularities it is interpolated by the logarithm of the size.
        """
        known = (self() / scales).detach().double().cpu().numpy()
        found = np.interp(np.log(sizes), np.log(self.sizes), known)
        return torch.from_numpy(found).float()


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
    bias: Tensor | None = None,
) -> Tensor:
    """log-sum-exp of the scores of all that each token's user has had, up to and with the token.

    What was had several times counts once.

    Args:
        users: `[T, D]`.
        read: `[T, D]` vectors of the items that the tokens stand for.
        items: `[T]` those items.
        targets: `[T]`; an item that does come again is no negative.
        scales: `[G]`.
        granularities: sizes and normalization.
        layout: of the histories.
        bias: `[G]` added to the logits.

    Returns:
        `[G, T]`, about -1e4 where there is nothing.
    """
    rows, columns = layout.pad(users), layout.pad(read)
    seen = _latest(layout.pad(items)) & ~_same(items, targets, layout)
    row_norms, column_norms = None, None
    if granularities.normalize:
        row_norms, column_norms = (prefix_norms(side, granularities) for side in (rows, columns))
    products, found = torch.zeros(()), []
    for g, (lo, hi) in enumerate(granularities.slices):
        products = products + rows[..., lo:hi] @ columns[..., lo:hi].mT
        logits = products * scales[g]
        if row_norms is not None and column_norms is not None:
            logits = logits / row_norms[g][:, :, None] / column_norms[g][:, None, :]
        if bias is not None:
            logits = logits + bias[g]
        found.append(layout.pack(logits.masked_fill(~seen, _NEVER).logsumexp(2)))
    return torch.stack(found)


def comes_again(items: Tensor, targets: Tensor, layout: Layout) -> Tensor:
    """`[T]` bool: has the user had the target before, up to and with the token?"""
    same = _same(items, targets, layout)
    return layout.pack(same.tril().any(2))


def _same(items: Tensor, targets: Tensor, layout: Layout) -> Tensor:
    """`[B, L, L]` bool: is the target of token t the item of token i?"""
    return layout.pad(targets)[:, :, None] == layout.pad(items)[:, None, :]


def _latest(items: Tensor) -> Tensor:
    """`[B, L, L]` bool of `items [B, L]`: of what was had up to token t, the last time it was.

    Tokens behind the end of a history come after all that count.
    """
    longest = items.shape[1]
    places = torch.arange(longest)
    later = (items[:, :, None] == items[:, None, :]) & (places > places[:, None])
    again = torch.where(later, places, longest).amin(2)  # [B, L]: when it is had the next time
    known = places <= places[:, None]
    return known & (again[:, None, :] > places[:, None])
