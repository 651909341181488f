"""AutoInt (Song et al., CIKM 2019): self-attention among the vectors of all features."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from recsys.rankers.models.neural import NeuralConfig


class AutoIntConfig(NeuralConfig):
    """Options of AutoInt; with hidden layers it is AutoInt+."""

    network: ClassVar[str] = "recsys.rankers.networks.autoint:AutoInt"
    name: Literal["autoint"] = "autoint"
    layers: int = Field(default=3, ge=1)
    """Layers of attention."""
    heads: int = Field(default=2, ge=1)
    attention_dim: int = Field(default=64, ge=1)
    """Coordinates of a layer, of all heads together."""
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Of attention weights."""
    hidden: tuple[int, ...] = ()
    """Units of hidden layers beside the attention; (): none."""

    @model_validator(mode="after")
    def _has_whole_heads(self) -> AutoIntConfig:
        if self.attention_dim % self.heads:
            raise ValueError(f"heads {self.heads} do not divide attention_dim {self.attention_dim}")
        return self
