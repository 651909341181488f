"""Scores of candidates at every granularity, their distances and places; products by slices.

Shape legend: Q requests, K candidates, D coordinates, n distinct candidates.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from recsys.arrays import Bool, Float32, Int64
from recsys.rankers.features.columns import Block, Columns


def add_scores(block: Block, columns: Columns) -> None:
    """`score_d8`, `gap_d8`, `place_d8`, ..., `slice_8_16`, ... and `place`, the funnel's own.

    Scores are those of the funnel: dot products, or cosines where the prefixes are normalized.
    """
    config, sizes = block.config, block.items.sizes
    if config.scores:
        columns.add("place", np.broadcast_to(_places(block.candidates.shape), block.present.shape))
    if not config.scores and not config.slices:
        return
    users = block.requests.vectors.astype(np.float32, copy=False)
    distinct, places = np.unique(block.candidates, return_inverse=True)
    places = places.reshape(block.candidates.shape)
    vectors = block.items.items.decode(distinct, 0, sizes[-1])[places]
    sums = np.zeros(block.candidates.shape, np.float32)
    for lo, hi in pairwise((0, *sizes)):
        part = np.einsum("qd,qkd->qk", users[:, lo:hi], vectors[:, :, lo:hi], optimize=False)
        sums = sums + part
        if config.slices:
            columns.add(f"slice_{lo}_{hi}", part)
        if config.scores:
            scores = _scores(block, users, distinct, places, sums, hi)
            columns.add(f"score_d{hi}", scores)
            best = np.where(block.present, scores, -np.inf).max(axis=1, initial=-np.inf)
            columns.add(f"gap_d{hi}", scores - best[:, None])
            columns.add(f"place_d{hi}", _places_by(scores, block.present))


def _scores(
    block: Block, users: Float32, distinct: Int64, places: Int64, sums: Float32, size: int
) -> Float32:
    norms = block.items.norms(size)
    if norms is None:
        return sums
    lengths = np.linalg.norm(users[:, :size], axis=1).clip(1e-12)
    scores: Float32 = sums / (norms[distinct].clip(1e-12)[places] * lengths[:, None])
    return scores


def _places(shape: tuple[int, ...]) -> Float32:
    return np.arange(shape[1], dtype=np.float32)[None]


def _places_by(scores: Float32, present: Bool) -> Float32:
    """`[Q, K]` places from 0 by score, equals in the funnel's order."""
    order = np.argsort(np.where(present, -scores, np.inf), axis=1, kind="stable")
    places = np.empty(scores.shape, np.float32)
    np.put_along_axis(places, order, np.broadcast_to(_places(scores.shape), scores.shape), axis=1)
    return places
