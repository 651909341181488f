"""Tiers: disjoint slices of the coordinates, each with its codec and place.

A prefix of a vector is the first slices, so nothing is stored twice.

Shape legend: N rows, D coordinates, d coordinates of a tier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np

from recsys.arrays import Float32
from recsys.errors import ConfigError
from recsys.retrieval.codecs.base import Encoded
from recsys.retrieval.codecs.registry import encode, find_codec

Residence = Literal["ram", "mmap"]


@dataclass(frozen=True)
class TierSpec:
    """Description of a tier: coordinates `[lo, hi)`, codec, and place (memory or mapped file)."""

    lo: int
    hi: int
    codec: str
    residence: Residence

    def __str__(self) -> str:
        return f"{self.lo}:{self.hi}:{self.codec}:{self.residence}"


def parse_tiers(text: str, dim: int) -> tuple[TierSpec, ...]:
    """Reads `0:32:int8:ram,32:256:fp16:mmap`.

    Args:
        text: tiers by comma, each `lo:hi:codec:residence`.
        dim: D; the tiers cover a prefix of it.

    Raises:
        ConfigError: a tier is not of that form, or they leave a gap, overlap or end beyond D.
    """
    specs = tuple(_parse_tier(part.strip()) for part in text.split(","))
    edge = 0
    for spec in specs:
        if spec.lo != edge or spec.hi <= spec.lo:
            raise ConfigError(
                f"tier {spec} does not begin where the one before ends ({edge}) and end after "
                "that; tiers are neighbouring slices from 0 upwards"
            )
        edge = spec.hi
    if edge > dim:
        raise ConfigError(f"tier {specs[-1]} ends beyond the {dim} coordinates there are")
    return specs


def _parse_tier(text: str) -> TierSpec:
    parts = text.split(":")
    if len(parts) != 4 or not (parts[0].isdigit() and parts[1].isdigit()):
        raise ConfigError(f"tier {text!r} is not of the form lo:hi:codec:ram or lo:hi:codec:mmap")
    if parts[3] not in get_args(Residence):
        raise ConfigError(f"tier {text!r}: {parts[3]!r} is not among {get_args(Residence)}")
    find_codec(parts[2]).bytes_per_row(int(parts[1]) - int(parts[0]))
    return TierSpec(int(parts[0]), int(parts[1]), parts[2], cast(Residence, parts[3]))


@dataclass(frozen=True)
class Tier:
    """An encoded slice of the coordinates of all rows."""

    spec: TierSpec
    vectors: Encoded

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays, wherever they are."""
        return self.vectors.nbytes


@dataclass(frozen=True)
class Tiers:
    """The tiers that together hold `[N, D]`."""

    parts: tuple[Tier, ...]

    def __len__(self) -> int:
        """N."""
        return len(self.parts[0].vectors)

    @property
    def dim(self) -> int:
        """D."""
        return self.parts[-1].spec.hi

    def decode(self, index: Any, lo: int, hi: int) -> Float32:
        """`[n, hi - lo]` float32: coordinates `[lo, hi)` of the rows `index`."""
        pieces = []
        for tier in self.parts:
            first, last = max(lo, tier.spec.lo), min(hi, tier.spec.hi)
            if first < last:
                whole = tier.vectors.decode(index)
                pieces.append(whole[:, first - tier.spec.lo : last - tier.spec.lo])
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)

    def bytes_per_row(self, residence: Residence) -> int:
        """Bytes of one row in the tiers of that residence; what all rows share is not counted."""
        return sum(
            tier.vectors.codec.bytes_per_row(tier.vectors.dim)
            for tier in self.parts
            if tier.spec.residence == residence
        )


def encode_tiers(vectors: Float32, specs: Sequence[TierSpec]) -> Tiers:
    """Tiers in memory (of either residence), of vectors `[N, D]` that fit there."""
    return Tiers(tuple(Tier(s, encode(vectors[:, s.lo : s.hi], s.codec)) for s in specs))
