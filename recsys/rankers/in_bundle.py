"""The ranker of a bundle, opened with the bundle's own scores.

Shape legend: B users, K candidates, k length of the lists.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recsys.arrays import Float32, Int64
from recsys.data.histories import Histories
from recsys.errors import ConfigError, DataError
from recsys.rankers.features.requests import Requests
from recsys.rankers.fitted import Ranking, load_ranker
from recsys.retrieval.bundle.loading import Bundle
from recsys.retrieval.bundle.manifest import tiers_hash
from recsys.retrieval.bundle_funnel import open_funnel
from recsys.retrieval.funnel import Funnel

RANKER = "ranker"
"""The folder of a bundle that holds its ranker."""


class BundleRanker:
    """Ranks candidates of a bundle's funnel."""

    def __init__(self, bundle: Bundle) -> None:
        """Opens the ranker of a bundle.

        Raises:
            ConfigError: the bundle has none, or one that was fitted on other scores.
            DataError: it is damaged.
            InstallationError: its library is missing.
        """
        entry = bundle.manifest.ranker
        if entry is None:
            raise ConfigError(
                f"{bundle.folder} has no ranker; fit one with `recsys rank fit`, or leave out "
                "--ranker (ranker=True)"
            )
        folder = bundle.folder / RANKER
        fitted = load_ranker(folder, verify=False)  # the bundle's own sums hold its files
        if fitted.manifest.scores != entry.scores or entry.tiers != tiers_hash(bundle.manifest):
            raise DataError(
                f"the ranker in {folder} was fitted on the scores of another version; fit it again "
                "(`recsys rank fit`)"
            )
        self.bundle, self.stages, self.keep = bundle, entry.stages, entry.keep
        self.name = entry.name
        self._ranking: Ranking = fitted.on(bundle)
        self._times = fitted.knowledge.history_times

    def funnel(self, threads: int | None) -> Funnel:
        """The funnel whose candidates it was fitted on."""
        return open_funnel(
            self.bundle, stages=self.stages, k=self.keep, routed=False, threads=threads
        )

    def checked_k(self, k: int) -> int:
        """`k`, if so many are ranked.

        Raises:
            ConfigError: they are not.
        """
        if k > self.keep:
            raise ConfigError(
                f"{k} items are requested, and the ranker of {self.bundle.folder} ranks "
                f"{self.keep} candidates; ask for fewer, or leave the ranker out: "
                "--no-ranker (ranker=False)"
            )
        return k

    def best(
        self, histories: Histories, vectors: Float32, candidates: Int64, k: int
    ) -> tuple[Int64, Float32]:
        """`[B, k]` items and scores of candidates `[B, K]`, best first.

        Args:
            histories: of the users; they may have times, and the time of the request.
            vectors: `[B, D]` of the users.
            candidates: in the funnel's order, -1 behind the end.
            k: length of the lists.
        """
        asked = Requests(vectors, histories, candidates, histories.asked_at)
        return self._ranking.best(asked, k)

    def with_times(self, histories: Histories, positions: Int64) -> Histories:
        """The bundle's own histories with the times at `positions [T]` of all, where known."""
        if self._times is None:
            return histories
        return replace(histories, timestamps=np.asarray(self._times)[positions])
