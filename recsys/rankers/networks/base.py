"""What a ranking network is: inputs, and a score for each row at any share of its width.

Shape legend: R rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from recsys.rankers.examples import Schema
from recsys.rankers.layers.inputs import Batch, Inputs
from recsys.rankers.neural.options import InputOptions
from recsys.rankers.neural.statistics import NumberStatistics


class Network(Protocol):
    """A module that scores rows; it is also an nn.Module."""

    inputs: Inputs
    reads: tuple[str, ...]
    """Fields of `Batch` that it reads."""

    def __call__(self, batch: Batch, share: float = 1.0) -> Tensor:
        """`[R]` scores, of that share of its width."""
        ...


@dataclass(frozen=True)
class Features:
    """What a network is built for."""

    schema: Schema
    statistics: NumberStatistics
    options: InputOptions

    def inputs(self) -> Inputs:
        """Untrained."""
        return Inputs(self.schema, self.statistics, self.options)


def num_parameters(network: nn.Module) -> int:
    """Trained numbers of a network."""
    return sum(each.numel() for each in network.parameters())
