"""Granularities: the nested prefix lengths of a vector, and truncation to one.

Reference: Kusupati et al., Matryoshka Representation Learning, NeurIPS 2022.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from pydantic import Field, field_validator, model_validator

from recsys.config import StrictModel
from recsys.errors import GranularityError


class Granularities(StrictModel):
    """Nested prefix lengths, with the loss weight and score scale of each.

    Shape legend: G granularities, D = `embedding_dim` = the last size.
    """

    sizes: tuple[int, ...] = (8, 16, 32, 64, 128, 256)
    """Prefix lengths, strictly ascending; the last one is the embedding_dim."""
    weights: tuple[float, ...] | None = None
    """Loss weight per granularity; None weighs all alike. Normalized to sum to 1 in the loss."""
    normalize: bool = False
    """Each prefix is divided by its own L2 norm before scores are taken (cosine scores)."""
    learned_scale: bool = False
    """Scores of each granularity are multiplied by a learned scale (an inverse temperature)."""
    initial_scale: float = Field(default=1.0, gt=0)
    """Value the scale of every granularity starts at (and keeps, when it is not learned)."""
    scale_grows: bool = True
    """Learned scales may grow beyond `initial_scale`. Where nothing teaches it but the targets (the
    full width, or a model of one width), a scale that is free grows for as long as that makes the
    training rows likelier, and a sparse data set is learned by heart."""

    @field_validator("sizes")
    @classmethod
    def _ascending(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if not sizes or sizes[0] < 1 or any(b <= a for a, b in pairwise(sizes)):
            raise ValueError(
                f"granularities must be positive and strictly ascending, found {sizes}"
            )
        return sizes

    @model_validator(mode="after")
    def _one_weight_each(self) -> Granularities:
        if self.weights is not None and len(self.weights) != len(self.sizes):
            raise ValueError(f"{len(self.weights)} weights for {len(self.sizes)} granularities")
        if self.weights is not None and (min(self.weights) < 0 or sum(self.weights) <= 0):
            raise ValueError(f"weights must be >= 0 with a positive sum, found {self.weights}")
        return self

    @model_validator(mode="after")
    def _learned_scales_alone_grow(self) -> Granularities:
        if not self.scale_grows and not self.learned_scale:
            raise ValueError(
                "scale_grows: false has no effect on scales that are not learned; leave it out, or "
                "set learned_scale: true"
            )
        return self

    @property
    def embedding_dim(self) -> int:
        """D, the full length."""
        return self.sizes[-1]

    @property
    def slices(self) -> list[tuple[int, int]]:
        """The disjoint coordinate slices `[lo, hi)` between consecutive granularities."""
        return list(zip((0, *self.sizes[:-1]), self.sizes, strict=True))

    @property
    def normalized_weights(self) -> tuple[float, ...]:
        """Loss weights that sum to 1."""
        raw = self.weights or (1.0,) * len(self.sizes)
        return tuple(weight / sum(raw) for weight in raw)

    @property
    def given(self) -> dict[str, Any]:
        """The fields that were named when this was made; the others are defaults."""
        return {name: getattr(self, name) for name in sorted(self.model_fields_set)}

    def inherit(self, other: Granularities) -> Granularities:
        """The same sizes, with every field that was not named taken from `other`.

        Weights belong to sizes: they are taken over where the sizes are the same.
        """
        taken = {name: getattr(other, name) for name in type(self).model_fields}
        if "sizes" in self.model_fields_set and self.sizes != other.sizes:
            taken["weights"] = None
        if self.given.get("learned_scale") is False:
            taken["scale_grows"] = True
        return Granularities.model_validate(taken | self.given)

    def __len__(self) -> int:
        return len(self.sizes)

    def index(self, size: int, where: str = "this model") -> int:
        """Position of `size` among the granularities.

        Raises:
            GranularityError: `size` is not one of them.
        """
        if size not in self.sizes:
            raise GranularityError(
                f"granularity {size} is not among {self.sizes} in {where}; "
                "choose one of these or retrain"
            )
        return self.sizes.index(size)
