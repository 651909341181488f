"""log-sum-exp of nested scores and its gradient, in tiles that fit the cache.

Two sweeps over the items, as in FlashAttention (Dao et al. 2022): the first adds up exponentials
under a running maximum, the second makes the scores again from the log-sum-exps and multiplies
the softmax into the gradients at once. The second computes every score again: 4.8 of the 19
GFLOP of 768 tokens x 12,101 items x 256 coordinates, and cheaper than writing the exponentials of
six granularities to memory and reading them back.

Shape legend: T tokens, N items, G granularities, D coordinates, P coordinates with every slice
padded to a multiple of 16 (flat arrays of that layout end in `_padded`), R = 48 rows and C = 128
columns of a tile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from recsys.kernels.compiling import kernel
from recsys.kernels.lanes import LANES, Lanes, piece
from recsys.kernels.products import COLUMNS, ROWS, add_product

TILE_ROWS = 48
TILE_COLUMNS = 128
"""With 256 coordinates and six granularities the tiles of the second sweep take 0.7 MiB."""
HIDDEN = np.float32(-1e30)
"""The score of a column that is skipped: its exp is 0, and it times 0 is 0 (not so with -inf)."""
SWEEP_COLUMNS = 256
"""Columns of a tile of the first sweep: folding 16 lanes into one costs as much as six exps."""


@piece(types.float32, "aiaifaiai")
def _logits(
    lanes: Lanes,
    x: Any,
    x_start: Any,
    scores: Any,
    start: Any,
    row_scale: Any,
    col_scale: Any,
    col_start: Any,
    bias: Any,
    bias_start: Any,
) -> Any:
    """Writes `x = scores * row_scale * col_scale + bias` of a tile's row; returns the largest."""
    scale = lanes.same(row_scale)
    peak = lanes.same(-np.inf)
    for n in range(SWEEP_COLUMNS // LANES):
        step = lanes.index(n * LANES)
        here = lanes.builder.add(start, step)
        factor = lanes.mul(lanes.load(col_scale, lanes.builder.add(col_start, step)), scale)
        offset = lanes.load(bias, lanes.builder.add(bias_start, step))
        logits = lanes.fma(lanes.load(scores, here), factor, offset)
        # A hidden score times a large scale may be -inf, and its weight of 0 times that NaN. In
        # this order of the operands a NaN of the vectors goes through, as it should.
        logits = lanes.larger(lanes.same(float(HIDDEN)), logits)
        lanes.store(logits, x, lanes.builder.add(x_start, step))
        peak = lanes.larger(peak, logits)
    return lanes.fold(peak, lanes.larger)


@piece(types.float32, "aif")
def _sum_exp(lanes: Lanes, x: Any, start: Any, peak: Any) -> Any:
    """The sum of `exp(x - peak)` over a tile's row."""
    shift = lanes.same(peak)
    totals = [lanes.same(0.0)] * 4  # four sums, so that an addition need not wait for the last
    for n in range(SWEEP_COLUMNS // LANES):
        here = lanes.builder.add(start, lanes.index(n * LANES))
        value = lanes.exp(lanes.sub(lanes.load(x, here), shift))
        totals[n % 4] = lanes.add(totals[n % 4], value)
    total = lanes.add(lanes.add(totals[0], totals[1]), lanes.add(totals[2], totals[3]))
    return lanes.fold(total, lanes.add)


@piece(types.float32, "aiaifaiaif")
def _sum_logits(
    lanes: Lanes,
    peaks: Any,
    peak_place: Any,
    scores: Any,
    start: Any,
    row_scale: Any,
    col_scale: Any,
    col_start: Any,
    bias: Any,
    bias_start: Any,
    peak: Any,
) -> Any:
    """`_logits` and `_sum_exp` in one pass that writes no logits, for the peak of tiles before.

    Writes the largest logit to `peaks[peak_place]`. Where it is larger than `peak` the sum is of no
    use; otherwise it has the very bits of the two passes.
    """
    scale, shift, largest = lanes.same(row_scale), lanes.same(peak), lanes.same(-np.inf)
    totals = [lanes.same(0.0)] * 4
    for n in range(SWEEP_COLUMNS // LANES):
        step = lanes.index(n * LANES)
        factor = lanes.mul(lanes.load(col_scale, lanes.builder.add(col_start, step)), scale)
        offset = lanes.load(bias, lanes.builder.add(bias_start, step))
        logits = lanes.fma(lanes.load(scores, lanes.builder.add(start, step)), factor, offset)
        logits = lanes.larger(lanes.same(float(HIDDEN)), logits)  # as in `_logits`
        largest = lanes.larger(largest, logits)
        totals[n % 4] = lanes.add(totals[n % 4], lanes.exp(lanes.sub(logits, shift)))
    lanes.builder.store(lanes.fold(largest, lanes.larger), lanes.builder.gep(peaks, [peak_place]))
    total = lanes.add(lanes.add(totals[0], totals[1]), lanes.add(totals[2], totals[3]))
    return lanes.fold(total, lanes.add)


@piece(types.float32, "f")
def _exp(lanes: Lanes, x: Any) -> Any:
    """Exp of one number."""
    return lanes.builder.extract_element(lanes.exp(lanes.same(x)), lanes.index(0))


def _write_slopes(
    lanes: Lanes,
    slopes: Any,
    slope_start: Any,
    scores: Any,
    start: Any,
    col_scale: Any,
    col_start: Any,
    bias: Any,
    bias_start: Any,
    col_grad: Any,
    grad_start: Any,
    row_scale: Any,
    level: Any,
    weight: Any,
    *teaching: Any,
) -> Any:
    """The gradient of a tile's row by its raw scores, and what it adds to those of the scales.

    `teaching`: teacher, teacher_start and pull, or nothing.

    Writes `slopes = p * row_scale * col_scale` with `p = weight * exp(logits - level) + pull *
    teacher`, adds `p * scores * row_scale` to col_grad, returns the sum of `p * scores *
    col_scale`.
    """
    scale, shift, factor = lanes.same(row_scale), lanes.same(level), lanes.same(weight)
    total = lanes.same(0.0)
    for n in range(TILE_COLUMNS // LANES):
        step = lanes.index(n * LANES)
        score = lanes.load(scores, lanes.builder.add(start, step))
        column = lanes.load(col_scale, lanes.builder.add(col_start, step))
        offset = lanes.load(bias, lanes.builder.add(bias_start, step))
        both = lanes.mul(column, scale)
        logits = lanes.fma(score, both, offset)
        p = lanes.mul(lanes.exp(lanes.sub(logits, shift)), factor)
        if teaching:
            teacher, teacher_start, pull = teaching
            taught = lanes.load(teacher, lanes.builder.add(teacher_start, step))
            p = lanes.fma(taught, lanes.same(pull), p)
        lanes.store(lanes.mul(p, both), slopes, lanes.builder.add(slope_start, step))
        product = lanes.mul(p, score)
        place = lanes.builder.add(grad_start, step)
        lanes.store(lanes.fma(product, scale, lanes.load(col_grad, place)), col_grad, place)
        total = lanes.fma(product, column, total)
    return lanes.fold(total, lanes.add)


_plain_slopes = piece(types.float32, "aiaiaiaiaifff")(_write_slopes)
_taught_slopes = piece(types.float32, "aiaiaiaiaifffaif")(_write_slopes)


@piece(types.void, "aiaiaiaiff")
def _teach(
    lanes: Lanes,
    teacher: Any,
    teacher_start: Any,
    scores: Any,
    start: Any,
    col_scale: Any,
    col_start: Any,
    bias: Any,
    bias_start: Any,
    row_scale: Any,
    level: Any,
) -> None:
    """Writes the softmax of a tile's row, `exp(logits - level)`."""
    scale, shift = lanes.same(row_scale), lanes.same(level)
    for n in range(TILE_COLUMNS // LANES):
        step = lanes.index(n * LANES)
        column = lanes.load(col_scale, lanes.builder.add(col_start, step))
        offset = lanes.load(bias, lanes.builder.add(bias_start, step))
        score = lanes.load(scores, lanes.builder.add(start, step))
        logits = lanes.fma(score, lanes.mul(column, scale), offset)
        place = lanes.builder.add(teacher_start, step)
        lanes.store(lanes.exp(lanes.sub(logits, shift)), teacher, place)


@piece(types.void, "aiaif")
def _exp_row(lanes: Lanes, out: Any, out_start: Any, x: Any, start: Any, peak: Any) -> None:
    """Writes `exp(x - peak)` of a row of the first sweep."""
    shift = lanes.same(peak)
    for n in range(SWEEP_COLUMNS // LANES):
        step = lanes.index(n * LANES)
        value = lanes.exp(lanes.sub(lanes.load(x, lanes.builder.add(start, step)), shift))
        lanes.store(value, out, lanes.builder.add(out_start, step))


@piece(types.float32, "aiai")
def _dot(lanes: Lanes, x: Any, start: Any, y: Any, y_start: Any) -> Any:
    """The product of two rows of the first sweep."""
    totals = [lanes.same(0.0)] * 4
    for n in range(SWEEP_COLUMNS // LANES):
        step = lanes.index(n * LANES)
        left = lanes.load(x, lanes.builder.add(start, step))
        right = lanes.load(y, lanes.builder.add(y_start, step))
        totals[n % 4] = lanes.fma(left, right, totals[n % 4])
    total = lanes.add(lanes.add(totals[0], totals[1]), lanes.add(totals[2], totals[3]))
    return lanes.fold(total, lanes.add)


@piece(types.void, "aiaii")
def _copy_into(lanes: Lanes, x: Any, start: Any, y: Any, y_start: Any, vectors: Any) -> None:
    """`x = y`, `vectors` times 16 numbers."""
    with lanes.steps(vectors, []) as loop:
        step = lanes.builder.mul(loop.turn, lanes.index(LANES))
        value = lanes.load(y, lanes.builder.add(y_start, step))
        lanes.store(value, x, lanes.builder.add(start, step))


@piece(types.void, "aiaii")
def _add_into(lanes: Lanes, x: Any, start: Any, y: Any, y_start: Any, vectors: Any) -> None:
    """`x += y`, `vectors` times 16 numbers."""
    with lanes.steps(vectors, []) as loop:
        step = lanes.builder.mul(loop.turn, lanes.index(LANES))
        place = lanes.builder.add(start, step)
        other = lanes.load(y, lanes.builder.add(y_start, step))
        lanes.store(lanes.add(lanes.load(x, place), other), x, place)


@kernel
def pack_columns(panels, items, num_items, dim, first, width):
    """Items `first .. first + width - 1` as panels `[width / 32, D, 32]`; zeros beyond the last."""
    for panel in range(width // COLUMNS):
        for j in range(COLUMNS):
            item = first + panel * COLUMNS + j
            for k in range(dim):
                value = items[item * dim + k] if item < num_items else np.float32(0.0)
                panels[(panel * dim + k) * COLUMNS + j] = value


@kernel
def add_scores(scores, users, user_start, user_stride, panels, dim, lo, depth, rows, width):
    """Adds what coordinates `lo .. lo + depth - 1` give to a tile's scores `[rows, width]`."""
    for panel in range(width // COLUMNS):
        add_product(
            scores, panel * COLUMNS, width,
            users, user_start, user_stride, 1,
            panels, (panel * dim + lo) * COLUMNS, COLUMNS,
            rows, COLUMNS, depth,
        )  # fmt: skip


@kernel
def _load_columns(factors, offsets, col_scale, bias, num_items, num_sizes, first, width):
    """A tile's col_scale `[G, width]` and bias `[width]`; those beyond the last are hidden."""
    for j in range(width):
        inside = first + j < num_items
        offsets[j] = bias[first + j] if inside else HIDDEN
        for g in range(num_sizes):
            value = col_scale[g * num_items + first + j] if inside else np.float32(0.0)
            factors[g * width + j] = value


@kernel
def _reset(scores, skip, row, rows, first, width):
    """Empties a tile's scores; the columns a row skips are hidden from the start."""
    scores[: rows * width] = np.float32(0.0)
    for i in range(rows):
        for place in skip[row + i]:
            column = place - first
            if 0 <= column < width:
                scores[i * width + column] = HIDDEN


@kernel
def sum_exponentials(
    users_padded, items, row_scale, col_scale, bias, skip, edges, starts, blocks, peaks, sums,
    means,
):  # fmt: skip
    """The first sweep, over the items of `blocks` (numbers of tiles, ascending).

    Args:
        users_padded: `[T', P]`, T' a multiple of 48.
        items: `[N, D]`.
        row_scale: `[G, T']`.
        col_scale: `[G, N]`.
        bias: `[N]`.
        skip: `[T', S]` int64, columns to leave out of each row, or -1.
        edges: `[G + 1]`, the coordinates where slices begin and end.
        starts: `[G + 1]`, the same in the padded layout.
        blocks: `(first, last)` tile of columns.
        peaks, sums: `[G, T']`, to be filled: the sum is `sums * exp(peaks)`.
        means: `[G, T']`, to be filled: the logits of each granularity, weighted by the
            exponentials of the last and added up, over `exp(peaks)` of the last. Empty: not wanted.
    """
    num_sizes, dim, padded = len(edges) - 1, edges[-1], starts[-1]
    num_rows, num_items = len(skip), len(bias)
    panels = np.empty(dim * SWEEP_COLUMNS, np.float32)
    factors = np.empty(num_sizes * SWEEP_COLUMNS, np.float32)
    offsets = np.empty(SWEEP_COLUMNS, np.float32)
    area = ROWS * SWEEP_COLUMNS
    scores = np.empty(area, np.float32)
    logits = np.empty(num_sizes * area, np.float32)
    taught = np.empty(SWEEP_COLUMNS, np.float32)
    largest = np.empty(1, np.float32)
    peaks[:] = -np.inf
    sums[:] = 0.0
    means[:] = 0.0
    for block in range(blocks[0], blocks[1]):
        first = block * SWEEP_COLUMNS
        pack_columns(panels, items, num_items, dim, first, SWEEP_COLUMNS)
        _load_columns(factors, offsets, col_scale, bias, num_items, num_sizes, first, SWEEP_COLUMNS)
        for row in range(0, num_rows, ROWS):
            _reset(scores, skip, row, ROWS, first, SWEEP_COLUMNS)
            for g in range(num_sizes):
                add_scores(
                    scores, users_padded, row * padded + starts[g], padded,
                    panels, dim, edges[g], edges[g + 1] - edges[g], ROWS, SWEEP_COLUMNS,
                )  # fmt: skip
                for i in range(ROWS):
                    at = g * num_rows + row + i
                    if not len(means):
                        total = _sum_logits(
                            largest, 0, scores, i * SWEEP_COLUMNS, row_scale[at],
                            factors, g * SWEEP_COLUMNS, offsets, 0, peaks[at],
                        )  # fmt: skip
                        if not largest[0] > peaks[at]:
                            sums[at] += total
                            continue
                    # One row is used again and again unless all are wanted for the means.
                    here = g * area + i * SWEEP_COLUMNS if len(means) else 0
                    peak = _logits(
                        logits, here, scores, i * SWEEP_COLUMNS, row_scale[at],
                        factors, g * SWEEP_COLUMNS, offsets, 0,
                    )  # fmt: skip
                    if peak > peaks[at]:
                        fade = _exp(peaks[at] - peak)
                        sums[at] *= fade
                        peaks[at] = peak
                        if g == num_sizes - 1 and len(means):
                            for h in range(num_sizes):
                                means[h * num_rows + row + i] *= fade
                    sums[at] += _sum_exp(logits, here, peaks[at])
            if len(means):
                for i in range(ROWS):
                    here = (num_sizes - 1) * area + i * SWEEP_COLUMNS
                    peak = peaks[(num_sizes - 1) * num_rows + row + i]
                    _exp_row(taught, 0, logits, here, peak)
                    for g in range(num_sizes):
                        means[g * num_rows + row + i] += _dot(
                            taught, 0, logits, g * area + i * SWEEP_COLUMNS
                        )


@kernel
def _tile_slopes(
    slopes, g, scores, start, factors, offsets, factor_grads, taught,
    row_scale, levels, weights, pulls, row_grad, num_rows, row,
):  # fmt: skip
    """The slopes of all rows of a tile."""
    for i in range(TILE_ROWS):
        at = g * num_rows + row + i
        place = g * TILE_ROWS * TILE_COLUMNS + i * TILE_COLUMNS
        if len(pulls):
            row_grad[at] += _taught_slopes(
                slopes, place, scores, start + i * TILE_COLUMNS, factors, g * TILE_COLUMNS,
                offsets, 0, factor_grads, g * TILE_COLUMNS,
                row_scale[at], levels[at], weights[at], taught, i * TILE_COLUMNS, pulls[at],
            )  # fmt: skip
        else:
            row_grad[at] += _plain_slopes(
                slopes, place, scores, start + i * TILE_COLUMNS, factors, g * TILE_COLUMNS,
                offsets, 0, factor_grads, g * TILE_COLUMNS,
                row_scale[at], levels[at], weights[at],
            )  # fmt: skip


@kernel
def add_gradients(
    users_padded, items, row_scale, col_scale, bias, skip, edges, starts, blocks, levels, weights,
    pulls, user_grad, item_grad, row_grad, col_grad,
):  # fmt: skip
    """The second sweep, over the items of `blocks`.

    Args:
        users_padded, items, row_scale, col_scale, bias, skip, edges, starts, blocks: as above.
        levels: `[G, T']` log-sum-exps (where there is none, the weight is 0).
        weights: `[G, T']` their gradients.
        pulls: `[G, T']` the gradients of the mean logits under the softmax of the last
            granularity (which itself is held fast). Empty: none.
        user_grad: `[T', P]`, row_grad `[G, T']`: added to.
        item_grad: `[N, D]`, col_grad `[G, N]`: the items of `blocks` are written.
    """
    num_sizes, dim, padded = len(edges) - 1, edges[-1], starts[-1]
    num_rows, num_items = len(skip), len(bias)
    panels = np.empty(dim * TILE_COLUMNS, np.float32)
    rows_padded = np.empty(TILE_COLUMNS * padded, np.float32)
    grads_padded = np.empty(TILE_COLUMNS * padded, np.float32)
    factors = np.empty(num_sizes * TILE_COLUMNS, np.float32)
    factor_grads = np.empty(num_sizes * TILE_COLUMNS, np.float32)
    offsets = np.empty(TILE_COLUMNS, np.float32)
    scores = np.empty(TILE_ROWS * TILE_COLUMNS, np.float32)
    area = TILE_ROWS * TILE_COLUMNS
    slopes = np.empty(num_sizes * area, np.float32)
    kept = np.empty(num_sizes * area if len(pulls) else 0, np.float32)
    taught = np.zeros(area, np.float32)
    last = num_sizes - 1
    for block in range(blocks[0], blocks[1]):
        first = block * TILE_COLUMNS
        width = min(TILE_COLUMNS, num_items - first)
        pack_columns(panels, items, num_items, dim, first, TILE_COLUMNS)
        _pad_rows(rows_padded, items, edges, starts, first, width)
        _load_columns(factors, offsets, col_scale, bias, num_items, num_sizes, first, TILE_COLUMNS)
        grads_padded[:] = 0.0
        factor_grads[:] = 0.0
        for row in range(0, num_rows, TILE_ROWS):
            _reset(scores, skip, row, TILE_ROWS, first, TILE_COLUMNS)
            for g in range(num_sizes):
                add_scores(
                    scores, users_padded, row * padded + starts[g], padded,
                    panels, dim, edges[g], edges[g + 1] - edges[g], TILE_ROWS, TILE_COLUMNS,
                )  # fmt: skip
                if len(pulls):
                    _copy_into(kept, g * area, scores, 0, area // LANES)
                else:
                    _tile_slopes(
                        slopes, g, scores, 0, factors, offsets, factor_grads, taught,
                        row_scale, levels, weights, pulls, row_grad, num_rows, row,
                    )  # fmt: skip
            if len(pulls):
                for i in range(TILE_ROWS):
                    at = last * num_rows + row + i
                    _teach(
                        taught, i * TILE_COLUMNS, kept, last * area + i * TILE_COLUMNS,
                        factors, last * TILE_COLUMNS, offsets, 0, row_scale[at], levels[at],
                    )  # fmt: skip
                for g in range(num_sizes):
                    _tile_slopes(
                        slopes, g, kept, g * area, factors, offsets, factor_grads, taught,
                        row_scale, levels, weights, pulls, row_grad, num_rows, row,
                    )  # fmt: skip
            # Coordinates of granularity g also stand in every wider one: sum from the top.
            for g in range(num_sizes - 1, -1, -1):
                if g < num_sizes - 1:
                    _add_into(slopes, g * area, slopes, (g + 1) * area, area // LANES)
                wide = starts[g + 1] - starts[g]
                add_product(
                    user_grad, row * padded + starts[g], padded,
                    slopes, g * area, TILE_COLUMNS, 1,
                    rows_padded, starts[g], padded, TILE_ROWS, wide, TILE_COLUMNS,
                )  # fmt: skip
                add_product(
                    grads_padded, starts[g], padded,
                    slopes, g * area, 1, TILE_COLUMNS,
                    users_padded, row * padded + starts[g], padded, TILE_COLUMNS, wide, TILE_ROWS,
                )  # fmt: skip
        _unpad_rows(item_grad, grads_padded, edges, starts, first, width)
        for g in range(num_sizes):
            for j in range(width):
                col_grad[g * num_items + first + j] = factor_grads[g * TILE_COLUMNS + j]


@kernel
def _pad_rows(padded_rows, items, edges, starts, first, width):
    """Rows `first .. first + width - 1` of items in the padded layout, zeros elsewhere."""
    dim, padded = edges[-1], starts[-1]
    padded_rows[:] = 0.0
    for j in range(width):
        for g in range(len(edges) - 1):
            for k in range(edges[g + 1] - edges[g]):
                padded_rows[j * padded + starts[g] + k] = items[(first + j) * dim + edges[g] + k]


@kernel
def _unpad_rows(items, padded_rows, edges, starts, first, width):
    """The opposite of `_pad_rows`."""
    dim, padded = edges[-1], starts[-1]
    for j in range(width):
        for g in range(len(edges) - 1):
            for k in range(edges[g + 1] - edges[g]):
                items[(first + j) * dim + edges[g] + k] = padded_rows[j * padded + starts[g] + k]
