"""Items that a version was given while it serves: a small catalogue, searched beside its own.

Shape legend: B users, A added items, D coordinates, K length of the lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
import polars as pl

from recsys.arrays import Float32, Int64
from recsys.retrieval.bundle.tiers import TierSpec, encode_tiers
from recsys.retrieval.bundle.unwritten_tiers import InMemory
from recsys.retrieval.filters import Filters, rows_of
from recsys.retrieval.funnel import Candidates, Funnel, Stage
from recsys.retrieval.interests import pair_products
from recsys.server.answering.content import Content
from recsys.server.answering.lookup import Lookup
from recsys.server.answering.served import Served


class Added:
    """Added items; never changed: another set of them is another object."""

    def __init__(
        self,
        served: Served,
        names: Sequence[Any],
        vectors: Float32,
        rows: Sequence[Mapping[str, Any]],
    ) -> None:
        """Args:
        served: the version that they are searched beside.
        names: `[A]` external ids, none of them the version's.
        vectors: `[A, D]` in its space.
        rows: of their columns, by the schema of the version's.
        """
        self.names, self.vectors, self._threads = list(names), vectors, served.threads
        texts = pl.Series("item_id", [str(name) for name in names], pl.String)
        self.lookup = Lookup(texts)
        frame = pl.DataFrame(list(rows), schema=served.content.frame.schema, orient="row")
        self.content = Content(frame, texts, None)
        tiers = encode_tiers(vectors, [TierSpec(0, served.bundle.dim, "fp32", "ram")])
        sizes, cosine = served.bundle.sizes, served.bundle.normalize
        self.items = InMemory(vectors, tiers, sizes, normalize=cosine)
        self._unit = self.items if cosine else InMemory(vectors, tiers, sizes, normalize=True)
        self._funnels: dict[tuple[int, bool], Funnel] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.names)

    def search(
        self, users: Float32, k: int, widths: Int64, filters: Filters, *, unit: bool
    ) -> Candidates:
        """The best K for each user; every item is scored.

        Args:
            users: `[B, D]`, or `[B, I, D]` of several interests.
            k: K.
            widths: `[B]` the granularity to rank by.
            filters: of these users and items.
            unit: by cosines, whatever the metric is.
        """
        items = np.full((len(users), k), -1, np.int64)
        scores = np.full((len(users), k), -np.inf, np.float32)
        for width in np.unique(widths):
            rows = np.flatnonzero(widths == width)
            funnel = self._funnel(int(width), unit).keeping([k])
            found = funnel.search(users[rows], k, rows_of(filters, rows))
            items[rows], scores[rows] = found.items, found.scores
        return Candidates(items, scores, widths)

    def scores(self, users: Float32, places: Int64, size: int) -> Float32:
        """`[M]` scores of the items at `places [M]` for `users [M, D]` or `[M, I, D]`, by a
        prefix.
        """
        norms = self.items.norms(size)
        stored = self.vectors[places, :size]
        own = pair_products(users[..., :size], stored, cosine=norms is not None)
        scores: Float32 = own if norms is None else own / norms[places]
        return scores

    def _funnel(self, size: int, unit: bool) -> Funnel:
        with self._lock:
            if (size, unit) not in self._funnels:
                items = self._unit if unit else self.items
                funnel = Funnel(items, [Stage(size, 1)], threads=self._threads)
                self._funnels[size, unit] = funnel
            return self._funnels[size, unit]
