"""The passes of exp over score tiles, compiled: what limits the nested softmax on a CPU.

Each pass reads a tile once. A torch pass (multiply, subtract, exp, sum) reads and writes it four
times, and its exp alone takes several times what a whole pass takes here.

Shape legend: R rows (tokens) and N columns (candidates) of a tile.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic

Float32 = npt.NDArray[np.float32]

BLOCK = 1024
"""Columns one task takes: its scores and sums stay in the first-level cache."""
_TINY = np.float32(1e-30)
_FAST = {"contract", "reassoc", "nnan", "ninf", "nsz", "arcp"}


def _bitcast(_context: Any, _bits: Any) -> Any:
    """The float32 with these bits."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


_as_float: Any = intrinsic(_bitcast)


@njit(inline="always", fastmath=_FAST)
def _exp(x: Any) -> Any:
    """Exp of x <= 0 to 2e-6 (relative); below -87 the smallest normal number.

    2 ** (n + r) with |r| <= 1/2: a polynomial of degree 6 for 2 ** r, n put into the exponent.
    """
    y = max(x * np.float32(1.44269504), np.float32(-126.0))
    n = np.int32(y - np.float32(0.5))
    r = y - np.float32(n)
    p = np.float32(1.5403530e-4)
    p = p * r + np.float32(1.3333558e-3)
    p = p * r + np.float32(9.6181291e-3)
    p = p * r + np.float32(5.5504109e-2)
    p = p * r + np.float32(2.4022651e-1)
    p = p * r + np.float32(6.9314718e-1)
    p = p * r + np.float32(1.0)
    return _as_float(np.int32((n + np.int32(127)) << np.int32(23))) * p


@njit(parallel=True, fastmath=_FAST, cache=True)
def log_sum_exp(
    scores: Float32, row_scale: Float32, col_scale: Float32, bias: Float32, bound: Float32,
    result: Float32,
) -> None:  # fmt: skip
    """`result[r] = log(sum_n(exp(row_scale[r] * col_scale[n] * scores[r, n] + bias[n])))`.

    Args:
        scores: `[R, N]`.
        row_scale: `[R]`.
        col_scale: `[N]`.
        bias: `[N]`.
        bound: `[R]`, no less than the largest logit of the row; shifts by it instead of by the
            maximum, which saves a pass. Where it is so loose that the sum vanishes, the maximum
            is looked for after all.
        result: `[R]`, written.
    """
    num_rows, num_columns = scores.shape
    for r in prange(num_rows):
        scale, shift = row_scale[r], bound[r]
        total = np.float32(0.0)
        for n in range(num_columns):
            total += _exp(scale * col_scale[n] * scores[r, n] + bias[n] - shift)
        if total < _TINY:
            shift = np.float32(-3e38)
            for n in range(num_columns):
                shift = max(shift, scale * col_scale[n] * scores[r, n] + bias[n])
            total = np.float32(0.0)
            for n in range(num_columns):
                total += _exp(scale * col_scale[n] * scores[r, n] + bias[n] - shift)
        result[r] = shift + np.log(total)


@njit(parallel=True, fastmath=_FAST, cache=True)
def add_slopes(
    scores: Float32, row_scale: Float32, col_scale: Float32, bias: Float32, result: Float32,
    weight: Float32, slopes: Float32, row_parts: Float32, col_sums: Float32,
) -> None:  # fmt: skip
    """Adds one granularity's `dLoss / dscores` to `slopes`, and its share of the scales' gradients.

    With `p = weight[r] * softmax[r, n]`: `slopes += p * row_scale * col_scale`,
    `row_parts[block, r] = sum_n(p * col_scale * scores)`, `col_sums[n] += sum_r(p * row_scale *
    scores)`. A task owns a block of columns, so the sums do not depend on the number of threads.

    Args:
        scores, row_scale, col_scale, bias: as `log_sum_exp`.
        result: `[R]`, the log-sum-exps.
        weight: `[R]`, the gradients of the log-sum-exps.
        slopes: `[R, N]`, added to.
        row_parts: `[blocks of N, R]`, written.
        col_sums: `[N]`, added to.
    """
    num_rows, num_columns = scores.shape
    for block in prange((num_columns + BLOCK - 1) // BLOCK):
        first, last = block * BLOCK, min((block + 1) * BLOCK, num_columns)
        width = last - first
        scales, offsets = col_scale[first:last], bias[first:last]
        products, sums = np.empty(BLOCK, np.float32), np.zeros(BLOCK, np.float32)
        # Short loops over few arrays: one loop over all six is not vectorized (ten times slower).
        for r in range(num_rows):
            own, slope = scores[r, first:last], slopes[r, first:last]
            scale, shift, w = row_scale[r], result[r], weight[r]
            for n in range(width):
                products[n] = w * _exp(scale * scales[n] * own[n] + offsets[n] - shift)
            for n in range(width):
                slope[n] += products[n] * scales[n] * scale
            total = np.float32(0.0)
            for n in range(width):
                products[n] *= own[n]
                total += products[n] * scales[n]
            for n in range(width):
                sums[n] += products[n] * scale
            row_parts[block, r] = total
        for n in range(width):
            col_sums[first + n] += sums[n]
