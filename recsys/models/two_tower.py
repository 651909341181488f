"""Two towers: a trained row for each user and each item.

Matrix factorization (Koren et al. 2009; with BPR: Rendle et al., UAI 2009) and, with in-batch
negatives and logQ correction, the two-tower retrieval model of Yi et al., RecSys 2019; what else is
known of the items comes in through the item tower. What is trained is chosen by `loss`:

    loss: {name: bpr, negatives: {uniform: 256}}
    loss: {name: sampled_softmax, negatives: {uniform: 0, in_batch: true}}

Every interaction of a batch is a positive pair, the first of a history too: no order is looked at.
A user is an index into the user table, so only users of the training data have a vector of their
own; others get the mean of these.

Shape legend: B users, P pairs (positive user and item), N items, U users of the data set, D
embedding_dim, K negatives.
"""

from collections.abc import Callable
from typing import Literal, cast

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from recsys.data.batching import Batch
from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.devices import to_indices
from recsys.errors import ConfigError
from recsys.granularity import Granularities
from recsys.layers.dropout import Dropout
from recsys.losses.softmax import Negatives, NestedLossOutput, ScoreScales, nested_softmax
from recsys.models.base import Model, ModelConfig
from recsys.models.next_item import COSINE, complete
from recsys.tables import DenseConfig, EmbeddingTable, TableConfig, build_table
from recsys.tables.shared_rows.multiplexed import SharedSpace
from recsys.towers.items import ItemsConfig, ItemTower

_USERS_AT_ONCE = 1 << 14


class TwoTowerConfig(ModelConfig):
    """Options of the two towers: tables of users and items, and item features."""

    name: Literal["two_tower"] = "two_tower"
    granularities: Granularities = Granularities.model_validate(COSINE)
    """What is not named is that of `COSINE`, unless `normalize: false` is said."""
    history_length: int = Field(default=500, ge=2)
    """Most recent interactions of a user that are pairs of an epoch."""
    table: TableConfig = DenseConfig()
    """What holds the item rows; with `shared_table` the user rows too."""
    user_table: TableConfig = DenseConfig()
    """What holds the user rows."""
    shared_table: bool = False
    """Users and items share one space (Unified Embedding); a hashed table makes it worth while."""
    items: ItemsConfig | None = None
    """Items are made of features too; None: of their rows alone."""
    init_std: float = Field(default=0.02, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """On user and item vectors in training."""
    sparse_gradients: bool = False
    """With sampled negatives: update the rows a step has looked up and leave the others."""

    @field_validator("granularities", mode="before")
    @classmethod
    def _complete(cls, given: object) -> object:
        return complete(given)

    @property
    def item_features(self) -> tuple[str, ...]:
        """Those of the item tower."""
        return () if self.items is None else self.items.features

    @property
    def pairs(self) -> bool:
        """No order is looked at."""
        return True

    @property
    def nested(self) -> bool:
        """A smaller model is the prefixes of both tables; `recsys cut` is for encoders."""
        return False

    @model_validator(mode="after")
    def _one_space_or_two(self) -> "TwoTowerConfig":
        if self.shared_table and self.user_table != DenseConfig():
            raise ValueError("user_table is not used with shared_table; leave it out")
        if self.shared_table and self.table.name in ("clustered", "dynamic", "sharded"):
            raise ValueError(f"a {self.table.name} table holds items or users, not both of them")
        return self


class TwoTower(Model):
    """User vectors from a table, and item vectors from the item tower."""

    Config = TwoTowerConfig
    config: TwoTowerConfig
    trained_users: Tensor
    """`[U]` bool: those whose row training has moved."""
    by_index = True
    """Users are known by index; their histories are not looked at."""

    def __init__(
        self,
        config: TwoTowerConfig,
        num_items: int,
        *,
        num_users: int = 0,
        features: ItemFeatures | None = None,
        objective: Callable[..., NestedLossOutput] = nested_softmax,
    ) -> None:
        """Args:
        config: of this model.
        num_items: N.
        num_users: U.
        features: at least those that the config names.
        objective: what is trained, called as `nested_softmax` is.

        Raises:
            ConfigError: the tables do not fit, or there are no users.
        """
        super().__init__()
        if num_users < 1:
            raise ConfigError("a two-tower model needs the number of users; pass num_users")
        self.config, self.objective = config, objective
        self.granularities = config.granularities
        dim, std = config.granularities.embedding_dim, config.init_std
        sizes = config.granularities.sizes
        if config.shared_table:
            counts = {"items": num_items, "users": num_users}
            self.shared = SharedSpace(config.table, counts, dim, init_std=std, sizes=sizes)
            rows, users = self.shared.feature("items"), self.shared.feature("users")
            self.user_table: EmbeddingTable = users
            self.table: EmbeddingTable = rows
        else:
            built = build_table(config.user_table, num_users, dim, init_std=std, sizes=sizes)
            self.user_table = cast(EmbeddingTable, built)
            built = build_table(config.table, num_items, dim, init_std=std, sizes=sizes)
            self.table = cast(EmbeddingTable, built)
        if config.items is not None and features is not None:
            own = self.table if config.items.ids else None
            tower = ItemTower(config.items, own, features, config.granularities, init_std=std)
            self.table = cast(EmbeddingTable, tower)
        self.register_buffer("trained_users", torch.ones(num_users, dtype=torch.bool))
        self._mean: Tensor | None = None
        self.dropout = Dropout(config.dropout)
        self.scales = ScoreScales(config.granularities)

    def loss(self, batch: Batch, negatives: Negatives | None) -> NestedLossOutput:
        """The objective of every pair, at every granularity."""
        targets = to_indices(batch.targets, self.device)
        sparse = self.config.sparse_gradients and negatives is not None
        # One row for each user of the batch: its pairs share it.
        users = self.user_table(to_indices(batch.histories.users, self.device), sparse=sparse)
        lengths = to_indices(batch.histories.lengths, self.device)
        users = users.repeat_interleave(lengths, dim=0, output_size=len(targets))
        if negatives is None:
            items = self.table.vectors()
        else:
            items = self.table(torch.cat([negatives.items, targets]), sparse=sparse)
        return self.objective(
            self.dropout(users),
            self.dropout(items),
            targets,
            self.scales(),
            self.granularities,
            negatives=negatives,
        )

    def user_vectors(self, histories: Histories) -> Tensor:
        """`[B, D]`: users are known by index; their histories are not looked at.

        A user without a training row gets the mean of all users who have one.
        """
        users = to_indices(histories.users, self.device)
        found = self.user_table(users)
        # Whoever is asked for: of rows that lie with several processes all look up together.
        if self.training or self._mean is None:  # in eval mode rows stand still: once is enough
            self._mean = self._mean_user()
        if not len(self._mean):
            return found
        return torch.where(self.trained_users[users][:, None], found, self._mean)

    def train(self, mode: bool = True) -> "TwoTower":
        """As of any `nn.Module`; the mean user is taken anew, as rows may move."""
        self._mean = None
        return super().train(mode)

    def note_users(self, trained: np.ndarray) -> None:
        """`trained [U]` bool: who has a training row."""
        self.trained_users.copy_(torch.from_numpy(trained))

    def _mean_user(self) -> Tensor:
        """`[D]`, block by block; of vectors of length 1 where scores are cosines.

        `[0]` where every user has a training row.
        """
        if bool(self.trained_users.all()):
            return torch.zeros(0, device=self.device)
        total = torch.zeros(self.granularities.embedding_dim, device=self.device)
        for users in self.trained_users.nonzero().squeeze(1).split(_USERS_AT_ONCE):
            rows = self.user_table(users)
            rows = nn.functional.normalize(rows) if self.granularities.normalize else rows
            total += rows.sum(0)
        return total / self.trained_users.sum().clamp_min(1)

    def item_vectors(self) -> Tensor:
        """`[N, D]`."""
        return self.table.vectors()

    def item_vectors_at(self, items: Tensor) -> Tensor:
        """`[R]` int64 -> `[R, D]`."""
        return self.table(items)
