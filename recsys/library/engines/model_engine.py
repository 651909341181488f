"""A model in torch, trained or a baseline, as an engine: ranked by the evaluator's own code.

Shape legend: B users, K interests of a user, N items, D coordinates, M pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import polars as pl

from recsys.arrays import Float32, Int64
from recsys.baselines.popularity import Popularity
from recsys.data.dataset import Dataset
from recsys.data.histories import Histories, item_counts, select
from recsys.devices import reading
from recsys.errors import ConfigError, GranularityError
from recsys.evaluation.recommend import Recommendations
from recsys.granularity import Granularities
from recsys.library.engines.engine import Found, FunnelLister, Lister, in_pieces, unit_rows
from recsys.model_protocols import (
    FlatModel,
    RepeatModel,
    ScoreModel,
    VectorModel,
    interests_of,
    time_read,
)
from recsys.models import Model
from recsys.retrieval.bundle.tiers import TierSpec
from recsys.retrieval.bundle.unwritten_tiers import InMemory
from recsys.retrieval.funnel import Funnel, parse_stages
from recsys.retrieval.interests import shape_of_users
from recsys.serving.item_tower_export import column_users_of

_USERS = 1024


class ModelEngine:
    """Ranks items for histories by a model in evaluation mode."""

    def __init__(self, model: VectorModel | ScoreModel, dataset: Dataset, name: str) -> None:
        """Args:
        model: fitted on `dataset`.
        dataset: whose users and items it knows.
        name: of the model, for messages.
        """
        self.model, self.dataset, self.name = model, dataset, name
        self.num_items = dataset.num_items
        self.sizes: tuple[int, ...] = ()
        if isinstance(model, VectorModel) and not isinstance(model, FlatModel):
            self.sizes = model.granularities.sizes
        self.by_index = bool(getattr(model, "by_index", False))
        self.personal = not isinstance(model, Popularity)
        self.reads_time = time_read(model)
        self.columns = column_users_of(model) if isinstance(model, Model) else None

    def own_histories(self, users: Int64) -> Histories:
        """All that the data set holds of users `[B]`."""
        offsets = self.dataset.offsets
        return select(self.dataset, users, offsets[users], offsets[users + 1])

    def lister(
        self,
        k: int,
        size: int | None,
        stages: str | None,
        allowed: Int64 | None,
        ranker: bool | None = None,
    ) -> Lister:
        """See `Engine`; rankers are served with bundles."""
        if ranker:
            raise ConfigError(
                f"{self.name} is no bundle, and rankers are served with bundles: export it, then "
                "`recsys rank attach`; or leave out --ranker (ranker=True)"
            )
        if stages is None:
            return ExactLister(self._ready(size, allowed))
        if size is not None:
            raise ConfigError(
                f"granularity {size} and stages {stages!r} both say by what to rank; give one"
            )
        return FunnelLister(self._funnel(stages, k), self._vectors, allowed, self._repeats())

    def pair_scores(
        self, histories: Histories, rows: Int64, items: Int64, size: int | None
    ) -> Float32:
        """See `Engine`."""
        return self._ready(size, None).pair_scores(histories, rows, items)

    def item_vectors(self, size: int | None) -> Float32:
        """See `Engine`."""
        model, dim = self._of_vectors(size)
        with reading(self.model):
            vectors = model.item_vectors().detach().float().cpu().numpy()[:, :dim]
        return unit_rows(vectors) if model.granularities.normalize else vectors

    def user_vectors(self, histories: Histories, *, own: bool, size: int | None) -> Float32:
        """See `Engine`."""
        model, dim = self._of_vectors(size)
        vectors = self._vectors(histories, own)[..., :dim]
        return unit_rows(vectors) if model.granularities.normalize else vectors

    def popularity(self) -> Int64:
        """See `Engine`."""
        return item_counts(self.dataset, self.dataset.offsets[:-1], self.dataset.offsets[1:])

    def item_frame(self) -> pl.DataFrame:
        """See `Engine`."""
        return self.dataset.item_frame()

    def _ready(self, size: int | None, allowed: Int64 | None) -> Recommendations:
        cut = None if size is None else Granularities(sizes=(self._checked(size),))
        return Recommendations(self.model, self.num_items, granularities=cut, allowed=allowed)

    def _checked(self, size: int) -> int:
        if size not in self.sizes:
            what = f"is not among {self.sizes}" if self.sizes else "is of nested vectors"
            raise GranularityError(
                f"granularity {size} {what} in {self.name}; "
                + ("choose one of these, or train with it" if self.sizes else "leave it out")
            )
        return size

    def _of_vectors(self, size: int | None) -> tuple[VectorModel, int]:
        if not isinstance(self.model, VectorModel):
            raise ConfigError(f"{self.name} has no vectors: it scores items without")
        whole = self.model.granularities.embedding_dim
        return self.model, whole if size is None else self._checked(size)

    def _vectors(self, histories: Histories, _own: bool) -> Float32:
        model, dim = self._of_vectors(None)
        vectors = np.empty(shape_of_users(len(histories), interests_of(model), dim), np.float32)
        order = np.argsort(histories.lengths, kind="stable")
        with reading(self.model):
            for piece in in_pieces(len(order), _USERS):
                rows = order[piece]
                vectors[rows] = model.user_vectors(histories.rows(rows)).float().cpu().numpy()
        return vectors

    def _funnel(self, stages: str, k: int) -> Funnel:
        if not self.sizes:
            raise ConfigError(f"{self.name} has no nested vectors, so no stages; leave them out")
        granularities = cast(VectorModel, self.model).granularities
        chosen = parse_stages(stages, k)
        for stage in chosen:
            self._checked(stage.granularity)
        with reading(self.model):
            items = cast(VectorModel, self.model).item_vectors().detach().float().cpu().numpy()
        tiers = [TierSpec(0, granularities.embedding_dim, "fp32", "ram")]
        normalize = granularities.normalize
        return Funnel(InMemory(items, tiers, self.sizes, normalize=normalize), chosen)

    def _repeats(self) -> Mapping[int, float]:
        added = None
        if isinstance(self.model, RepeatModel):
            added = self.model.score_of_repeats(self.sizes)
        return {} if added is None else dict(zip(self.sizes, added.tolist(), strict=True))


class ExactLister:
    """Lists as the evaluator ranks."""

    def __init__(self, ready: Recommendations) -> None:
        """Of a model made ready."""
        self._ready = ready

    def lists(self, histories: Histories, *, own: bool, k: int, filter_seen: bool) -> Found:  # noqa: ARG002
        """See `Lister`."""
        found = self._ready.lists(histories, k, filter_seen=filter_seen)
        return found.items, found.scores
