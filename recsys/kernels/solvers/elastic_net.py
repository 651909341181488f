"""Non-negative elastic nets over 0/1 columns, one for each of many targets, by coordinate descent.

For a target column a and the candidate columns `A` it minimizes
`1/2 ||a - A w||^2 + l2/2 ||w||^2 + l1 sum(w)` over `w >= 0`. The residual `a - A w` is held by rows
of the matrix, so that a step of one coordinate costs the ones of its column, whatever else there
is (Friedman et al., Regularization Paths for Generalized Linear Models via Coordinate Descent,
Journal of Statistical Software 2010, whose active sets these are too).

Shape legend: U rows of the matrix, N columns, n targets, C candidates of all targets.
"""

import numpy as np

from recsys.kernels.compiling import kernel


@kernel
def solve(
    begin, end, rows, starts, num_rows, candidates, edges, first, l1, l2, most, tolerance, weights
):
    """Fills the weights of the targets `begin .. end - 1`; other targets may run beside these.

    Args:
        begin, end: targets, of the n.
        rows: `[T]` int32, the rows of the ones of each column.
        starts: `[N + 1]`: those of column i are `rows[starts[i]:starts[i + 1]]`.
        num_rows: U.
        candidates: `[C]` int32 columns that are not empty; a target itself is passed over.
        edges: `[n + 1]`: those of target j are `candidates[edges[j]:edges[j + 1]]`.
        first: the column of target 0.
        l1: at least 0.
        l2: likewise.
        most: sweeps over all candidates of a target, at most.
        tolerance: a target is done when no weight moves further in such a sweep.
        weights: `[C]` float32, to be filled.
    """
    residual = np.zeros(num_rows)
    for j in range(begin, end):
        target, columns = first + j, candidates[edges[j] : edges[j + 1]]
        own, found = rows[starts[target] : starts[target + 1]], np.zeros(len(columns))
        for row in own:
            residual[row] = 1.0
        for _ in range(most):
            if _sweep(rows, starts, columns, target, l1, l2, residual, found, False) <= tolerance:
                break
            for _ in range(most):
                moved = _sweep(rows, starts, columns, target, l1, l2, residual, found, True)
                if moved <= tolerance:
                    break
        for row in own:
            residual[row] = 0.0
        for place in range(len(columns)):
            weights[edges[j] + place] = found[place]
            for t in range(starts[columns[place]], starts[columns[place] + 1]):
                residual[rows[t]] = 0.0


@kernel
def _sweep(rows, starts, columns, target, l1, l2, residual, found, active):
    """One step of each coordinate (`active`: of those above 0); the furthest that one moved."""
    furthest = 0.0
    for place in range(len(columns)):
        old, column = found[place], columns[place]
        if column == target or (active and old == 0.0):
            continue
        lo, hi = starts[column], starts[column + 1]
        pull = old * (hi - lo) - l1
        for t in range(lo, hi):
            pull += residual[rows[t]]
        new = max(pull / (hi - lo + l2), 0.0)
        moved = new - old
        if moved != 0.0:
            found[place] = new
            furthest = max(furthest, abs(moved))
            for t in range(lo, hi):
                residual[rows[t]] -= moved
    return furthest
