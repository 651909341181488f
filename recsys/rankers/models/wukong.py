"""Wukong (Zhang et al., ICML 2024): stacked factorization machines, and the knobs they grow by."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from recsys.rankers.models.neural import NeuralConfig


class WukongConfig(NeuralConfig):
    """Options of Wukong. It grows by layers first, then by their vectors, rank and units."""

    network: ClassVar[str] = "recsys.rankers.networks.wukong:Wukong"
    name: Literal["wukong"] = "wukong"
    layers: int = Field(default=2, ge=1)
    machine_vectors: int = Field(default=8, ge=1)
    """Vectors that the factorization machine of a layer gives."""
    linear_vectors: int = Field(default=8, ge=1)
    """Linear combinations of its vectors that a layer gives."""
    rank: int = Field(default=8, ge=1)
    """Products that are kept for each vector."""
    machine_hidden: tuple[int, ...] = Field(default=(128,), min_length=1)
    """Units of the hidden layers of a machine."""
    number_vectors: int = Field(default=4, ge=1)
    """Vectors that the numbers are mixed to."""
    hidden: tuple[int, ...] = Field(default=(256, 128), min_length=1)
    """Units of the hidden layers after the last layer."""
