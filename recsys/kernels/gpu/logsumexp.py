"""log-sum-exp of nested scores and its gradient on a GPU, in tiles that never leave the chip.

As the kernels of the CPU (`kernels/logsumexp.py`), and as Wijmans et al. (Cut Your Losses in
Large-Vocabulary Language Models, ICLR 2025) do for one width: a first sweep over the items keeps a
running maximum and a running sum for each granularity; the gradient makes the scores again.

The gradient of the last coordinates needs the slopes of the last granularity alone, that of the
first coordinates those of all. So a tile of the second sweep is summed up to the full width, then
taken down again, slice by slice, while the slopes add up.

Coordinates come in chunks: no chunk crosses the edge of a granularity. EDGES holds where they begin
and end, WIDTHS their widths, filled up to a power of two, STARTS the first chunk of each
granularity. Triton reads these tuples when it compiles.

Shape legend: T tokens, N items, G granularities, D coordinates, S columns that a token skips, R and
C rows and columns of a tile, P parts into which a sweep is cut.
"""

from __future__ import annotations

import triton
import triton.language as tl

HIDDEN = tl.constexpr(-1e30)
"""The logit of a column that is skipped: its exp is 0, and it times 0 is 0 (not so with -inf)."""


@triton.jit
def _block(vectors, rows, count, dim, lo, hi, WIDTH: tl.constexpr):
    """`[R, WIDTH]` the coordinates lo..hi-1 of some rows; zeros beyond the last of either."""
    places = lo + tl.arange(0, WIDTH)
    inside = (rows < count)[:, None] & (places < hi)[None, :]
    return tl.load(vectors + rows.to(tl.int64)[:, None] * dim + places[None, :], inside, 0.0)


@triton.jit
def _scores(
    own, own_rows, num_own, other, other_rows, num_other, dim,
    STEP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`[R, C]` products of the full width, STEP coordinates at a time."""
    total = tl.zeros([own_rows.shape[0], other_rows.shape[0]], tl.float32)
    for lo in range(0, dim, STEP):
        left = _block(own, own_rows, num_own, dim, lo, dim, STEP)
        right = _block(other, other_rows, num_other, dim, lo, dim, STEP)
        total = tl.dot(left, tl.trans(right), total, input_precision=PRECISION)
    return total


@triton.jit
def _hidden(skip, tokens, num_tokens, num_skips, items, num_items):
    """Where a token skips an item, or there is none; tokens and items lie along either axis."""
    found = (tokens < 0) | (items >= num_items)
    for s in range(num_skips):
        places = tl.load(skip + tokens.to(tl.int64) * num_skips + s, tokens < num_tokens, -1)
        found = found | (places == items)
    return found


@triton.jit
def _logits(scores, row_scale, col_scale, bias, hidden):
    """The logits of a tile; a NaN of the vectors goes through, as it should."""
    logits = scores * row_scale * col_scale + bias
    return tl.where(hidden | (logits < HIDDEN), HIDDEN, logits)


@triton.jit
def sum_exponentials(
    users, items, row_scale, col_scale, bias, skip, peaks, sums, means,
    num_tokens, num_items, num_skips, dim, part,
    EDGES: tl.constexpr, WIDTHS: tl.constexpr, STARTS: tl.constexpr, NUM_SIZES: tl.constexpr,
    MEANS: tl.constexpr, PRECISION: tl.constexpr, STEP: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The first sweep: one program takes ROWS tokens over the items of one part.

    Args:
        users: `[T, D]` of float32 or bfloat16.
        items: `[N, D]` of the same.
        row_scale: `[G, T]`.
        col_scale: `[G, N]`.
        bias: `[N]`.
        skip: `[T, S]` int64, columns to leave out of each row, or -1.
        peaks, sums: `[P, G, T]`, to be filled: the sum is `sums * exp(peaks)`.
        means: `[P, G, T]`, to be filled where MEANS: the logits of each granularity, weighted by
            the exponentials of the last and added up, over `exp(peaks)` of the last.
        num_tokens, num_items, num_skips, dim: T, N, S, D.
        part: items of one part, a multiple of COLUMNS.
    """
    LAST: tl.constexpr = NUM_SIZES - 1
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    first = tl.program_id(1) * part
    peak, total, mean = (), (), ()
    for _ in tl.static_range(NUM_SIZES):
        peak = peak + (tl.full([ROWS], HIDDEN, tl.float32),)
        total = total + (tl.zeros([ROWS], tl.float32),)
        mean = mean + (tl.zeros([ROWS], tl.float32),)
    for start in range(first, min(first + part, num_items), COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        inside = columns < num_items
        offset = tl.load(bias + columns, inside, 0.0)[None, :]
        hidden = _hidden(skip, rows[:, None], num_tokens, num_skips, columns[None, :], num_items)
        taught = tl.zeros([ROWS, COLUMNS], tl.float32)
        fade = tl.zeros([ROWS], tl.float32)
        if MEANS:
            across = tl.load(col_scale + LAST * num_items + columns, inside, 0.0)[None, :]
            down = tl.load(row_scale + LAST * num_tokens + rows, rows < num_tokens, 0.0)[:, None]
            whole = _scores(
                users, rows, num_tokens, items, columns, num_items, dim, STEP, PRECISION
            )
            logits = _logits(whole, down, across, offset, hidden)
            highest = tl.maximum(peak[LAST], tl.max(logits, 1))
            taught = tl.exp(logits - highest[:, None])
            fade = tl.exp(peak[LAST] - highest)
        scores = tl.zeros([ROWS, COLUMNS], tl.float32)
        new_peak, new_total, new_mean = (), (), ()
        for g in tl.static_range(NUM_SIZES):
            for c in tl.static_range(STARTS[g], STARTS[g + 1]):
                left = _block(users, rows, num_tokens, dim, EDGES[c], EDGES[c + 1], WIDTHS[c])
                right = _block(items, columns, num_items, dim, EDGES[c], EDGES[c + 1], WIDTHS[c])
                scores = tl.dot(left, tl.trans(right), scores, input_precision=PRECISION)
            across = tl.load(col_scale + g * num_items + columns, inside, 0.0)[None, :]
            down = tl.load(row_scale + g * num_tokens + rows, rows < num_tokens, 0.0)[:, None]
            logits = _logits(scores, down, across, offset, hidden)
            highest = tl.maximum(peak[g], tl.max(logits, 1))
            added = tl.sum(tl.exp(logits - highest[:, None]), 1)
            new_total = new_total + (total[g] * tl.exp(peak[g] - highest) + added,)
            new_peak = new_peak + (highest,)
            new_mean = new_mean + (mean[g] * fade + tl.sum(taught * logits, 1),)
        peak, total, mean = new_peak, new_total, new_mean
    for g in tl.static_range(NUM_SIZES):
        place = (tl.program_id(1) * NUM_SIZES + g) * num_tokens + rows
        tl.store(peaks + place, peak[g], rows < num_tokens)
        tl.store(sums + place, total[g], rows < num_tokens)
        if MEANS:
            tl.store(means + place, mean[g], rows < num_tokens)


@triton.jit
def add_gradients(
    own, other, own_grad, scale_grad, row_scale, col_scale, bias, skip, levels, weights, pulls,
    num_own, num_other, num_skips, dim, part,
    EDGES: tl.constexpr, WIDTHS: tl.constexpr, STARTS: tl.constexpr, NUM_SIZES: tl.constexpr,
    MEANS: tl.constexpr, PRECISION: tl.constexpr, STEP: tl.constexpr,
    OF_TOKENS: tl.constexpr, OWN: tl.constexpr, OTHER: tl.constexpr,
):  # fmt: skip
    """The second sweep, for one side: OWN tokens over the items of a part, or the other way round.

    Args:
        own: `[T, D]` where OF_TOKENS, else `[N, D]`; float32 or bfloat16.
        other: the other side.
        own_grad: `[P, T or N, D]`, to be filled.
        scale_grad: `[P, G, T or N]`, to be filled: of row_scale or of col_scale.
        row_scale, col_scale, bias, skip: see `sum_exponentials`.
        levels: `[G, T]` log-sum-exps.
        weights: `[G, T]` their gradients.
        pulls: `[G, T]` gradients of the means; read where MEANS.
        num_own, num_other, num_skips, dim: T and N or N and T, S, D.
        part: rows of the other side in one part, a multiple of OTHER.
    """
    mine = tl.program_id(0) * OWN + tl.arange(0, OWN)
    first = tl.program_id(1) * part
    num_tokens = num_own if OF_TOKENS else num_other
    num_items = num_other if OF_TOKENS else num_own
    gradient, scales = (), ()
    for c in tl.static_range(len(WIDTHS)):
        gradient = gradient + (tl.zeros([OWN, WIDTHS[c]], tl.float32),)
    for _ in tl.static_range(NUM_SIZES):
        scales = scales + (tl.zeros([OWN], tl.float32),)
    for start in range(first, min(first + part, num_other), OTHER):
        theirs = start + tl.arange(0, OTHER)
        tokens = mine[:, None] if OF_TOKENS else theirs[None, :]
        columns = theirs[None, :] if OF_TOKENS else mine[:, None]
        offset = tl.load(bias + columns, columns < num_items, 0.0)
        hidden = _hidden(skip, tokens, num_tokens, num_skips, columns, num_items)
        scores = _scores(own, mine, num_own, other, theirs, num_other, dim, STEP, PRECISION)
        slopes = tl.zeros([OWN, OTHER], tl.float32)
        taught = tl.zeros([OWN, OTHER], tl.float32)
        new_gradient, new_scales = (), ()
        for g in tl.static_range(NUM_SIZES - 1, -1, -1):
            across = tl.load(col_scale + g * num_items + columns, columns < num_items, 0.0)
            of_tokens = g * num_tokens + tokens
            down = tl.load(row_scale + of_tokens, tokens < num_tokens, 0.0)
            level = tl.load(levels + of_tokens, tokens < num_tokens, 0.0)
            weight = tl.load(weights + of_tokens, tokens < num_tokens, 0.0)
            share = tl.exp(_logits(scores, down, across, offset, hidden) - level)
            slope = share * weight
            if MEANS:
                if g == NUM_SIZES - 1:
                    taught = share
                slope += taught * tl.load(pulls + of_tokens, tokens < num_tokens, 0.0)
            factor = across if OF_TOKENS else down
            new_scales = (scales[g] + tl.sum(slope * scores * factor, 1),) + new_scales
            slopes += slope * down * across
            for c in tl.static_range(STARTS[g + 1] - 1, STARTS[g] - 1, -1):
                right = _block(other, theirs, num_other, dim, EDGES[c], EDGES[c + 1], WIDTHS[c])
                rounded = slopes.to(right.dtype)
                added = tl.dot(rounded, right, gradient[c], input_precision=PRECISION)
                new_gradient = (added,) + new_gradient
                if c > 0:
                    left = _block(own, mine, num_own, dim, EDGES[c], EDGES[c + 1], WIDTHS[c])
                    scores -= tl.dot(left, tl.trans(right), input_precision=PRECISION)
        gradient, scales = new_gradient, new_scales
    for c in tl.static_range(len(WIDTHS)):
        places = EDGES[c] + tl.arange(0, WIDTHS[c])
        inside = (mine < num_own)[:, None] & (places < EDGES[c + 1])[None, :]
        rows = (tl.program_id(1) * num_own + mine).to(tl.int64)[:, None]
        tl.store(own_grad + rows * dim + places[None, :], gradient[c], inside)
    for g in tl.static_range(NUM_SIZES):
        place = (tl.program_id(1) * NUM_SIZES + g) * num_own + mine
        tl.store(scale_grad + place, scales[g], mine < num_own)
