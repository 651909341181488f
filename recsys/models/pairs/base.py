"""The base of models of users and items without sequences.

A model of this kind says which vectors its users and items have (`vectors`); everything else is
here: the objective of a batch of pairs, users whom training has not seen (fold-in), and the network
that makes users of anonymous histories at serving.

Shape legend: B users of a batch, P pairs, U users of the data set, N items, K negatives, D
embedding_dim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn.functional import embedding, normalize

from recsys.data.batching import Batch
from recsys.data.histories import Histories
from recsys.devices import to_indices
from recsys.errors import ConfigError
from recsys.granularity import Granularities
from recsys.layers.dropout import Dropout
from recsys.losses.softmax import Negatives, NestedLossOutput, ScoreScales
from recsys.models.base import Model, ModelConfig
from recsys.models.next_item import complete
from recsys.towers.fold_in import PaddedFoldIn, fit_fold_in, mean_items
from recsys.towers.popularity import PopularityCoordinates, popularity_of

_BLOCK = 1 << 14


def _fixed_scale(_: Sequence[int]) -> dict[str, object]:
    return {"learned_scale": False, "initial_scale": 10.0}


class PairConfig(ModelConfig):
    """Options of every model of pairs.

    Loss and scale were chosen on the validation parts of Gowalla, ML-100K and Beauty.
    """

    usual: ClassVar[Mapping[str, Any]] = {
        "loss": {"name": "sampled_softmax", "negatives": {"uniform": 1 << 16}},
        "batching": {"batch_tokens": 4096},
        "trainer": {"optimizer": {"learning_rate": 0.01}},
    }
    """A user's scores of the candidates are computed once for all his pairs, so that many negatives
    and large batches are cheap; of a catalogue of up to 20,000 items nearly all are candidates."""
    granularities: Granularities = Granularities.model_validate(complete({}, _fixed_scale))
    """What is not named: cosines, times 10 at every granularity; nothing of that if
    `normalize: false` is said."""
    history_length: int = Field(default=1000, ge=1)
    """Most recent interactions of a user that are pairs of an epoch, and of a history that makes a
    user."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """On user and item vectors in training."""

    @field_validator("granularities", mode="before")
    @classmethod
    def _complete(cls, given: object) -> object:
        return complete(given, _fixed_scale)

    @property
    def pairs(self) -> bool:
        """No order is looked at."""
        return True

    @property
    def groups_pairs(self) -> bool:
        """The objective gets each user once."""
        return True


class PairModelConfig(PairConfig):
    """Options of every model of pairs whose users have vectors of their own."""

    fold_known: bool = False
    """Users with a vector of their own are folded in too, from the history that is given: where own
    vectors have learned the training rows by heart, these are better."""
    popularity: float = Field(default=0.0, ge=0, le=1)
    """What log(1 + training rows of an item) adds to its cosine, at every granularity; the last of
    the coordinates that each adds holds it (`towers.popularity`). 0: they are as all others."""

    @model_validator(mode="after")
    def _popularity_has_room(self) -> PairModelConfig:
        if not self.popularity:
            return self
        if not self.granularities.normalize:
            raise ValueError(
                f"popularity {self.popularity:g} is added to cosines, and these scores are not "
                "(granularities.normalize: false); leave one of the two out"
            )
        narrow = [hi for lo, hi in self.granularities.slices if hi - lo < 2]
        if narrow:
            raise ValueError(
                f"popularity takes one coordinate of each granularity, and {narrow[0]} adds no "
                f"other to the one before (sizes {list(self.granularities.sizes)}); use sizes that "
                "are further apart, or popularity: 0"
            )
        return self

    @property
    def reads_rows(self) -> bool:
        """Users are folded in by a map that is fitted to all rows."""
        return True


class PairModel(Model):
    """Users by index with vectors of their own; others are made of their items."""

    config: PairModelConfig
    trained_users: Tensor
    """`[U]` bool: those with a training row."""

    def __init__(
        self, config: PairModelConfig, num_items: int, num_users: int, objective: Callable[..., Any]
    ) -> None:
        """Args:
        config: of the model.
        num_items: N.
        num_users: U.
        objective: what is trained, called as `grouped_softmax` is.

        Raises:
            ConfigError: there are no users.
        """
        super().__init__()
        if num_users < 1:
            raise ConfigError(f"{config.name} needs the number of users; pass num_users")
        self.config, self.objective = config, objective
        self.granularities = config.granularities
        self.num_items, self.num_users = num_items, num_users
        self.register_buffer("trained_users", torch.ones(num_users, dtype=torch.bool))
        self.dropout = Dropout(config.dropout)
        self.scales = ScoreScales(config.granularities)
        self.shared = (
            PopularityCoordinates(config.granularities, config.popularity)
            if config.popularity
            else None
        )
        self._rows: Histories | None = None
        self._kept: tuple[Tensor, Tensor] | None = None
        self._items: Tensor | None = None
        self._popularity: Tensor | None = None
        self._fold: Tensor | None = None

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Users `[U, D]` and items `[N, D]`; differentiable in training."""
        raise NotImplementedError

    def loss(self, batch: Batch, negatives: Negatives | None) -> NestedLossOutput:
        """The objective of every pair, at every granularity."""
        targets = to_indices(batch.targets, self.device)
        users_UD, items_ND = map(self.personal, self.vectors())
        users = users_UD[to_indices(batch.histories.users, self.device)]
        items = items_ND
        if negatives is not None:
            items = embedding(torch.cat([negatives.items, targets]), items_ND)
        found: NestedLossOutput = self.objective(
            self.dropout(users),
            self.dropout(items),
            targets,
            self.scales(),
            self.granularities,
            negatives=negatives,
            lengths=to_indices(batch.histories.lengths, self.device),
        )
        return found

    def personal(self, vectors: Tensor) -> Tensor:
        """`[.., D]`: what is trained of them; zeros where popularity will stand."""
        return vectors if self.shared is None else self.shared.without(vectors)

    def user_vectors(self, histories: Histories) -> Tensor:
        """`[B, D]`: the own vector of a user with a training row; of others what their history's
        items make of them.
        """
        users = self.personal_users(histories)
        return users if self.shared is None else self.shared.of_users(users)

    def personal_users(self, histories: Histories) -> Tensor:
        """`[B, D]`: user vectors without popularity."""
        if self.config.fold_known:
            return self.fold_in(histories.last(self.config.history_length))
        users_UD, _ = self._standing()
        users = to_indices(histories.users, self.device)
        known = users >= 0
        known &= self.trained_users[users.clamp_min(0)]
        found = users_UD[users.clamp_min(0)]
        strangers = (~known).nonzero().squeeze(1)
        if len(strangers):
            rows = histories.rows(strangers.cpu().numpy()).last(self.config.history_length)
            found[strangers] = self.fold_in(rows).to(found.dtype)
        return found

    def fold_in(self, histories: Histories) -> Tensor:
        """`[B, D]` of non-empty histories, whoever has them; without popularity."""
        return self._means(histories) @ self.fold_matrix().T

    def fold_matrix(self) -> Tensor:
        """`[D, D]`: see `fit_fold_in`; fitted when it is first asked for, after training.

        Raises:
            ConfigError: the model has not been told its training rows.
        """
        if self._fold is None or self.training:
            if self._rows is None:
                raise ConfigError(
                    f"{self.config.name} folds users in by what it was fitted on, and was not told "
                    "(note_rows)"
                )
            self._fold = self._fit_fold(self._rows)
        return self._fold

    def _fit_fold(self, rows: Histories) -> Tensor:
        rows = rows.rows(np.flatnonzero(rows.lengths > 0)).last(self.config.history_length)
        users = self.fitted_users(rows)
        users = normalize(users, dim=1) if self.granularities.normalize else users
        return fit_fold_in(self._means(rows), users, self.granularities)

    def fitted_users(self, rows: Histories) -> Tensor:
        """`[B, D]` of users with a training row, made of what they were trained on."""
        return self._standing()[0][to_indices(rows.users, self.device)]

    def _means(self, histories: Histories) -> Tensor:
        items = self._standing()[1]
        indices = to_indices(histories.items, self.device)
        offsets = to_indices(histories.offsets, self.device)
        return mean_items(items, indices, offsets, unit=self.granularities.normalize)

    def item_vectors(self) -> Tensor:
        """`[N, D]`."""
        if self.shared is None or self.training:
            return self._with_popularity(self._standing()[1])
        if self._items is None:
            self._items = self._with_popularity(self._standing()[1]).detach()
        return self._items

    def item_vectors_at(self, items: Tensor) -> Tensor:
        """`[R]` int64 -> `[R, D]`; differentiable in training."""
        # Before popularity is left out of all of them: a step that trains asks for a few.
        vectors = self.vectors()[1] if self.training else self._standing()[1]
        return self._with_popularity(vectors[items], items)

    def why_items_move(self) -> str | None:
        """Popularity is counted anew."""
        return "model.popularity counts their rows anew" if self.shared is not None else None

    def user_tower(self) -> nn.Module:
        """Fold-in as a network."""
        unit = self.granularities.normalize
        return PaddedFoldIn(self.fold_matrix(), unit=unit, shared=self.shared)

    def _with_popularity(self, vectors: Tensor, items: Tensor | None = None) -> Tensor:
        """`[N, D]`, or `[R, D]` of some items."""
        if self.shared is None:
            return vectors
        if self._popularity is None:
            raise ConfigError(
                f"{self.config.name} counts the rows of items (model.popularity), and was not told "
                "them (note_rows)"
            )
        popularity = self._popularity.to(vectors.device)
        return self.shared.of_items(vectors, popularity if items is None else popularity[items])

    def train(self, mode: bool = True) -> PairModel:
        """As of any `nn.Module`; what evaluation keeps is made anew."""
        self._kept = self._fold = self._items = None
        return super().train(mode)

    def note_users(self, trained: np.ndarray) -> None:
        """`trained [U]` bool: who has a training row."""
        self.trained_users.copy_(torch.from_numpy(trained))

    def note_rows(self, rows: Histories) -> None:
        """Keeps what the model is fitted on."""
        self._rows, self._kept, self._fold, self._items = rows, None, None, None
        if self.shared is not None:
            counts = np.bincount(rows.items, minlength=self.num_items)
            self._popularity = popularity_of(torch.from_numpy(counts)).to(self.device)

    def _standing(self) -> tuple[Tensor, Tensor]:
        """The vectors without popularity; in evaluation mode they are made once."""
        if self.training:
            users, items = map(self.personal, self.vectors())
            return users, items
        if self._kept is None:
            with torch.no_grad():
                users, items = map(self.personal, self.vectors())
            self._kept = users.detach(), items.detach()
        return self._kept
