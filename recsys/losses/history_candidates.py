"""Items of the user's own history as candidates of the softmax.

Sampled negatives hardly ever hold what a user has just had, so a model trained by them ranks it
first: that nobody wants it twice is told by the full softmax alone. Here it is told at the cost of
attention scores, with the weight that the full softmax gives it.

Vectors by themselves learn it badly: what a user has had is what is most like what comes next. A
`RepeatBias` takes that from them: one learned number for each granularity, added to the logits of
all that the user has had, in training and in ranking. Where nobody has anything twice it falls
until nothing had is recommended; where people come back to what they know it rises. It is the least
there can be of a repeat mode (Ren et al., RepeatNet, AAAI 2019).

Shape legend: B users, L longest history, O most older items, C = L + O, T tokens, K sampled
negatives, D embedding_dim, G granularities.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from recsys.devices import is_host
from recsys.granularity import Granularities
from recsys.layers.precision import raised, sums_in_float32
from recsys.losses.softmax import OwnCandidates, find_places
from recsys.prefixes import prefix_logits

_NEVER = -1e4
"""A logit that adds nothing; minus infinity would make gradients of rows of nothing else NaN."""


_STEP = 10.0
"""A logit for a tenth of it in weights: optimizers move weights by their rate, and a rate that fits
vectors would need more steps than there are to move a logit by five."""


class RepeatBias(nn.Module):
    """Learned bias `[G]` of the logits of items the user has had, 0 at first."""

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
    """Positions of packed tokens in a padded grid (`layers.jagged.JaggedLayout`)."""

    @property
    def lengths(self) -> Tensor:
        """`[B]` int64 tokens of each row."""
        ...

    def pad(self, packed: Tensor) -> Tensor:
        """`[T, ...] -> [B, L, ...]`."""
        ...

    def pack(self, padded: Tensor) -> Tensor:
        """`[B, L, ...] -> [T, ...]`."""
        ...


@dataclass(frozen=True)
class Had:
    """Items that users have had, user by user: the tokens of a batch, or older rows."""

    items: Tensor
    """`[T]` item indices."""
    vectors: Tensor
    """`[T, D]`."""
    layout: Layout


@sums_in_float32
def seen_candidates(
    users: Tensor,
    read: Had,
    targets: Tensor,
    scales: Tensor,
    granularities: Granularities,
    *,
    negatives: Tensor,
    bias: Tensor | None = None,
    older: Had | None = None,
) -> OwnCandidates:
    """All that each token's user has had, up to and with the token, as candidates of the token.

    What was had several times is one candidate. The target is none of them; where it was had
    before, its logit gets the bias too.

    Args:
        users: `[T, D]`.
        read: the tokens.
        targets: `[T]` item indices.
        scales: `[G]`.
        granularities: sizes and normalization.
        negatives: `[K]` sampled item indices, ascending; those that a user has had count once.
        bias: `[G]` added to the logits of what was had.
        older: what the same users have had before their first token.

    Returns:
        The candidates; a token that has none gets a log-sum-exp of about -1e4.
    """
    layout = read.layout
    items, vectors = layout.pad(read.items), layout.pad(raised(read.vectors))
    known = _latest(items)
    if older is not None:
        known = torch.cat([known, _not_yet_again(older, items)], dim=2)
        items = torch.cat([items, older.layout.pad(older.items)], dim=1)
        vectors = torch.cat([vectors, older.layout.pad(raised(older.vectors))], dim=1)
    same = layout.pad(targets)[:, :, None] == items[:, None, :]
    seen = known & ~same
    places = find_places(negatives, items)[:, None, :]
    held = layout.pack(torch.where(seen, places, -1))
    if len(held) and is_host(held.device):  # elsewhere the host would wait for the number
        held = held.topk(int((held >= 0).sum(1).max()), dim=1).values
    sums, means = _sum_up(layout.pad(users), vectors, seen, scales, granularities, layout, bias)
    target_bias = None
    if bias is not None:
        target_bias = bias[:, None] * layout.pack((known & same).any(2)).to(bias.dtype)
    return OwnCandidates(sums, means, held, target_bias)


def _sum_up(
    users: Tensor,
    vectors: Tensor,
    seen: Tensor,
    scales: Tensor,
    granularities: Granularities,
    layout: Layout,
    bias: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """`[G, T]` log-sum-exps over `seen [B, L, C]`, and mean logits under the last one's softmax."""
    logits = [
        (scores if bias is None else scores + bias[g]).masked_fill(~seen, _NEVER)
        for g, scores in enumerate(prefix_logits(users, vectors, scales, granularities))
    ]
    shares = logits[-1].detach().softmax(2)
    sums = [layout.pack(part.logsumexp(2)) for part in logits]
    means = [layout.pack((shares * part).sum(2)) for part in logits]
    return torch.stack(sums), torch.stack(means)


def _latest(items: Tensor) -> Tensor:
    """`[B, L, L]` bool of `items [B, L]`: of what was had up to token t, the last time it was.

    Tokens behind the end of a history come after all that count.
    """
    longest = items.shape[1]
    places = torch.arange(longest, device=items.device)
    later = (items[:, :, None] == items[:, None, :]) & (places > places[:, None])
    again = torch.where(later, places, longest).amin(2)  # [B, L]: when it is had the next time
    known = places <= places[:, None]
    return known & (again[:, None, :] > places[:, None])


def _not_yet_again(older: Had, items: Tensor) -> Tensor:
    """`[B, L, O]` bool: older items that the tokens `items [B, L]` up to t do not hold."""
    had = older.layout.pad(older.items)
    longest = items.shape[1]
    places = torch.arange(longest, device=items.device)
    again = torch.where(had[:, :, None] == items[:, None, :], places, longest).amin(2)  # [B, O]
    real = torch.arange(had.shape[1], device=items.device) < older.layout.lengths[:, None]
    return real[:, None, :] & (again[:, None, :] > places[:, None])
