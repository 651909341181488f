"""Two towers with features: users of columns and histories, items of features.

Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations, RecSys
2019 (softmax over the batch's own items, corrected for how often each is drawn); with negatives
from the whole catalogue beside them, Yang et al., Mixed Negative Sampling for Learning Two-tower
Neural Networks in Recommendations, WWW Companion 2020:

    loss: {name: sampled_softmax, negatives: {in_batch: true, uniform: 1024}}

and with `views` the self-supervised regulariser of Yao et al., CIKM 2021, which draws two masked
views of an item's features together (`towers.views`).

A user is the sum of two parts: what the columns of the users table tell (`columns`), and a nested
linear map of the mean of the items of the history (`history`). Nobody has a row of their own, so
users whom training has not seen are made in the same way. In training a part is left out now and
then (`part_dropout`; Volkovs et al., DropoutNet, NeurIPS 2017), so that either is good alone: users
without a history, and histories of nobody known.

Departures from the papers: every prefix is trained; towers are as nested as the vectors, so sums
and block-triangular maps stand in the place of deep networks; scales are learned, one for each
granularity.

Shape legend: B users of a batch, P pairs, U users of the data set, N items, K negatives, D
embedding_dim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from recsys.data.batching import Batch
from recsys.data.features.loading import ItemFeatures
from recsys.data.features.user_columns import UserColumns
from recsys.data.histories import Histories
from recsys.devices import to_indices
from recsys.errors import ConfigError
from recsys.layers.dropout import Dropout
from recsys.losses.pairs.grouped import grouped_softmax
from recsys.losses.softmax import Negatives, NestedLossOutput, ScoreScales
from recsys.losses.views import ViewsConfig, view_loss, with_views
from recsys.models.base import Model
from recsys.models.next_item import trained_negatives
from recsys.models.pairs.base import PairConfig
from recsys.models.pairs.item_means import identity_map, matrix_of, mean_of_some
from recsys.tables import DenseConfig, EmbeddingTable, TableConfig, build_table
from recsys.towers.fold_in import PaddedFoldIn, mean_items
from recsys.towers.items import ItemsConfig, ItemTower
from recsys.towers.users import ColumnsConfig, column_tower
from recsys.towers.views import ViewSampler


class FeatureTowersConfig(PairConfig):
    """Options of two towers with features."""

    name: Literal["feature_towers"] = "feature_towers"
    columns: ColumnsConfig | None = None
    """Columns of the users table that users are made of; None: of none."""
    history: bool = True
    """Users are made of their items too."""
    history_dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of a user's items that training hides from the mean he is made of."""
    part_dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of the users of whom training sees one part alone: half of them the columns, half the
    history."""
    table: TableConfig = DenseConfig()
    """What holds the item rows."""
    items: ItemsConfig | None = None
    """What item vectors are made of beside ids; None: the table's rows are the item vectors."""
    views: ViewsConfig | None = None
    """The regulariser of items by two views of their features; None: without."""
    init_std: float = Field(default=0.1, gt=0)
    """Standard deviation of the first values."""
    sparse_gradients: bool = False
    """With sampled negatives: update the rows a step has looked up and leave the others."""

    @property
    def item_features(self) -> tuple[str, ...]:
        """Those of the item tower."""
        return () if self.items is None else self.items.features

    @property
    def user_columns(self) -> UserColumns | None:
        """Those of the user tower."""
        return self.columns

    @model_validator(mode="after")
    def _made_of_something(self) -> FeatureTowersConfig:
        if self.columns is None and not self.history:
            raise ValueError("users are made of nothing; name columns, or say history: true")
        if self.views is not None and len(self.item_features) < 2:
            raise ValueError(
                "views are of items with two features or more; name them in items.features, or "
                "leave views out"
            )
        return self


class FeatureTowers(Model):
    """Users of columns and items of their histories; items of rows and features."""

    Config = FeatureTowersConfig
    config: FeatureTowersConfig

    def __init__(
        self,
        config: FeatureTowersConfig,
        num_items: int,
        *,
        num_users: int = 0,
        features: ItemFeatures | None = None,
        user_features: ItemFeatures | None = None,
        objective: Callable[..., Any] = grouped_softmax,
    ) -> None:
        """Args:
        config: of this model.
        num_items: N.
        num_users: U; not read.
        features: at least those that `config.items` names.
        user_features: the columns that `config.columns` names, of U users.
        objective: what is trained, called as `grouped_softmax` is.

        Raises:
            ConfigError: what the config names was not given.
        """
        super().__init__()
        for name, wanted, found in (
            ("features", config.items, features),
            ("user_features", config.columns, user_features),
        ):
            if wanted is not None and found is None:
                raise ConfigError(f"{config.name} is made of features here; pass {name}")
        self.config, self.objective = config, objective
        self.granularities, std = config.granularities, config.init_std
        sizes = config.granularities.sizes
        rows = build_table(config.table, num_items, sizes[-1], init_std=std, sizes=sizes)
        self.table = cast(EmbeddingTable, rows)
        self._features = features
        if config.items is not None and features is not None:
            own = self.table if config.items.ids else None
            tower = ItemTower(config.items, own, features, config.granularities, init_std=std)
            self.table = cast(EmbeddingTable, tower)
        self.columns: ItemTower | None = None
        if config.columns is not None and user_features is not None:
            self.columns = column_tower(
                config.columns, user_features, config.granularities, init_std=std
            )
        self.mapped = identity_map(config.granularities) if config.history else None
        self.no_history: nn.Parameter | None = None
        if config.history:
            self.no_history = nn.Parameter(torch.zeros(sizes[-1]))
        self.dropout = Dropout(config.dropout)
        self.scales = ScoreScales(config.granularities)
        self._sampler: ViewSampler | None = None

    @property
    def by_index(self) -> bool:
        """Whether the history of somebody unknown says nothing."""
        return not self.config.history

    def loss(self, batch: Batch, negatives: Negatives | None) -> NestedLossOutput:
        """The objective of every pair, at every granularity, with that of the views."""
        targets = to_indices(batch.targets, self.device)
        lengths = to_indices(batch.histories.lengths, self.device)
        negatives = trained_negatives(self.table, negatives)
        if negatives is None:
            items = self.table.vectors()
            had = items[targets]
        else:
            places = torch.cat([negatives.items, targets])
            items = self.table(places, sparse=self.config.sparse_gradients)
            had = items[len(negatives.items) :]
        users = self._seen_users(to_indices(batch.histories.users, self.device), had, lengths)
        found: NestedLossOutput = self.objective(
            self.dropout(users),
            self.dropout(items),
            targets,
            self.scales(),
            self.granularities,
            negatives=negatives,
            lengths=lengths,
        )
        return found if self.config.views is None else self._with_views(found, self.config.views)

    def user_vectors(self, histories: Histories) -> Tensor:
        """`[B, D]`, also of empty histories: of a known user's columns and the items given."""
        recent = histories.last(self.config.history_length)
        users = self._of_columns(to_indices(recent.users, self.device))
        if self.mapped is not None:
            users = users + self._of_history(recent)
        if recent.added is not None:
            users = users + torch.tensor(recent.added, device=self.device)
        return users

    def item_vectors(self) -> Tensor:
        """`[N, D]`."""
        return self.table.vectors()

    def item_vectors_at(self, items: Tensor) -> Tensor:
        """`[R]` int64 -> `[R, D]`."""
        return self.table(items)

    def user_tower(self) -> nn.Module | None:
        """The map of histories as a network, for users of whom no column is known."""
        if self.mapped is None:
            return None
        shift = None if self.columns is None else self.columns.nothing().detach()
        unit = self.granularities.normalize
        return PaddedFoldIn(matrix_of(self.mapped), unit=unit, shift=shift)

    def column_users(self) -> tuple[ItemTower, Tensor] | None:
        """See `Model`."""
        if self.columns is None:
            return None
        nobody = self.columns.nothing()
        return self.columns, nobody if self.no_history is None else nobody + self.no_history

    def _of_columns(self, users: Tensor) -> Tensor:
        """`[B, D]` of user indices; -1: of whom nothing is known."""
        if self.columns is None:
            dim = self.granularities.embedding_dim
            return torch.zeros(len(users), dim, device=users.device)
        found = self.columns.encode(users.clamp_min(0))
        return torch.where(users[:, None] >= 0, found, self.columns.nothing())

    def _of_history(self, histories: Histories) -> Tensor:
        assert self.mapped is not None and self.no_history is not None
        vectors = self.table(to_indices(histories.items, self.device))
        offsets = to_indices(histories.offsets, self.device)
        places = torch.arange(len(vectors), device=self.device)
        means = mean_items(vectors, places, offsets, unit=self.granularities.normalize)
        some = (offsets.diff() > 0)[:, None]
        return torch.where(some, self.mapped(means), self.no_history)

    def _seen_users(self, users: Tensor, had: Tensor, lengths: Tensor) -> Tensor:
        """`[B, D]` in training, of users and the vectors of their items `had [P, D]`; parts and
        items are left out at random.
        """
        columns = self._of_columns(users)
        if self.mapped is None:
            return columns
        assert self.no_history is not None
        hidden, unit = self.config.history_dropout, self.granularities.normalize
        means, counts = mean_of_some(had, lengths, hidden=hidden, unit=unit)
        shown = counts > 0
        if self.columns is not None:
            draws = torch.rand(len(users), 1, device=users.device)
            half = self.config.part_dropout / 2
            shown = shown & (draws >= half)
            columns = torch.where(draws < 1.0 - half, columns, self.columns.nothing())
        return columns + torch.where(shown, self.mapped(means), self.no_history)

    def _with_views(self, found: NestedLossOutput, options: ViewsConfig) -> NestedLossOutput:
        assert isinstance(self.table, ItemTower) and self._features is not None
        if self._sampler is None:
            self._sampler = ViewSampler(self._features, self.config.item_features)
        views = self._sampler.draw(options.items)
        if len(views.items) < 2:  # nothing to be told from
            return found
        items = to_indices(views.items, self.device)
        first, second = (self.table.view(items, shown) for shown in (views.first, views.second))
        loss = view_loss(first, second, self.granularities, temperature=options.temperature)
        return with_views(found, loss, options.weight)
