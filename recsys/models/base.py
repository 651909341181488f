"""The base classes of trained models and their configs, for models inside and outside the package.

Shape legend: B users, K interests of a user, T tokens, N items, D embedding_dim, L longest history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.config import StrictModel
from recsys.data.batching import Batch
from recsys.data.features.user_columns import UserColumns
from recsys.data.histories import Histories
from recsys.granularity import Granularities
from recsys.layers.jagged import Time
from recsys.losses.softmax import Negatives, NestedLossOutput, ScoreScales
from recsys.towers.items import ItemTower


class ModelConfig(StrictModel):
    """Options of every model; subclasses add their own options."""

    name: str
    """The name the model is registered by."""
    granularities: Granularities = Granularities()
    history_length: int = Field(default=50, ge=1)
    """Most recent interactions the model sees."""

    usual: ClassVar[Mapping[str, Any]] = {}
    """Sections of a run config as this kind of model is trained unless the config says otherwise:
    a tree as in YAML, such as `{"batching": {"batch_tokens": 4096}}`; what it does not name has the
    default of every run."""

    @property
    def item_features(self) -> tuple[str, ...]:
        """Names of the item features that the model reads."""
        return ()

    @property
    def user_columns(self) -> UserColumns | None:
        """Columns of the users table that the model reads; it is built with `user_features=`."""
        return None

    @property
    def pairs(self) -> bool:
        """Users are known by index, and training takes (user, item) pairs without an order."""
        return False

    @property
    def groups_pairs(self) -> bool:
        """The objective is a loss's `grouped`: it gets each user of a batch of pairs once."""
        return False

    @property
    def reads_rows(self) -> bool:
        """The model is told all rows it is fitted on (`Model.note_rows`), such as a graph."""
        return False

    @property
    def order_free(self) -> bool:
        """The order of a history does not matter, so data sets without one are taken."""
        return self.pairs

    @property
    def own_loss(self) -> bool:
        """It trains by an objective of its own: the section `loss` is not read, and no negatives
        are drawn.
        """
        return self.solved

    @property
    def solved(self) -> bool:
        """It is fitted by a solver of its own (`Model.solve`), without gradients."""
        return False

    @property
    def updatable(self) -> bool:
        """A run can be gone on with on new rows (`recsys update`)."""
        return not self.solved

    @property
    def reads_time(self) -> Time:
        """What the model reads of time: none; history, when each interaction was; request, also
        when the next item is asked for.
        """
        return "none"

    @property
    def interests(self) -> int:
        """Vectors of each user; more than 1: `user_vectors` gives `[B, K, D]`."""
        return 1

    @property
    def counts_seen(self) -> bool:
        """Training needs all that its users have had, beyond their last `history_length` rows."""
        return False

    @property
    def nested(self) -> bool:
        """No coordinate sees a later one, so that a smaller model is the leading corner of every
        tensor (`recsys cut`).
        """
        return False

    @property
    def blocks(self) -> tuple[int, ...]:
        """The granularities that have a model of their own, if it is nested."""
        return self.granularities.sizes


class Model(nn.Module):
    """A trained model: item vectors, and user vectors from histories, at every granularity.

    Built as `module(config, num_items, num_users=, features=, objective=)`: N, U, the item features
    that the config names (or None), and what is trained, called as `nested_softmax` is. Random
    numbers are torch's own, seeded before.
    """

    Config: ClassVar[type[ModelConfig]]
    """Reads the section `model` of a run config."""
    config: ModelConfig
    granularities: Granularities
    """Those of the config."""
    scales: ScoreScales
    """The scale of each granularity's scores."""

    @property
    def device(self) -> torch.device:
        """Where the model is, and all that is made for it."""
        return self.scales.log_scale.device

    @property
    def reads_time(self) -> Time:
        """That of the config."""
        return self.config.reads_time

    @property
    def num_interests(self) -> int:
        """K, that of the config."""
        return self.config.interests

    def loss(self, batch: Batch, negatives: Negatives | None) -> NestedLossOutput:
        """The objective of a batch; `negatives` None: over all items."""
        raise NotImplementedError

    def solve(self, rows: Histories) -> Iterator[None]:
        """Fits the model in rounds, one each time it is asked on; of models that are `solved`.

        After each round the model can be measured; one that is solved at once has one round.

        Args:
            rows: what may be fitted on, one history for every user (some may be empty).
        """
        raise NotImplementedError

    def user_vectors(self, histories: Histories) -> Tensor:
        """`[B, D]` of non-empty histories, from their most recent `history_length` rows;
        `[B, K, D]` with `num_interests` K above 1.
        """
        raise NotImplementedError

    def item_vectors(self) -> Tensor:
        """`[N, D]`."""
        raise NotImplementedError

    def user_tower(self) -> nn.Module | None:
        """User vectors of padded histories, as a network that ONNX can hold.

        It takes `vectors [B, L, D]` of the histories' items and `lengths [B]`, and gives `[B, D]`
        (`[B, K, D]`, as `user_vectors`).
        One that reads time takes `timestamps [B, L]` as well, int64 seconds with anything behind
        the end of a history, and with `reads_time` request also `asked_at [B]`.
        None: users are not made of the vectors of their items alone.
        """
        return None

    def column_users(self) -> tuple[ItemTower, Tensor] | None:
        """The tower of the columns that users are made of, whose vectors are parts of sums, and the
        vector `[D]` of users of whom nothing is known at all; None: no columns are read. A model
        that reads some adds `Histories.added` to its vectors, and takes empty histories.
        """
        return None

    def score_of_repeats(self, sizes: tuple[int, ...]) -> Tensor | None:
        """`[S]` what is added to the score of all that a user has had, by prefix; None: nothing."""
        return None

    def why_items_move(self) -> str | None:
        """Why vectors of items change though their rows stand still; None: they do not."""
        return None

    def note_users(self, trained: npt.NDArray[np.bool_]) -> None:
        """Is told `trained [U]`, which users have a training row; of models of pairs alone."""

    def note_rows(self, rows: Histories) -> None:
        """Is told what it is fitted on, one history for each user of the data set (some empty),
        before training and whenever a run is opened; of models that say `reads_rows` alone.
        """

    def begin(self, rows: Callable[[int | None], Histories]) -> str | None:
        """Is called once before a training that begins anew, when all else has been told: first
        values that are made of the training rows.

        Args:
            rows: gives what may be fitted on, one history for each user (some may be empty); of
                users that are evenly spread, where about so many rows are enough.

        Returns:
            A sentence for the user, if first values are others than usual.
        """
        return None


_METHODS = {
    "loss": "loss(batch, negatives) -> NestedLossOutput",
    "user_vectors": "user_vectors(histories) -> [B, D]",
    "item_vectors": "item_vectors() -> [N, D]",
}


def lacks_of_model(found: Any) -> list[str]:
    """What a class lacks to be a model."""
    if not isinstance(found, type) or not issubclass(found, Model):
        return ["the base class recsys.models.Model"]
    config = getattr(found, "Config", None)
    good = isinstance(config, type) and issubclass(config, ModelConfig)
    missing = [] if good else ["a class attribute Config, a subclass of recsys.models.ModelConfig"]
    lacking = [name for name in _METHODS if getattr(found, name) is getattr(Model, name)]
    if found.solve is not Model.solve and "loss" in lacking:
        lacking.remove("loss")
    return missing + [_METHODS[name] for name in lacking]
