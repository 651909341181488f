"""Figures of each user's list as pure functions; beyond-accuracy figures of a catalogue are in
`recsys.evaluation.metrics`.

Shape legend: B users, k places, N items, D coordinates, G categories, T interactions of histories.
"""

from __future__ import annotations

import numpy as np

from recsys.arrays import Bool, Float32, Float64, Int64
from recsys.rankers.lists.base import blocks, category_shares, unit_vectors
from recsys.rankers.lists.calibrate import divergence


def intra_list_diversity(items: Int64, vectors: Float32) -> Float64:
    """Mean of 1 - cosine over the pairs of a list (Ziegler et al., WWW 2005): `[B]`; 0 of one item.

    Args:
        items: `[B, k]`, -1 where a list has ended.
        vectors: `[N, D]`.
    """
    found = np.zeros(len(items))
    for rows in blocks(len(items), 4 * items.shape[1] * vectors.shape[1]):
        summed = unit_vectors(vectors, items[rows]).sum(axis=1, dtype=np.float64)
        count = (items[rows] >= 0).sum(axis=1)
        # Unit vectors: the sum over pairs is what the squared length of their sum has beyond k.
        pairs = np.maximum(count * (count - 1), 1)
        alike = ((summed * summed).sum(axis=1) - count) / pairs
        found[rows] = np.where(count > 1, 1 - alike, 0.0)
    return found


def vendi_score(items: Int64, vectors: Float32) -> Float64:
    """How many wholly different items a list is as diverse as: `[B]`, 1 to k.

    Friedman and Dieng, The Vendi Score, TMLR 2023: the exponential of the entropy of the
    eigenvalues of the cosines, over k. An item whose vector is 0 is left out.

    Args:
        items: `[B, k]`, -1 where a list has ended.
        vectors: `[N, D]`.
    """
    found = np.zeros(len(items))
    for rows in blocks(len(items), 4 * items.shape[1] * (vectors.shape[1] + 3 * items.shape[1])):
        some = unit_vectors(vectors, items[rows]).astype(np.float64)
        count = np.maximum((some * some).sum(axis=(1, 2)), 1e-12)
        cosines = np.matmul(some, some.transpose(0, 2, 1)) / count[:, None, None]
        values = np.linalg.eigvalsh(cosines).clip(min=1e-15)
        found[rows] = np.exp(-(values * np.log(values)).sum(axis=1))
    return found


def calibration_error(items: Int64, categories: Bool, tastes: Float32) -> Float64:
    """KL of the shares of categories in a list from those in the user's history: `[B]`.

    Steck, RecSys 2018; 0: the same shares. A list without categories has the worst value there is.

    Args:
        items: `[B, k]`, -1 where a list has ended.
        categories: `[N, G]`.
        tastes: `[B, G]` shares in the histories.
    """
    shares = category_shares(categories)
    found = np.zeros(len(items))
    for rows in blocks(len(items), 8 * items.shape[1] * shares.shape[1]):
        own = shares[np.maximum(items[rows], 0)] * (items[rows] >= 0)[:, :, None]
        summed = own.sum(axis=1, dtype=np.float64)
        summed /= np.maximum(summed.sum(axis=1, keepdims=True), 1e-12)
        found[rows] = divergence(tastes[rows], summed)
    return found


def popularity_lift(items: Int64, popularity: Int64, history: tuple[Int64, Int64]) -> Float64:
    """Mean popularity of a list over that of the user's history, minus 1: `[B]`.

    Abdollahpouri et al., The Unfairness of Popularity Bias in Recommendation, 2019. 0: as popular
    as what the user had.

    Args:
        items: `[B, k]`, -1 where a list has ended.
        popularity: `[N]`.
        history: items `[T]` and offsets `[B + 1]`; no history is empty.
    """
    had, offsets = history
    there = items >= 0
    listed = np.where(there, popularity[np.maximum(items, 0)], 0).sum(axis=1)
    means = listed / np.maximum(there.sum(axis=1), 1)
    own = np.add.reduceat(popularity[had].astype(np.float64), offsets[:-1]) / np.diff(offsets)
    found: Float64 = means / np.maximum(own, 1e-12) - 1
    return found
