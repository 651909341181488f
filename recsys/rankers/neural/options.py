"""Options that all neural rankers share: what goes in, how they are trained, their widths."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from recsys.config import StrictModel

Loss = Literal["pointwise", "pairwise", "listwise", "lambdarank"]


class LargeFields(StrictModel):
    """Tables of fields of many categories."""

    table: Literal["dense", "hashed", "low_rank"] = "dense"
    """dense: a row each. hashed: sums of shared rows. low_rank: short codes, one linear map."""
    from_size: int = Field(default=100_000, ge=2)
    """A field of that many categories has such a table of its own."""
    share: float = Field(default=0.25, gt=0, le=1)
    """hashed, low_rank: bytes over those of a dense table, at most."""


class InputOptions(StrictModel):
    """How features go into the network."""

    embedding_dim: int = Field(default=16, ge=1)
    """Coordinates of the vector of a field or an item."""
    init_std: float = Field(default=0.1, gt=0)
    """Standard deviation of their first values."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Of the coordinates of these vectors."""
    numbers: Literal["quantile", "standard"] = "quantile"
    """How numbers are brought to one scale."""
    num_quantiles: int = Field(default=32, ge=1, le=1024)
    """quantile: intervals between the quantiles that are kept."""
    item_vectors: bool = False
    """Whether each item has a trained vector of its own."""
    large: LargeFields = LargeFields()


class TrainingOptions(StrictModel):
    """How a network is trained."""

    loss: Loss = "listwise"
    """pointwise: log-loss of each row. pairwise: BPR, each target against each other row of its
    request. listwise: softmax over the rows of a request. lambdarank: pairwise, weighted by what
    exchanging the two rows would change in ndcg."""
    batch_rows: int = Field(default=4096, ge=1)
    """Rows of a step, about: losses within requests take whole requests."""
    epochs: int = Field(default=20, ge=1)
    """At most."""
    checks_per_epoch: int = Field(default=1, ge=1)
    """How often the validation part is scored."""
    patience: int = Field(default=2, ge=1)
    """Training stops after that many checks in a row without a better one."""
    slow_down: float = Field(default=0.2, gt=0, le=1)
    """Factor of the learning rate after a check that was not better; 1: none."""
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = Field(default=0.001, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    """Of all but tables: L2 with adam, decoupled with adamw."""
    table_decay: float = Field(default=0.0, ge=0)
    """The same of tables."""
    averaging: float = Field(default=0.0, ge=0, lt=1)
    """Decay of a running mean of the weights, which is what is kept; 0: none."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""


class Widths(StrictModel):
    """Shares of the hidden width that one network is trained to work at."""

    shares: tuple[float, ...] = (1.0,)
    """Ascending, the last 1. At 0.25 a quarter of the units of every layer, and of the coordinates
    of every vector, are used."""
    served: float | None = None
    """The share that scores; None: all. `Ranker.at` gives the others."""
    distillation: float = Field(default=1.0, ge=0)
    """Weight of the loss by which each width learns from the next wider one."""

    @field_validator("shares")
    @classmethod
    def _ascends_to_one(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if not shares or list(shares) != sorted(set(shares)) or shares[0] <= 0 or shares[-1] != 1:
            raise ValueError("shares above 0, ascending, the last 1, are expected")
        return shares

    @model_validator(mode="after")
    def _serves_one_of_them(self) -> Widths:
        if self.served is not None and self.served not in self.shares:
            raise ValueError(f"served {self.served} is not among shares {self.shares}")
        return self
