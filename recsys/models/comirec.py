"""ComiRec on nested vectors: a user is K vectors, one for each interest.

Cen et al., Controllable Multi-Interest Framework for Recommendation, KDD 2020: the history's item
vectors become K user vectors by self-attention (ComiRec-SA) or dynamic routing (ComiRec-DR). An
item's score is the best of the K dot products. Lists that trade scores for diversity of categories
(section 3.4) are the step `categories` of the last stage.

Which interest is trained: the one whose score of the target is the largest at full width, as in
the paper, and the same one at all prefixes. So interest k of a prefix is the prefix of interest k,
and the products of all prefixes cost what those of the full width cost; a choice at each prefix
would cost as many losses as there are prefixes.

Departures from the paper: the loss is taken at every place of a history and at every prefix, and it
is any of the losses; scores are cosines unless `normalize: false` is said.

Shape legend: B users, T tokens, N items, D embedding_dim, K interests, L longest history.
"""

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from recsys.config import StrictModel
from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.layers.interests.dynamic_routing import InterestRouting
from recsys.layers.interests.self_attention import InterestAttention
from recsys.layers.nested import blocks_from, check_blocks
from recsys.losses.softmax import NestedLossOutput, nested_softmax
from recsys.models.next_item import NextItemConfig, NextItemModel


class InterestsConfig(StrictModel):
    """What makes interests of a history."""

    kind: Literal["self_attention", "dynamic_routing"] = "self_attention"
    """Weighted means of the history, or capsules among which its items are shared out."""
    hidden_ratio: float = Field(default=1.0, gt=0)
    """With self_attention: hidden units for each coordinate; the paper has 4."""
    distances: bool = True
    """With self_attention: a learned number for how far back an item is, for each interest."""
    iterations: int = Field(default=3, ge=1)
    """With dynamic_routing: turns of routing."""
    nested: bool = True
    """Each block of coordinates has weights of its own, made of the coordinates up to its end, so
    that smaller models can be cut out; false: one set of weights, made of all coordinates."""
    nested_from: int = Field(default=0, ge=0)
    """The smallest granularity with a model of its own; 0: the smallest of all."""

    @model_validator(mode="after")
    def _of_its_kind(self) -> "InterestsConfig":
        for kind, names in _OPTIONS.items():
            fields = type(self).model_fields
            changed = [name for name in names if getattr(self, name) != fields[name].default]
            if changed and kind != self.kind:
                raise ValueError(
                    f"{' and '.join(changed)}: of {kind} alone, and kind is {self.kind}; leave out "
                    f"what has no effect, or say kind: {kind}"
                )
        return self


_OPTIONS = {"self_attention": ("hidden_ratio", "distances"), "dynamic_routing": ("iterations",)}
"""The options that one kind alone reads."""


class ComiRecConfig(NextItemConfig):
    """Options of ComiRec."""

    name: Literal["comirec"] = "comirec"
    num_interests: int = Field(default=4, ge=1)
    """K: vectors of a user."""
    encoder: InterestsConfig = InterestsConfig()

    @property
    def interests(self) -> int:
        """As `num_interests`."""
        return self.num_interests

    @property
    def nested(self) -> bool:
        """A smaller model can be cut out of this one."""
        return self.encoder.nested

    @property
    def blocks(self) -> tuple[int, ...]:
        """The granularities that have a model of their own, if it is nested."""
        return blocks_from(self.granularities.sizes, self.encoder.nested_from)

    @model_validator(mode="after")
    def _can_be_built(self) -> "ComiRecConfig":
        blocks = self.blocks if self.encoder.nested else self.blocks[-1:]
        check_blocks(blocks, ratio=self.encoder.hidden_ratio)
        if self.encoder.nested_from and not self.encoder.nested:
            raise ValueError("encoder.nested_from has no effect without encoder.nested: true")
        if self.time != "none":
            raise ValueError(f"comirec reads no time, and time is {self.time}; leave it out")
        if self.repeat_bias:
            raise ValueError(
                "repeat_bias is of models with one vector a user; leave it out, or train sasrec"
            )
        return self


class ComiRec(NextItemModel):
    """K user vectors from histories; item vectors are the table's rows."""

    Config = ComiRecConfig
    config: ComiRecConfig

    def __init__(
        self,
        config: ComiRecConfig,
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
        encoder, count = config.encoder, config.num_interests
        ends = config.blocks if encoder.nested else config.blocks[-1:]
        self.encoder: nn.Module
        if encoder.kind == "dynamic_routing":
            self.encoder = InterestRouting(ends, count, iterations=encoder.iterations)
        else:
            self.encoder = InterestAttention(
                ends,
                count,
                hidden_ratio=encoder.hidden_ratio,
                longest=config.history_length,
                distances=encoder.distances,
            )
        self._add_scores()

    def _encode(self, histories: Histories, x: Tensor, *, last: bool = False) -> Tensor:
        """`[T, K, D]`, or `[B, K, D]` at the last items; without K where that is 1."""
        layout = self._layout(histories)
        grid = layout.pad(self.history_dropout(x))
        steps = torch.arange(layout.longest, device=grid.device)
        users: Tensor
        if last:
            users = self.encoder(grid, (layout.lengths[:, None] - 1 - steps)[:, None])[:, 0]
        else:
            users = layout.pack(self.encoder(grid, (steps[:, None] - steps)[None]))
        return users.squeeze(1) if self.config.num_interests == 1 else users

    def _trained_users(self, users: Tensor, chosen: Tensor) -> Tensor:
        """`[T, D]`: of each place's interests, the one that scores its target best."""
        if users.dim() == 2:
            return users
        with torch.no_grad():
            scores = torch.einsum("tkd,td->tk", users, chosen)
            if self.granularities.normalize:
                scores = scores / users.norm(dim=2).clamp_min(1e-12)
            best = scores.argmax(1)
        places = torch.arange(len(users), device=users.device) * users.shape[1] + best
        return users.flatten(0, 1).index_select(0, places)

    def user_tower(self) -> nn.Module:
        """The encoder over padded rows."""
        return PaddedInterests(self.encoder, self.config.num_interests)


class PaddedInterests(nn.Module):
    """`vectors [B, L, D]`, `lengths [B]` -> users `[B, K, D]`, `[B, D]` where K is 1."""

    def __init__(self, encoder: nn.Module, num_interests: int) -> None:
        """Of a model's own encoder."""
        super().__init__()
        self.encoder, self.num_interests = encoder, num_interests

    def forward(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """The interests at the last item of each row."""
        steps = torch.arange(vectors.shape[1], device=vectors.device)
        users: Tensor = self.encoder(vectors, (lengths[:, None] - 1 - steps)[:, None]).squeeze(1)
        return users.squeeze(1) if self.num_interests == 1 else users
