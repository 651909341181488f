"""Attention in blocks of queries: memory grows with the length of histories, not with its square.

The scores of one block of queries are all that exists at a time. Training keeps none of them: the
backward pass of a block computes them again (Chen et al., Training Deep Nets with Sublinear Memory
Cost, 2016).

Shape legend: B users, H heads, L longest history, Q queries of a block, K keys, W coordinates of a
head.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

SCORES = 1 << 20
"""Scores of all users and heads that a block may hold."""


def in_blocks(
    attend: Callable[[int, int], Tensor],
    longest: int | torch.SymInt,
    scores_per_query: int | torch.SymInt,
    *,
    most: int | None = None,
) -> Tensor:
    """Attention of all queries, block by block.

    Args:
        attend: gives what the queries `[lo, hi)` have seen, `[B, hi - lo, ...]`; causal, so it
            needs the keys before `hi` alone.
        longest: L.
        scores_per_query: users times heads times L.
        most: scores of a block; None: `SCORES`.

    Returns:
        `[B, L, ...]`.
    """
    if not isinstance(longest, int) or not isinstance(scores_per_query, int):
        return attend(0, longest)  # type: ignore[arg-type]  # while it is exported
    size = max(1, (most or SCORES) // max(1, scores_per_query))
    if size >= longest:
        return attend(0, longest)
    edges = [(lo, min(lo + size, longest)) for lo in range(0, longest, size)]
    if not torch.is_grad_enabled():
        return torch.cat([attend(lo, hi) for lo, hi in edges], dim=1)
    parts = [checkpoint(attend, lo, hi, use_reentrant=False) for lo, hi in edges]
    return torch.cat(parts, dim=1)


def steps_back(lo: int, hi: int, device: torch.device) -> Tensor:
    """`[hi - lo, hi]`: how many places each key lies before each query; negative: after it."""
    keys = torch.arange(hi, device=device)
    return keys[lo:, None] - keys
