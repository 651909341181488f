"""Options of the softmax losses, over the full catalogue and over sampled candidates."""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import Field

from recsys.data.negatives import NegativesConfig
from recsys.losses.base import LossConfig, Objective
from recsys.losses.pairs.grouped import grouped_softmax
from recsys.losses.softmax import Teaching, nested_softmax


def _teaching(config: SoftmaxConfig | SampledSoftmaxConfig) -> Teaching:
    return Teaching(config.distillation, config.focus)


class SoftmaxConfig(LossConfig):
    """Softmax cross-entropy over the full catalogue."""

    name: Literal["softmax"] = "softmax"
    distillation: float = Field(default=0.5, ge=0, le=1)
    """The share of the full width's own probabilities, beside the target, in what every prefix
    learns to predict."""
    focus: float = Field(default=0.0, ge=0, le=1)
    """How much less is learned from rows whose target can hardly be found: a row counts by the
    probability of its target to the power of `focus` at 128 coordinates and more, twice that at 64,
    three times at 32, four times at 16 and fewer. 0: all rows count alike."""

    def objective(self, num_items: int, num_sizes: int) -> Objective:
        """`nested_softmax`."""
        return partial(nested_softmax, teaching=_teaching(self))

    def grouped(self, num_items: int, num_sizes: int) -> Objective:
        """`grouped_softmax`."""
        return partial(grouped_softmax, teaching=_teaching(self))


class SampledSoftmaxConfig(LossConfig):
    """Softmax cross-entropy over sampled negatives, with logQ correction."""

    name: Literal["sampled_softmax"] = "sampled_softmax"
    negatives: NegativesConfig = NegativesConfig()
    distillation: float = Field(default=0.5, ge=0, le=1)
    """As `SoftmaxConfig.distillation`."""
    focus: float = Field(default=0.0, ge=0, le=1)
    """As `SoftmaxConfig.focus`."""

    @property
    def takes_own(self) -> bool:
        """It does."""
        return True

    def objective(self, num_items: int, num_sizes: int) -> Objective:
        """`nested_softmax`."""
        return partial(nested_softmax, teaching=_teaching(self))

    def grouped(self, num_items: int, num_sizes: int) -> Objective:
        """`grouped_softmax`."""
        return partial(grouped_softmax, teaching=_teaching(self))
