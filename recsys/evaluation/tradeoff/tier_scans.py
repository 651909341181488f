"""Scans of unwritten tiers: their bytes, and their recall of exact search.

Shape legend: B users, N items, D coordinates, K length of the lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from recsys.arrays import Float32, Float64, Int64
from recsys.errors import ConfigError
from recsys.evaluation.tradeoff.sweep import Queries
from recsys.retrieval.bundle.tiers import Tier, Tiers, TierSpec
from recsys.retrieval.bundle.unwritten_tiers import InMemory
from recsys.retrieval.codecs.base import Encoded
from recsys.retrieval.codecs.product import Product
from recsys.retrieval.codecs.registry import encode, find_codec
from recsys.retrieval.funnel import Funnel, Stage
from recsys.retrieval.routing import overlaps

_NORM = 4
_READY = 1 << 28  # bytes of encoded tiers to hold; or as many as the vectors have


def with_the_rest(tiers: Sequence[TierSpec], dim: int) -> list[TierSpec]:
    """Tiers in memory, and the coordinates behind them mapped as fp16."""
    return [*tiers, TierSpec(tiers[-1].hi, dim, "fp16", "mmap")]


class TierScans:
    """Items and users, with the exact results of the users."""

    def __init__(
        self,
        vectors: Float32,
        normalize: bool,
        queries: Queries,
        *,
        edges: Sequence[int] = (),
        ranked: bool = False,
        keep: int = 100,
        k: int = 10,
        threads: int | None = None,
    ) -> None:
        """Searches exactly.

        Args:
            vectors: `[N, D]` items.
            normalize: scores are divided by the norms of the items' prefixes.
            queries: users, and what they have seen.
            edges: where tiers may begin and end: what is learned between two serves all tiers.
            ranked: recall is that of the final lists, not of the candidates: all coordinates rank
                them, those in memory as they are stored, the others as fp16.
            keep: candidates of a scan.
            k: K.
            threads: of the searches; None: all cores.

        Raises:
            ConfigError: fewer candidates than K.
        """
        if not 0 < k <= keep:
            raise ConfigError(f"{keep} candidates cannot give lists of {k}; keep more")
        self.vectors, self.normalize, self.queries = vectors, normalize, queries
        self.edges, self.keep, self.threads = tuple(edges), min(keep, len(vectors)), threads
        self.ranked, self.k = ranked, min(k, len(vectors))
        self._ready: dict[TierSpec, Tier] = {}
        whole = [TierSpec(0, self.dim, "fp32", "ram")]
        self._exact = self._search(whole, [Stage(self.dim, self.k)])
        self._ready.clear()

    @property
    def dim(self) -> int:
        """D."""
        return int(self.vectors.shape[1])

    def least_bytes(self, tiers: Sequence[TierSpec]) -> float:
        """Bytes of one item, but for what all items share: nothing is encoded to know it."""
        each = [find_codec(tier.codec).bytes_per_row(tier.hi - tier.lo) for tier in tiers]
        return sum(each) + _NORM * self.normalize

    def nbytes(self, tiers: Sequence[TierSpec]) -> float:
        """Bytes of one item: codes, scales, its share of codebooks, its norm under cosines."""
        held = sum(self._tier(tier).nbytes for tier in tiers)
        return held / len(self.vectors) + _NORM * self.normalize

    def recalls(self, tiers: Sequence[TierSpec]) -> Float64:
        """`[B]` share of the exact first K among the first `keep` of a scan, or in its lists."""
        stages = [Stage(tiers[-1].hi, self.keep)]
        if self.ranked:
            tiers, stages = with_the_rest(tiers, self.dim), [*stages, Stage(self.dim, self.k)]
        return overlaps(self._search(tiers, stages), self._exact)

    def _search(self, tiers: Sequence[TierSpec], stages: Sequence[Stage]) -> Int64:
        parts = Tiers(tuple(self._tier(tier) for tier in tiers))
        sizes = [stage.granularity for stage in stages]
        items = InMemory(self.vectors, parts, sizes, normalize=self.normalize)
        funnel = Funnel(items, stages, threads=self.threads)
        batches = self.queries.batches()
        return np.concatenate([funnel.search(users, None, seen).items for users, seen in batches])

    def _tier(self, spec: TierSpec) -> Tier:
        """Encoded once, as far as memory goes: those that were not asked for the longest leave."""
        tier = self._ready.pop(spec, None)
        if tier is None:
            tier = Tier(spec, self._encoded(spec))
        self._ready[spec] = tier
        held, most = sum(t.nbytes for t in self._ready.values()), max(_READY, self.vectors.nbytes)
        while held > most and len(self._ready) > 1:
            held -= self._ready.pop(next(iter(self._ready))).nbytes
        return tier

    def _encoded(self, spec: TierSpec) -> Encoded:
        """Product codes from one edge to the next are put together; else as the codec does it.

        Each part is learned by itself, so only time depends on how many are learned at once.
        """
        codec, cuts = find_codec(spec.codec), [e for e in self.edges if spec.lo < e < spec.hi]
        if not cuts or not isinstance(codec, Product):
            return encode(self.vectors[:, spec.lo : spec.hi], spec.codec)
        dim, lengths = spec.hi - spec.lo, np.diff([spec.lo, *cuts, spec.hi])
        parts, over = np.divmod(lengths * codec.parts_of(dim), dim)
        if over.any() or (codec.bits == 4 and (parts[:-1] % 2).any()):
            return encode(self.vectors[:, spec.lo : spec.hi], spec.codec)
        edges, pieces = [spec.lo, *cuts, spec.hi], []
        for lo, hi, number in zip(edges[:-1], edges[1:], parts.tolist(), strict=True):
            own = replace(codec, num_parts=number)
            pieces.append(self._tier(replace(spec, lo=lo, hi=hi, codec=own.name)).vectors)
        codes = np.concatenate([piece.rows["codes"] for piece in pieces], axis=1)
        books = np.concatenate([piece.shared["codebooks"] for piece in pieces])
        return Encoded(codec, dim, {"codes": codes}, {"codebooks": books})
