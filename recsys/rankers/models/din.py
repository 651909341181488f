"""DIN (Zhou et al., KDD 2018): attention of each candidate to the items of the history."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from recsys.rankers.models.neural import NeuralConfig
from recsys.rankers.neural.options import InputOptions


class DinConfig(NeuralConfig):
    """Options of DIN. Items have vectors of their own; the examples have histories."""

    network: ClassVar[str] = "recsys.rankers.networks.din:Din"
    name: Literal["din"] = "din"
    inputs: InputOptions = InputOptions(item_vectors=True)
    attention_hidden: tuple[int, ...] = Field(default=(32,), min_length=1)
    """Units of the hidden layers that weigh an item of the history."""
    softmax: bool = False
    """Weights of a history that add up to 1; the paper's need not."""
    hidden: tuple[int, ...] = Field(default=(256, 128), min_length=1)
    """Units of the hidden layers."""

    @field_validator("inputs", mode="before")
    @classmethod
    def _items_have_vectors(cls, given: Any) -> Any:
        return {"item_vectors": True, **given} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _has_item_vectors(self) -> DinConfig:
        if not self.inputs.item_vectors:
            raise ValueError("din compares vectors of items; inputs.item_vectors has to be true")
        return self
