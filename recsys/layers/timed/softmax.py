"""Softmax attention of padded rows with biases by place and by time, in blocks of queries.

Shape legend: B users, H heads, L longest history, Q queries of a block, K keys, W coordinates of a
head.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from recsys.layers.jagged import JaggedLayout
from recsys.layers.timed.pointwise import block_window
from recsys.layers.timed.query_blocks import in_blocks

AT_ONCE = 1 << 22
"""Scores of all users and heads that torch's own attention may hold."""
BiasOfBlock = Callable[[int, int], Tensor]
"""Of the queries `[lo, hi)`, for the keys before `hi`: `[.., H, Q, K]`, -inf at keys that come
later."""


def fits(queries: Tensor, dropout: float, bias: Tensor | None) -> bool:
    """Whether torch's own attention of `[B, H, L, W]` holds few enough scores.

    Without dropout and bias it holds none at all; while a model is exported it is always taken.
    """
    rows, heads, longest, _ = queries.shape
    if not isinstance(longest, int) or (bias is None and not dropout):
        return True
    return rows * heads * longest * longest <= AT_ONCE


def softmax_bias(
    times: Callable[[Tensor, Tensor], Tensor] | None,
    places: Callable[[Tensor], Tensor | None] | None,
    layout: JaggedLayout,
) -> BiasOfBlock:
    """What is added to the scores of each block.

    Args:
        times: takes `asked [B, Q]` and `seen [B, K]`; None: no bias by time.
        places: takes places back, `[Q, K] -> [H, Q, K]`; None, or giving None: no bias by place.
        layout: of the rows.
    """

    def bias(lo: int, hi: int) -> Tensor:
        window = block_window(layout, lo, hi)
        found = torch.zeros(window.back.shape, device=window.back.device)
        found = found.masked_fill(window.back < 0, -torch.inf)
        by_place = None if places is None else places(window.back)
        if by_place is not None:
            found = found + by_place
        if times is not None and window.asked is not None and window.seen is not None:
            found = found + times(window.asked, window.seen)
        return found

    return bias


def attend_in_blocks(
    heads: tuple[Tensor, Tensor, Tensor], dropout: float, bias: BiasOfBlock
) -> Tensor:
    """Queries, keys and values `[B, H, L, W]` -> `[B, L, H W]`, in float32 on a CPU."""
    queries, keys, values = heads
    rows, num_heads, longest, width = queries.shape

    def attend(lo: int, hi: int) -> Tensor:
        with torch.autocast(queries.device.type, enabled=False):
            scores = queries[:, :, lo:hi].float() @ keys[:, :, :hi].float().mT * width**-0.5
            weights = (scores + bias(lo, hi)).softmax(3)
            weights = nn.functional.dropout(weights, dropout, training=dropout > 0)
            return (weights @ values[:, :, :hi].float()).transpose(1, 2).flatten(2)

    return in_blocks(attend, longest, rows * num_heads * longest)
