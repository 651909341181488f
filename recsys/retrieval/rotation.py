"""Rotations that put the most important directions of vectors first.

A rotation leaves every dot product and every norm at full width as it was; prefixes become useful.

`principal_rotation`: principal axes, about the origin, of items and users together, which loses
the least of their squares at every prefix (Eckart and Young 1936).
`learned_rotation`: starts there, and turns pairs of coordinates so that the prefixes' scores of
users and items come close to those at full width, all prefixes at once; steps are taken on the
group of rotations itself, by the Cayley transform (Wen and Yin, A feasible method for optimization
with orthogonality constraints, 2013), so it never leaves it.

Shape legend: N items, U users, D coordinates, S of a sample, G prefixes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from recsys.arrays import Float32, Float64
from recsys.errors import DataError
from recsys.progress import progress
from recsys.retrieval.codecs.base import blocks_of

_ROUNDED = 1e-12
"""Share of the squares below which rows are alike: float32 rounds a millionth of their length."""


def principal_rotation(items: npt.NDArray[np.floating], users: Float32 | None = None) -> Float32:
    """`[D, D]` orthogonal R; `vectors @ R` has its largest squares first.

    With users, the axes are those of both, which weigh alike whatever their numbers and norms.

    Args:
        items: `[N, D]`, may be mapped from disk.
        users: `[U, D]`; None: the items alone.
    """
    moment = _moment(items)
    if users is not None:
        moment = moment / np.trace(moment) + _moment(users) / np.trace(_moment(users))
    values, axes = np.linalg.eigh(moment)
    return _signed(axes[:, np.argsort(-values)]).astype(np.float32)


def _moment(vectors: npt.NDArray[np.floating]) -> Float64:
    """`[D, D]` sum of outer products, block by block."""
    total = np.zeros((vectors.shape[1], vectors.shape[1]))
    for rows in blocks_of(len(vectors)):
        block = np.asarray(vectors[rows], np.float64)
        total += block.T @ block
    if not np.isfinite(total).all() or not np.trace(total) > 0:
        raise DataError("the vectors are all zero, or not finite; nothing can be rotated")
    return total


def _signed(axes: Float64) -> Float64:
    """The same axes, each with its largest coordinate positive: the same on every machine."""
    peaks = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    return axes * np.where(peaks < 0, -1.0, 1.0)


def learned_rotation(
    items: npt.NDArray[np.floating],
    users: Float32,
    sizes: Sequence[int],
    *,
    steps: int = 200,
    sample: int = 512,
    learning_rate: float = 0.05,
    seed: int = 0,
) -> Float32:
    """`[D, D]` orthogonal R that makes the scores of all prefixes close to the full ones.

    Minimizes, over the proper prefixes g, the mean squared difference of centred scores
    `U_g V_g^T` from `U V^T`, in units of the full scores' variance; users are what the scores are
    for, so a direction no user looks along goes last, however much items differ in it.

    Args:
        items: `[N, D]`.
        users: `[U, D]` vectors of the queries; the items themselves where there are none.
        sizes: granularities; D itself needs none.
        steps: of gradient descent.
        sample: S users and S items a step.
        learning_rate: of the rotation's angle.
        seed: of the samples.
    """
    rng = np.random.default_rng(seed)
    rotation = principal_rotation(items, users).astype(np.float64)
    prefixes = [size for size in sizes if size < items.shape[1]]
    velocity, squares = np.zeros_like(rotation), 0.0
    with progress() as bar:
        task = bar.add_task("learn the rotation", total=steps)
        for step in range(steps if prefixes else 0):
            u = _take(users, sample, rng) @ rotation
            v = _take(items, sample, rng) @ rotation
            skew = _skew_gradient(_spread(u), _spread(v), prefixes)
            # Adam on the group, with one step size for all angles, so that the step is a rotation.
            velocity = 0.9 * velocity + 0.1 * skew
            squares = 0.99 * squares + 0.01 * float(np.square(skew).mean())
            spread = np.sqrt(squares / (1 - 0.99 ** (step + 1))) + 1e-12
            scale = learning_rate * (1 - step / steps) / (spread * items.shape[1] ** 0.5)
            rotation = rotation @ cayley(-scale * velocity)
            bar.advance(task)
    return _orthogonal(rotation).astype(np.float32)


def _take(vectors: npt.NDArray[np.floating], count: int, rng: np.random.Generator) -> Float64:
    rows = np.sort(rng.choice(len(vectors), min(count, len(vectors)), replace=False))
    return np.asarray(vectors[rows], np.float64)


def _spread(vectors: Float64) -> Float64:
    """`[D, D]` second moment about the mean; 0 where rows differ by no more than rounding."""
    centred = vectors - vectors.mean(0)
    moment: Float64 = centred.T @ centred
    return moment if np.trace(moment) > _ROUNDED * float(np.square(vectors).sum()) else 0 * moment


def _skew_gradient(a: Float64, b: Float64, prefixes: Sequence[int]) -> Float64:
    """`[D, D]` skew-symmetric: how the loss changes as coordinates turn into each other.

    What a prefix misses of the scores is `U_r V_r^T` over the rest r = g..D, so the loss is
    `sum_g tr(U_r^T U_r V_r^T V_r)` over `tr(U^T U V^T V)`: second moments `a`, `b` of centred users
    and items are all it takes.
    """
    gradient, total = np.zeros_like(a), float((a * b).sum())
    if total <= 0:  # one row, or rows all alike: no scores differ, so nothing is to be learned
        return gradient
    for size in prefixes:
        gradient[:, size:] += a[:, size:] @ b[size:, size:] + b[:, size:] @ a[size:, size:]
    gradient /= len(prefixes) * total
    return gradient - gradient.T


def loss_of(items: Float32, users: Float32, sizes: Sequence[int]) -> float:
    """Mean over the proper prefixes of what they miss of the centred scores' variance.

    0 where scores have none (one row, rows all alike, zeros): there is nothing to miss.
    """
    a, b = (_spread(x.astype(np.float64)) for x in (users, items))
    prefixes = [size for size in sizes if size < items.shape[1]]
    missed = [float((a[g:, g:] * b[g:, g:]).sum()) for g in prefixes]
    total = float((a * b).sum())
    return float(np.mean(missed)) / total if prefixes and total > 0 else 0.0


def cayley(skew: Float64) -> Float64:
    """The rotation `(I - A / 2)^-1 (I + A / 2)` of a skew-symmetric `A [D, D]`."""
    half, one = skew / 2, np.eye(len(skew))
    rotation: Float64 = np.asarray(np.linalg.solve(one - half, one + half), np.float64)
    return rotation


def _orthogonal(matrix: Float64) -> Float64:
    """The nearest orthogonal matrix: what rounding did over the steps is taken back."""
    left, _, right = np.linalg.svd(matrix)
    nearest: Float64 = left @ right
    return nearest


def rotate(vectors: npt.NDArray[np.floating], rotation: Float32) -> Float32:
    """`[N, D]`, block by block."""
    rotated = np.empty(vectors.shape, np.float32)
    for rows in blocks_of(len(vectors)):
        rotated[rows] = np.asarray(vectors[rows], np.float32) @ rotation
    return rotated
