"""Modalities of an item (text, image, columns) as vectors of the model's space.

Each modality gives `[U, size]` of the items looked up, `size` D or any prefix. What is frozen
(mapped vectors, category lists) stays out of the weights; what it takes to read new items the same
way (centre, whitening, bin edges) is among them.

Whitening: Zhang et al., Are ID Embeddings Necessary? Whitening Pre-trained Text Embeddings for
Effective Sequential Recommendation, ICDE 2024. Bins: Gorishniy et al., On Embeddings for Numerical
Features in Tabular Deep Learning, NeurIPS 2022.

Shape legend: N items, U items looked up, D embedding_dim, W width of a frozen vector, K components,
C categories, E bins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from recsys.arrays import Float32
from recsys.data.features.loading import CategoricalFeature, NumericFeature, VectorFeature
from recsys.devices import on_device, to_indices

_SAMPLE = 50_000
"""Items that centre and whitening are taken from; more change them little."""
_RIDGE = 1e-4
"""Share of the largest variance added to all: directions of noise are not blown up."""


class _Held(nn.Module):
    """A modality whose feature a device may hold: looking it up then makes no host wait."""

    held: Tensor | None = None
    """The feature on the device, `[N, ...]`; None: it is read by the host."""

    @property
    def held_bytes(self) -> int:
        """What it would take there."""
        raise NotImplementedError

    def hold(self, device: torch.device | None) -> None:
        """Takes the feature to a device; None: leaves it to the host."""
        if device is None:
            self.held = None
        elif self.held is None or self.held.device != device:
            self.held = on_device(self._whole(), device)

    def _whole(self) -> npt.NDArray[Any]:
        """`[N, ...]` the feature of all items, in memory."""
        raise NotImplementedError


class VectorModality(_Held):
    """Vectors of a frozen encoder: centred, whitened, of length 1, then a linear map."""

    centre: Tensor
    whitening: Tensor

    def __init__(
        self,
        feature: VectorFeature,
        dim: int,
        *,
        components: int,
        strength: float = 1.0,
        init_std: float,
    ) -> None:
        super().__init__()
        self.feature = feature
        centre, whitening = whiten(feature, components, strength)
        self.register_buffer("centre", torch.from_numpy(centre))
        self.register_buffer("whitening", torch.from_numpy(whitening))
        # The k-th direction of most variance starts as coordinate k: prefixes are PCA at first.
        # Rows have length 1, so a coordinate has the deviation of those of an untrained table.
        num = whitening.shape[1]
        self.weight = nn.Parameter(torch.eye(num, dim) * (init_std * num**0.5))

    @property
    def held_bytes(self) -> int:
        """2 N W."""
        return self.feature.vectors.nbytes

    def _whole(self) -> npt.NDArray[Any]:
        return np.array(self.feature.vectors)

    def forward(self, items: Tensor, size: int | None = None) -> Tensor:
        """`[U]` -> `[U, size]`; rows of absent items hold nothing of use."""
        if self.held is not None:
            vectors = self.held[items].float()
        else:
            vectors = on_device(self.feature.rows(items.cpu().numpy()), items.device)
        whitened = (vectors - self.centre) @ self.whitening
        result: Tensor = nn.functional.normalize(whitened, dim=1) @ self.weight[:, :size]
        return result


def whiten(
    feature: VectorFeature, components: int, strength: float = 1.0
) -> tuple[Float32, Float32]:
    """Centre `[W]` and whitening `[W, K]` of the present vectors, most variance first.

    `strength` 1 gives all directions the same variance, 0 leaves theirs as it is.
    """
    present = np.flatnonzero(feature.present)
    rows = feature.rows(present[:: max(1, len(present) // _SAMPLE)]).astype(np.float64)
    if not len(rows):
        rows = np.zeros((1, feature.dim))
    centre = rows.mean(axis=0)
    variances, directions = np.linalg.eigh((rows - centre).T @ (rows - centre) / len(rows))
    order = np.argsort(-variances)[: min(components, feature.dim)]
    spread = np.sqrt(np.maximum(variances[order], 0) + _RIDGE * max(variances.max(), 1e-12))
    return centre.astype(np.float32), (directions[:, order] / spread**strength).astype(np.float32)


class CategoryModality(_Held):
    """The mean of the vectors of an item's categories."""

    def __init__(self, feature: CategoricalFeature, dim: int, *, init_std: float) -> None:
        super().__init__()
        self.feature = feature
        self.weight = nn.Parameter(torch.randn(len(feature.names), dim) * init_std)

    @property
    def held_bytes(self) -> int:
        """4 N times the most categories of an item."""
        counts = np.diff(self.feature.offsets)
        return 4 * len(counts) * int(counts.max(initial=0))

    def _whole(self) -> npt.NDArray[Any]:
        """`[N, most]`, filled up with -1."""
        counts = np.diff(self.feature.offsets)
        places = np.arange(counts.max(initial=0))
        rows = np.full((len(counts), len(places)), -1, np.int32)
        rows[places < counts[:, None]] = self.feature.values[: self.feature.offsets[-1]]
        return rows

    def forward(self, items: Tensor, size: int | None = None) -> Tensor:
        """`[U]` -> `[U, size]`, zeros where an item has none."""
        if self.held is not None:
            named = self.held[items]
            there = (named >= 0)[:, :, None]
            found = nn.functional.embedding(named.clamp_min(0), self.weight[:, :size]) * there
            return found.sum(1) / there.sum(1).clamp_min(1)
        values, offsets = self.feature.rows(items.cpu().numpy())
        return nn.functional.embedding_bag(
            to_indices(values, items.device),
            self.weight[:, :size],
            on_device(offsets, items.device),
            mode="mean",
            include_last_offset=True,
        )


class NumberModality(_Held):
    """A number, encoded as the filled share of each bin between quantiles, then a linear map.

    Weights mean the bins that they were trained with. So weights bring their bins along, also where
    the numbers of today would make others (`take_bins`); what lies beyond the last ones fills all
    of them, or none.
    """

    edges: Tensor

    def __init__(self, feature: NumericFeature, dim: int, *, bins: int, init_std: float) -> None:
        super().__init__()
        self.feature, self.bins = feature, bins
        self.register_buffer("edges", torch.from_numpy(bin_edges(feature, bins)))
        self.weight = nn.Parameter(torch.randn(len(self.edges) - 1, dim) * init_std)

    @property
    def held_bytes(self) -> int:
        """4 N."""
        return self.feature.values.nbytes

    def _whole(self) -> npt.NDArray[Any]:
        return np.array(self.feature.values)

    def forward(self, items: Tensor, size: int | None = None) -> Tensor:
        """`[U]` -> `[U, size]`; rows of absent items hold nothing of use."""
        if self.held is not None:
            numbers = self.held[items]
        else:
            numbers = on_device(np.asarray(self.feature.values)[items.cpu().numpy()], items.device)
        lo, hi = self.edges[:-1], self.edges[1:]
        filled = ((numbers[:, None] - lo) / (hi - lo)).clamp(0, 1) - 0.5
        result: Tensor = filled / len(lo) ** 0.5 @ self.weight[:, :size]
        return result


def take_bins(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Gives the numbers of a model as many bins as they have in weights that it is about to load.

    Args:
        model: made for other numbers, perhaps: there can be fewer different ones than bins.
        tensors: by name, as in its state dict.
    """
    for name, part in model.named_modules():
        edges = tensors.get(f"{name}.edges") if isinstance(part, NumberModality) else None
        if edges is not None and edges.dim() == 1 and 1 < len(edges) != len(part.edges):
            part.edges = part.edges.new_empty(len(edges))
            part.weight.data = part.weight.new_empty(len(edges) - 1, part.weight.shape[1])


def bin_edges(feature: NumericFeature, bins: int) -> Float32:
    """`[E + 1]` strictly ascending quantiles of the present numbers."""
    present = np.asarray(feature.values)[np.asarray(feature.present)]
    if not len(present):
        present = np.zeros(1, np.float32)
    edges = np.unique(np.quantile(present, np.linspace(0, 1, bins + 1))).astype(np.float32)
    edges = np.unique(edges)
    return edges if len(edges) > 1 else np.array([edges[0], edges[0] + 1], np.float32)


Modality = VectorModality | CategoryModality | NumberModality
