"""Two views of an item that share no feature, for self-supervised learning.

Yao et al., Self-supervised Learning for Large-scale Item Recommendations, CIKM 2021: features that
tell the same are masked together (correlated feature masking), or one view would give away what
the other hides. A seed is drawn among the features; it and those of most mutual information with it
are half of all, and are hidden from the first view. The second view has these alone.

Mutual information is estimated over the items that have both features. An item of several
categories counts for each of them in equal shares; numbers are counted by bins between quantiles,
vectors by the signs of their directions of most variance.

Departure from the paper: the values of one feature are not left out by themselves.

Shape legend: N items, M features, n items of a draw, C cells of a feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from recsys.arrays import Float32, Float64, Int64
from recsys.data.features.loading import (
    CategoricalFeature,
    ItemFeatures,
    NumericFeature,
    VectorFeature,
)
from recsys.errors import ConfigError
from recsys.towers.modalities import bin_edges, whiten

_BINS = 16
_DIRECTIONS = 4
"""Directions of a vector whose signs are its cell: 16 cells."""
_BLOCK = 1 << 14
Feature = CategoricalFeature | NumericFeature | VectorFeature


@dataclass(frozen=True)
class Views:
    """Some items, and which features each of two views shows."""

    items: Int64
    """`[n]`, each once; every one has a feature in both views."""
    first: tuple[str, ...]
    second: tuple[str, ...]


class ViewSampler:
    """Draws items and views."""

    def __init__(self, features: ItemFeatures, names: Sequence[str]) -> None:
        """Counts which features tell the same.

        Args:
            features: of the items.
            names: M of them, at least two.

        Raises:
            ConfigError: there is one alone.
        """
        self.names = tuple(names)
        found = [feature_of(features, name) for name in self.names]
        self.hidden = correlated_masks(mutual_information(found))
        present = np.stack([np.asarray(each.present) for each in found], axis=1)
        self._known = [
            np.flatnonzero((present & mask).any(1) & (present & ~mask).any(1))
            for mask in self.hidden
        ]

    def draw(self, count: int) -> Views:
        """At most `count` items, drawn uniformly, by torch's random numbers."""
        seed = int(torch.randint(len(self.names), ()))
        known = self._known[seed]
        if len(known) > count:
            known = known[np.unique(torch.randint(len(known), (count,)).numpy())]
        mask = self.hidden[seed]
        shown, hidden = (
            tuple(name for name, part in zip(self.names, mask, strict=True) if part == kept)
            for kept in (False, True)
        )
        return Views(known, shown, hidden)


def feature_of(features: ItemFeatures, name: str) -> Feature:
    """The feature of that name, whatever its kind."""
    kinds = (features.categories, features.numbers, features.vectors)
    return next(kind[name] for kind in kinds if name in kind)


def correlated_masks(information: Float64) -> npt.NDArray[np.bool_]:
    """`[M, M]` bool: row s marks what is hidden with seed s, half of the features, rounded down.

    Raises:
        ConfigError: there is one feature alone.
    """
    num = len(information)
    if num < 2:
        raise ConfigError(
            "two views of an item need two features at least; name more in model.items.features, "
            "or leave model.views out"
        )
    order = information.copy()
    np.fill_diagonal(order, np.inf)  # the seed itself comes first
    nearest = np.argsort(-order, axis=1, kind="stable")[:, : num // 2]
    hidden = np.zeros((num, num), np.bool_)
    np.put_along_axis(hidden, nearest, True, axis=1)
    return hidden


def mutual_information(features: Sequence[Feature]) -> Float64:
    """`[M, M]` nats, of every two features; 0 of those that no item has together."""
    cells = [_cells(feature) for feature in features]
    found = np.zeros((len(features), len(features)))
    for a in range(len(features)):
        for b in range(a, len(features)):
            both = np.asarray(features[a].present) & np.asarray(features[b].present)
            found[a, b] = found[b, a] = _information(cells[a], cells[b], both)
    return found


def _information(one: sp.csr_matrix, other: sp.csr_matrix, both: npt.NDArray[np.bool_]) -> float:
    if not both.any():
        return 0.0
    joint = (one[both].T @ other[both]).tocoo()
    shares = joint.data / both.sum()
    rows, columns = np.bincount(joint.row, shares), np.bincount(joint.col, shares)
    return float((shares * np.log(shares / (rows[joint.row] * columns[joint.col]))).sum())


def _cells(feature: Feature) -> sp.csr_matrix:
    """`[N, C]` float64, the share of each item in each cell; anything of items without it."""
    if isinstance(feature, CategoricalFeature):
        counts = np.diff(feature.offsets)
        shares = np.repeat(1.0 / np.maximum(counts, 1), counts)
        values = np.asarray(feature.values)[: feature.offsets[-1]]
        shape = (len(counts), len(feature.names))
        return sp.csr_matrix((shares, values, np.asarray(feature.offsets)), shape=shape)
    if isinstance(feature, NumericFeature):
        inner = bin_edges(feature, _BINS)[1:-1]
        cells = np.searchsorted(inner, np.asarray(feature.values), side="right")
        return _one_hot(cells, _BINS)
    return _one_hot(_signs(feature), 1 << _DIRECTIONS)


def _one_hot(cells: Int64, size: int) -> sp.csr_matrix:
    places = np.arange(len(cells) + 1)
    return sp.csr_matrix((np.ones(len(cells)), cells, places), shape=(len(cells), size))


def _signs(feature: VectorFeature) -> Int64:
    """`[N]` cells of vectors, block by block."""
    centre, directions = whiten(feature, _DIRECTIONS)
    powers = 1 << np.arange(directions.shape[1])
    found = np.empty(len(feature.present), np.int64)
    for lo in range(0, len(found), _BLOCK):
        rows: Float32 = feature.rows(np.arange(lo, min(lo + _BLOCK, len(found))))
        found[lo : lo + _BLOCK] = ((rows - centre) @ directions > 0) @ powers
    return found
