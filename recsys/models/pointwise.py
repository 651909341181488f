"""What HSTU and FuXi-alpha have in common: a stack of layers of pointwise attention.

Shape legend: B users, T tokens, N items, D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from pydantic import model_validator
from torch import Tensor, nn

from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.layers.jagged import Time
from recsys.layers.nested import blocks_from
from recsys.layers.timed.padded_grid import PaddedEncoder
from recsys.layers.timed.stack import PointwiseConfig, Stack, check_encoder
from recsys.losses.softmax import NestedLossOutput, nested_softmax
from recsys.models.next_item import NextItemConfig, NextItemModel


class PointwiseModelConfig(NextItemConfig):
    """Options of models of pointwise attention."""

    encoder: PointwiseConfig = PointwiseConfig()
    time: Time = "history"
    """What is read of time: none; history, when each interaction was; request, also when the next
    item is asked for, under a protocol that tells it."""
    gap_vectors: bool = False
    """With time: request, a vector for the time from each interaction to the request after it is
    added to the item's; the papers have none."""

    @property
    def nested(self) -> bool:
        """A smaller model can be cut out of this one."""
        return self.encoder.nested

    @property
    def blocks(self) -> tuple[int, ...]:
        """The granularities that have a model of their own, if it is nested."""
        return blocks_from(self.granularities.sizes, self.encoder.nested_from)

    @model_validator(mode="after")
    def _can_be_built(self) -> PointwiseModelConfig:
        check_encoder(self.blocks, self.encoder)
        return self


class PointwiseModel(NextItemModel):
    """User vectors from histories; item vectors are the table's rows."""

    Config = PointwiseModelConfig
    config: PointwiseModelConfig
    Layer: ClassVar[Callable[..., nn.Module]]
    """Made of the ends of the blocks, the encoder's config, the longest history and `timed`."""

    def __init__(
        self,
        config: PointwiseModelConfig,
        num_items: int,
        *,
        num_users: int = 0,
        features: ItemFeatures | None = None,
        objective: Callable[..., NestedLossOutput] = nested_softmax,
    ) -> None:
        """Args:
        config: of this model.
        num_items: N.
        num_users: not used: users are what they have had.
        features: those that `config.items` names.
        objective: what is trained, called as `nested_softmax` is.
        """
        super().__init__(config, num_items, features, objective)
        encoder, longest, timed = config.encoder, config.history_length, config.time != "none"
        sizes = config.blocks if encoder.nested else config.blocks[-1:]
        layers = [
            type(self).Layer(sizes, encoder, longest, timed=timed)
            for _ in range(encoder.num_layers)
        ]
        self.encoder = Stack(layers, sizes, encoder.dropout)
        self._add_scores()

    def _encode(self, histories: Histories, x: Tensor, *, last: bool = False) -> Tensor:
        layout = self._layout(histories)
        x = self._with_gaps(self.history_dropout(x), layout)
        result: Tensor = self.encoder(x, layout, last=last)
        return result

    def user_tower(self) -> nn.Module:
        """The encoder over padded rows."""
        return PaddedEncoder(self.encoder, self.gaps)
