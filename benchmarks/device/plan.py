"""Sizes of the measurements: those of a GPU, and tiny ones that a test runs on a CPU."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A made-up data set."""

    name: str
    users: int
    items: int
    interactions: int
    batch_tokens: int
    """Of training."""

    @property
    def told(self) -> str:
        """Its sizes in words."""
        return f"{self.users:,} users, {self.items:,} items, {self.interactions:,} interactions"


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    sizes: tuple[int, ...]
    """The granularities; the one of a single granularity is the last."""
    catalogues: tuple[int, ...]
    """Items of the losses and of the steps."""
    tokens: int
    """Of one step."""
    negatives: int
    """Of a sampled softmax."""
    seconds: float
    """Of each timing, after one that is not kept."""
    shapes: tuple[Shape, ...]
    """Data sets of which an epoch is trained."""
    measured_users: int = 100_000
    """At most so many are evaluated."""


FULL = Plan(
    sizes=(8, 16, 32, 64, 128, 256),
    catalogues=(12_101, 100_000, 1_000_000),
    tokens=4_096,
    negatives=6_144,
    seconds=0.5,
    shapes=(
        Shape("Beauty", 22_363, 12_101, 198_502, 4_096),
        Shape("ML-1M", 6_040, 3_416, 999_611, 4_096),
        Shape("10M", 400_000, 100_000, 10_000_000, 16_384),
    ),
)
TINY = Plan(
    sizes=(4, 8),
    catalogues=(60,),
    tokens=48,
    negatives=20,
    seconds=0.0,
    shapes=(Shape("tiny", 40, 30, 400, 128),),
)
