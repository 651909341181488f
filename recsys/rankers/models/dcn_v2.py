"""DCN-v2 (Wang et al., WWW 2021): crosses of growing degree beside hidden layers."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from recsys.rankers.models.neural import NeuralConfig


class DcnV2Config(NeuralConfig):
    """Options of DCN-v2."""

    network: ClassVar[str] = "recsys.rankers.networks.dcn_v2:DcnV2"
    name: Literal["dcn_v2"] = "dcn_v2"
    crosses: int = Field(default=2, ge=1)
    """Cross layers; each raises the degree of the crosses by one."""
    rank: int = Field(default=0, ge=0)
    """Of each expert of a cross layer; 0: whole matrices."""
    experts: int = Field(default=4, ge=1)
    """Low-rank experts of a cross layer, gated by the input."""
    hidden: tuple[int, ...] = Field(default=(256, 128), min_length=1)
    """Units of the hidden layers."""
    stacked: bool = False
    """Hidden layers after the crosses; else beside them, on the inputs."""
