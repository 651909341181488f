"""FinalMLP (Mao et al., AAAI 2023): two gated streams of hidden layers, fused bilinearly."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from recsys.rankers.models.neural import NeuralConfig


class FinalMlpConfig(NeuralConfig):
    """Options of FinalMLP."""

    network: ClassVar[str] = "recsys.rankers.networks.finalmlp:FinalMlp"
    name: Literal["finalmlp"] = "finalmlp"
    first: tuple[int, ...] = Field(default=(256, 128), min_length=1)
    """Units of the hidden layers of the first stream."""
    second: tuple[int, ...] = Field(default=(128,), min_length=1)
    """Of the second."""
    heads: int = Field(default=4, ge=1)
    """Groups of the streams' outputs that are multiplied."""
    gate_first: tuple[str, ...] = ()
    """Fields (or groups) whose vectors gate the inputs of the first stream, of users say; (): one
    trained vector."""
    gate_second: tuple[str, ...] = ()
    """The same of the second, of items say."""
    gate_hidden: tuple[int, ...] = Field(default=(64,), min_length=1)
    """Units of the hidden layers of a gate."""

    @model_validator(mode="after")
    def _has_whole_heads(self) -> FinalMlpConfig:
        if self.first[-1] % self.heads or self.second[-1] % self.heads:
            raise ValueError(
                f"heads {self.heads} do not divide the outputs of the streams, "
                f"{self.first[-1]} and {self.second[-1]}"
            )
        return self
