"""Sampled negatives shared by a batch, each with its probability of being drawn.

A mixture of three sources: uniform over the catalogue, by training popularity to a power, and the
batch's own targets. Work per step depends on the number of draws, not on the catalogue.
Correction: Bengio and Senecal 2008; with in-batch draws Yi et al., RecSys 2019.
"""

import numpy as np
from pydantic import Field, model_validator

from recsys.arrays import Float64, Int64
from recsys.config import StrictModel


class NegativesConfig(StrictModel):
    """The number of negatives from each source."""

    uniform: int = Field(default=6144, ge=0)
    """Draws per batch, every item alike; of small catalogues nearly all are drawn, each once. A
    step with fewer is faster."""
    popularity: int = Field(default=0, ge=0)
    """Draws per batch in proportion to (how often an item is a target) ** popularity_power."""
    popularity_power: float = Field(default=0.75, ge=0)
    in_batch: bool = False
    """The targets of the batch are negatives of each other."""
    logq: bool = True
    """Negatives count the less the likelier they are drawn: with probability q, sampled_softmax
    lessens their scores by log q, gbce weighs them in proportion to 1 / q."""

    @model_validator(mode="after")
    def _some_source(self) -> "NegativesConfig":
        if not (self.uniform or self.popularity or self.in_batch):
            raise ValueError("no negatives: set uniform, popularity or in_batch")
        return self


class NegativeSampler:
    """Draws negatives for a batch; the same random generator state gives the same draw."""

    def __init__(self, config: NegativesConfig, counts: Int64) -> None:
        """`counts [N]`: how often each item is a target in training."""
        self._config = config
        self._num_items = len(counts)
        weights = counts.astype(np.float64) ** config.popularity_power
        self._popularity = weights / weights.sum()
        cumulative = np.cumsum(self._popularity)
        self._cumulative = cumulative / cumulative[-1]  # ends at 1, whatever was rounded
        self._share = counts / counts.sum()

    def draw(self, targets: Int64, rng: np.random.Generator) -> tuple[Int64, Float64 | None]:
        """Negatives of one batch.

        Args:
            targets: `[T]` item indices of the batch.
            rng: the source of chance.

        Returns:
            `items [K]` unique and ascending, and `log_q [K]`: the log of the probability that
            the item is among them (None without logq correction).
        """
        config = self._config
        drawn = [rng.integers(self._num_items, size=config.uniform)]
        if config.popularity:
            points = rng.random(config.popularity)
            drawn.append(np.searchsorted(self._cumulative, points, side="right"))
        if config.in_batch:
            drawn.append(targets)
        items = np.unique(np.concatenate(drawn)).astype(np.int64)
        return items, self._log_inclusion(items, len(targets)) if config.logq else None

    def _log_inclusion(self, items: Int64, num_targets: int) -> Float64:
        """log(1 - product of the probabilities to be missed by every draw)."""
        config = self._config
        missed = np.full(len(items), config.uniform * np.log1p(-1.0 / self._num_items))
        missed += config.popularity * np.log1p(-self._popularity[items].clip(max=1 - 1e-12))
        if config.in_batch:
            missed += num_targets * np.log1p(-self._share[items].clip(max=1 - 1e-12))
        with np.errstate(divide="ignore"):  # an item that cannot be drawn: log 0
            included: Float64 = np.log(-np.expm1(missed))
        return included
