"""Logistic regression on standardised features: pointwise, or a softmax over the candidates.

References: Cao et al., Learning to Rank: From Pairwise Approach to Listwise Approach, ICML 2007
(listwise); for the pointwise one any textbook.
Shape legend: R rows, Q requests, C numeric features, F categorical fields, W weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recsys.arrays import Float32, Float64, Int64
from recsys.errors import DataError
from recsys.extras import extra
from recsys.rankers.base import Ranker, RankerConfig
from recsys.rankers.examples import Examples, Schema

MODEL = "logistic.safetensors"
_LARGEST = 10.0
"""Standard deviations beyond which a feature is cut: one odd row must not rule a list."""


class LogisticConfig(RankerConfig):
    """Options of the regression."""

    name: Literal["logistic"] = "logistic"
    objective: Literal["pointwise", "listwise"] = "listwise"
    """pointwise: the scores are logits of the label."""
    l2: float = Field(default=1e-3, ge=0)
    """Of the weights, per request (pointwise: per row)."""
    iterations: int = Field(default=200, ge=1)
    """Of L-BFGS, at most."""

    def fit(self, schema: Schema, train: Examples, validation: Examples, seed: int) -> Logistic:  # noqa: ARG002
        """Finds the one minimum there is; it needs neither validation rows nor a seed.

        Raises:
            InstallationError: scipy is missing.
        """
        with extra("train", "fitting a logistic ranker"):
            from scipy.optimize import minimize
        scaling = _scaling_of(train.numbers)
        matrix, codes = scaling.applied(train.numbers), _codes(schema, train)
        problem = _Problem(matrix, codes, train, _num_codes(schema), self)
        start = np.zeros(matrix.shape[1] + _num_codes(schema) + 1)
        found = minimize(
            problem.loss, start, jac=True, method="L-BFGS-B", options={"maxiter": self.iterations}
        )
        return Logistic(schema, scaling, found.x.astype(np.float32))

    @classmethod
    def load(cls, folder: Path, schema: Schema) -> Ranker:
        """Opens what was saved.

        Raises:
            DataError: the file is absent or damaged, or of other features.
        """
        try:
            arrays = load_file(folder / MODEL)
            scaling = Scaling(arrays["means"], arrays["scales"], arrays["marked"])
            weights = arrays["weights"]
        except (OSError, KeyError, SafetensorError) as error:
            raise DataError(
                f"{folder / MODEL} cannot be read ({error}); fit the ranker again"
            ) from error
        wanted = len(schema.numbers) + len(scaling.marked) + _num_codes(schema) + 1
        if len(scaling.means) != len(schema.numbers) or len(weights) != wanted:
            raise DataError(
                f"{folder / MODEL} was fitted on other features than the ranker's; fit it again"
            )
        return Logistic(schema, scaling, weights)


@dataclass(frozen=True)
class Scaling:
    """How numbers become inputs: standardised, 0 where missing, with marks of what is missing."""

    means: Float32
    """`[C]`."""
    scales: Float32
    """`[C]` 1 / standard deviation; 0: the feature is the same everywhere."""
    marked: Int64
    """Features that are missing somewhere in training; each gets an input of its own."""

    def applied(self, numbers: Float32) -> Float32:
        """`[R, C + marks]`."""
        missing = np.isnan(numbers)
        inputs = ((numbers - self.means) * self.scales).clip(-_LARGEST, _LARGEST)
        inputs[missing] = 0
        return np.concatenate([inputs, missing[:, self.marked]], axis=1).astype(np.float32)


class Logistic:
    """Fitted weights; the last one is the constant."""

    def __init__(self, schema: Schema, scaling: Scaling, weights: Float32) -> None:
        """With `weights [W]`: of inputs, of categories, and the constant."""
        self.schema, self.scaling, self.weights = schema, scaling, weights

    def scores(self, examples: Examples) -> Float32:
        """`[R]`."""
        matrix = self.scaling.applied(examples.numbers)
        return _scores(self.weights, matrix, _codes(self.schema, examples))

    def multiply_adds(self) -> float:
        """One for each input, and one for each field."""
        return float(len(self.scaling.means) + len(self.scaling.marked) + len(self.schema.fields))

    def save(self, folder: Path) -> None:
        """Writes a safetensors file."""
        arrays: dict[str, np.ndarray] = {
            "weights": self.weights,
            "means": self.scaling.means,
            "scales": self.scaling.scales,
            "marked": self.scaling.marked,
        }
        save_file(arrays, folder / MODEL)


class _Problem:
    """The loss of some weights, and its slope."""

    def __init__(
        self,
        matrix: Float32,
        codes: Int64,
        examples: Examples,
        num_codes: int,
        config: LogisticConfig,
    ) -> None:
        assert examples.labels is not None
        self.matrix, self.codes, self.num_codes, self.config = matrix, codes, num_codes, config
        self.labels = examples.labels.astype(np.float64)
        given = examples.weights
        self.weights = np.ones(len(self.labels)) if given is None else given.astype(np.float64)
        self.owners, self.num_requests = examples.owners, examples.num_requests

    def loss(self, parameters: Float64) -> tuple[float, Float64]:
        scores = _scores(parameters, self.matrix, self.codes).astype(np.float64)
        value, slope = (
            self._pointwise(scores)
            if self.config.objective == "pointwise"
            else self._listwise(scores)
        )
        gradient = np.zeros_like(parameters)
        width = self.matrix.shape[1]
        gradient[:width] = slope.astype(np.float32) @ self.matrix
        for field in self.codes.T:
            gradient[width:-1] += np.bincount(field, slope, self.num_codes)
        gradient[-1] = slope.sum()
        inner = parameters[:-1]
        gradient[:-1] += self.config.l2 * inner
        return value + 0.5 * self.config.l2 * float(inner @ inner), gradient

    def _pointwise(self, scores: Float64) -> tuple[float, Float64]:
        count = self.weights.sum()
        likely = 1 / (1 + np.exp(-scores))
        losses = np.logaddexp(0, scores) - self.labels * scores
        return float(self.weights @ losses / count), self.weights * (likely - self.labels) / count

    def _listwise(self, scores: Float64) -> tuple[float, Float64]:
        """Cross-entropy of the softmax over each request with its labels' shares."""
        most = np.full(self.num_requests, -np.inf)
        np.maximum.at(most, self.owners, scores)
        powers = np.exp(scores - most[self.owners])
        sums = np.bincount(self.owners, powers, self.num_requests)
        wanted = self.labels * self.weights
        totals = np.bincount(self.owners, wanted, self.num_requests)
        shares = powers / sums[self.owners]
        logs = scores - most[self.owners] - np.log(sums[self.owners])
        count = max(totals.sum(), 1e-12)
        return float(-(wanted @ logs) / count), (totals[self.owners] * shares - wanted) / count


def _scores(weights: np.ndarray, matrix: Float32, codes: Int64) -> Float32:
    width = matrix.shape[1]
    scores = matrix @ weights[:width].astype(np.float32) + np.float32(weights[-1])
    for field in codes.T:
        scores += weights[width:-1][field].astype(np.float32)
    found: Float32 = scores
    return found


def _scaling_of(numbers: Float32) -> Scaling:
    missing = np.isnan(numbers)
    known = (~missing).sum(axis=0).clip(1)
    filled = np.where(missing, 0, numbers)
    means = filled.sum(axis=0, dtype=np.float64) / known
    spread = np.sqrt(
        (np.square(filled - np.where(missing, 0, means))).sum(axis=0, dtype=np.float64) / known
    )
    scales = np.where(spread > 1e-9, 1 / np.maximum(spread, 1e-9), 0)
    marked = np.flatnonzero(missing.any(axis=0) & ~missing.all(axis=0))
    return Scaling(means.astype(np.float32), scales.astype(np.float32), marked)


def _codes(schema: Schema, examples: Examples) -> Int64:
    """`[R, F]` places of the categories among the weights of all fields."""
    sizes = [field.size for field in schema.fields]
    starts = np.cumsum([0, *sizes])[: len(sizes)]
    places: Int64 = examples.fields.astype(np.int64) + starts
    return places


def _num_codes(schema: Schema) -> int:
    return sum(field.size for field in schema.fields)
