"""Matrix factorization: users of a row of their own, of their items, or of both.

Koren, Bell and Volinsky, Computer 2009; with BPR Rendle et al., UAI 2009; with the cosine
contrastive loss and users of both kinds SimpleX, Mao et al., CIKM 2021. What is trained is chosen
by `loss`:

    loss: {name: sampled_softmax, negatives: {uniform: 2048}}
    loss: {name: bpr, negatives: {uniform: 256}}
    loss: {name: gbce, negatives: {uniform: 512}}
    loss: {name: cosine_contrastive, margin: 0.4, negative_weight: 150}

A user of items is a nested linear map of the mean of their vectors. In training some of his items
are hidden from that mean (`history_dropout`), so that he learns to forecast what he is not made of.

Departures from SimpleX: the two parts of a user are added with equal weight; batches hold all pairs
of a user.

Shape legend: B users of a batch, P pairs, U users of the data set, N items, K negatives, D
embedding_dim.
"""

from collections.abc import Callable
from typing import Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor

from recsys.data.batching import Batch
from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.devices import to_indices
from recsys.layers.graph import BipartiteGraph, begin_spectral
from recsys.losses.pairs.grouped import grouped_softmax
from recsys.losses.softmax import Negatives, NestedLossOutput
from recsys.models.pairs.base import PairModel, PairModelConfig
from recsys.models.pairs.item_means import identity_map, matrix_of, mean_of_some
from recsys.tables import DenseConfig, DenseTable, EmbeddingTable, TableConfig, build_table


class MFConfig(PairModelConfig):
    """Options of matrix factorization."""

    name: Literal["mf"] = "mf"
    users: Literal["own", "history", "both"] = "own"
    """What a user's vector is made of: a row of his own, the items he has had, or the sum."""
    history_dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of a user's items that training hides from the mean he is made of."""
    table: TableConfig = DenseConfig()
    """What holds the item rows."""
    user_table: TableConfig = DenseConfig()
    """What holds the user rows."""
    init: Literal["normal", "spectral"] | None = None
    """What rows begin as: random numbers, or the leading singular directions of the graph of users
    and items; None: the latter, if all tables are dense."""
    init_std: float = Field(default=0.1, gt=0)
    """Standard deviation of a coordinate of the rows (of spectral ones, of the first)."""
    sparse_gradients: bool = False
    """With sampled negatives: update the rows a step has looked up and leave the others."""

    @property
    def reads_rows(self) -> bool:
        """Where users are their items alone, there is nothing to fit, but popularity to count."""
        return self.users != "history" or self.popularity > 0

    @property
    def begins_spectral(self) -> bool:
        """What `init` comes to."""
        dense = isinstance(self.table, DenseConfig) and isinstance(self.user_table, DenseConfig)
        return self.init == "spectral" or (self.init is None and dense)

    @model_validator(mode="after")
    def _spectral_rows_are_dense(self) -> "MFConfig":
        for name, table in (("table", self.table), ("user_table", self.user_table)):
            if self.init == "spectral" and not isinstance(table, DenseConfig):
                raise ValueError(
                    f"init: spectral writes the rows of dense tables, and {name} is {table.name}; "
                    f"use {name}: {{name: dense}} or init: normal"
                )
        return self

    @model_validator(mode="after")
    def _no_rows_without_owners(self) -> "MFConfig":
        if self.users == "history" and self.user_table != DenseConfig():
            raise ValueError("user_table is not used with users: history; leave it out")
        return self


class MF(PairModel):
    """Item rows, and users of rows or of items."""

    Config = MFConfig
    config: MFConfig

    def __init__(
        self,
        config: MFConfig,
        num_items: int,
        *,
        num_users: int = 0,
        features: ItemFeatures | None = None,
        objective: Callable[..., NestedLossOutput] = grouped_softmax,
    ) -> None:
        """See `PairModel`."""
        super().__init__(config, num_items, num_users, objective)
        sizes, std = config.granularities.sizes, config.init_std
        self.table = cast(
            EmbeddingTable,
            build_table(config.table, num_items, sizes[-1], init_std=std, sizes=sizes),
        )
        self.user_table: EmbeddingTable | None = None
        if config.users != "history":
            rows = build_table(config.user_table, num_users, sizes[-1], init_std=std, sizes=sizes)
            self.user_table = cast(EmbeddingTable, rows)
        self.mapped = identity_map(config.granularities) if config.users != "own" else None

    def begin(self, rows: Callable[[int | None], Histories]) -> str | None:
        """Puts the leading directions into the rows, if the config says so."""
        if not self.config.begins_spectral:
            return None
        graph = BipartiteGraph(rows(None), self.num_users, self.num_items).to(self.device)
        users = cast(DenseTable, self.user_table).weight if self.user_table is not None else None
        items = cast(DenseTable, self.table).weight
        return begin_spectral(graph, users, items, self.config.init_std)

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Rows of users (zeros where they have none) and of items."""
        items = self.table.vectors()
        if self.user_table is None:
            return items.new_zeros(1, items.shape[1]).expand(self.num_users, -1), items
        return self.user_table.vectors(), items

    def loss(self, batch: Batch, negatives: Negatives | None) -> NestedLossOutput:
        """The objective of every pair, at every granularity; looks up the rows that it needs."""
        targets = to_indices(batch.targets, self.device)
        lengths = to_indices(batch.histories.lengths, self.device)
        sparse = self.config.sparse_gradients and negatives is not None
        if negatives is None:
            items = self.personal(self.table.vectors())
            had = items[targets] if self.mapped is not None else items
        else:
            rows = self.table(torch.cat([negatives.items, targets]), sparse=sparse)
            items = self.personal(rows)
            had = items[len(negatives.items) :]
        users = None if self.mapped is None else self._of_items(had, lengths)
        if self.user_table is not None:
            own = self.user_table(to_indices(batch.histories.users, self.device), sparse=sparse)
            users = own if users is None else own + users
        found: NestedLossOutput = self.objective(
            self.dropout(self.personal(cast(Tensor, users))),
            self.dropout(items),
            targets,
            self.scales(),
            self.granularities,
            negatives=negatives,
            lengths=lengths,
        )
        return found

    def personal_users(self, histories: Histories) -> Tensor:
        """`[B, D]`; of a user who is made of items too, from the given ones."""
        if self.mapped is None or self.config.fold_known:
            return super().personal_users(histories)
        rows = histories.last(self.config.history_length)
        if self.user_table is None:
            return self.fold_in(rows)
        users = to_indices(rows.users, self.device)
        known = (users >= 0) & self.trained_users[users.clamp_min(0)]
        own = self._standing()[0][users.clamp_min(0)] + self.mapped(self._means(rows))
        return torch.where(known[:, None], own, self.fold_in(rows))

    def fold_matrix(self) -> Tensor:
        """`[D, D]`: the trained map where users are their items alone, else a fitted one."""
        if self.mapped is None or self.user_table is not None:
            return super().fold_matrix()
        return matrix_of(self.mapped)

    def fitted_users(self, rows: Histories) -> Tensor:
        """`[B, D]`: see `PairModel`."""
        own = super().fitted_users(rows)
        return own if self.mapped is None else own + self.mapped(self._means(rows))

    def _of_items(self, had: Tensor, lengths: Tensor) -> Tensor:
        """`[B, D]` of the vectors of their items `had [P, D]`, of which some are hidden."""
        assert self.mapped is not None
        hidden, unit = self.config.history_dropout, self.granularities.normalize
        users: Tensor = self.mapped(mean_of_some(had, lengths, hidden=hidden, unit=unit)[0])
        return users
