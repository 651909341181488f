"""DLRM (Naumov et al., 2019): dot products of the vectors of fields, then hidden layers."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from recsys.rankers.models.neural import NeuralConfig


class DlrmConfig(NeuralConfig):
    """Options of DLRM."""

    network: ClassVar[str] = "recsys.rankers.networks.dlrm:Dlrm"
    name: Literal["dlrm"] = "dlrm"
    bottom: tuple[int, ...] = (128,)
    """Hidden layers that make a vector of the numbers; a layer of embedding_dim follows."""
    hidden: tuple[int, ...] = Field(default=(256, 128), min_length=1)
    """Units of the hidden layers after the products."""
