"""GRU4Rec on nested vectors: a model from outside the package, whole, in one file.

Hidasi et al., Session-based Recommendations with Recurrent Neural Networks, ICLR 2016; with the
sampled softmax of Hidasi and Karatzoglou, CIKM 2018. A config names it by its place:

    model: {name: "examples.gru4rec:GRU4Rec", granularities: {sizes: [8, 16, 32, 64]}}

Departures from the papers: input and output vectors are one table; no coordinate of the state sees
a later one, so that every prefix is the state of a smaller GRU and `recsys cut` can take it out.

Shape legend: B users, T packed tokens, L longest history, N items, D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from recsys.data.batching import Batch
from recsys.data.histories import Histories
from recsys.devices import to_indices
from recsys.granularity import Granularities
from recsys.layers.jagged import layout_of
from recsys.losses.softmax import Negatives, NestedLossOutput, ScoreScales, nested_softmax
from recsys.models import Model, ModelConfig
from recsys.models.next_item import COSINE, complete
from recsys.tables import DenseConfig, EmbeddingTable, TableConfig, build_table


class GRU4RecConfig(ModelConfig):
    """One layer of gated recurrent units. Unknown keys are refused, as in every config."""

    name: str = "examples.gru4rec:GRU4Rec"
    granularities: Granularities = Granularities.model_validate(COSINE)
    table: TableConfig = DenseConfig()
    """What holds the item vectors: any table of the package."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """On the item vectors that the recurrence reads."""

    @field_validator("granularities", mode="before")
    @classmethod
    def _cosines(cls, given: object) -> object:
        """Prefixes are scored by cosines unless the config says otherwise."""
        return complete(given)

    @property
    def nested(self) -> bool:
        """A smaller model can be cut out of this one."""
        return True


class Recurrence(nn.Module):
    """`[B, L, D]` -> the states `[B, L, D]`; coordinate c is made of the coordinates up to the end
    of its own granularity.
    """

    mask: Tensor
    """`[D, D]`, 1 where an output may see an input; block lower triangular."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        dim = sizes[-1]
        block = torch.bucketize(torch.arange(dim), torch.tensor(sizes), right=True)
        self.register_buffer("mask", (block[:, None] >= block).float(), persistent=False)
        # Gates first: the leading corner [3, d, d] is the weight of the smaller GRU.
        self.reads = nn.Parameter(torch.empty(3, dim, dim).uniform_(-(dim**-0.5), dim**-0.5))
        self.keeps = nn.Parameter(torch.empty(3, dim, dim).uniform_(-(dim**-0.5), dim**-0.5))
        self.bias = nn.Parameter(torch.zeros(3, dim))

    def forward(self, x: Tensor, steps: int) -> Tensor:
        read = torch.einsum("bld,ged->blge", x, self.reads * self.mask) + self.bias
        keeps = (self.keeps * self.mask).flatten(0, 1).T  # [D, 3 D]
        state, states = torch.zeros_like(x[:, 0]), []
        for step in range(steps):
            kept = (state @ keeps).unflatten(1, (3, -1))
            update, reset = torch.sigmoid(read[:, step, :2] + kept[:, :2]).unbind(1)
            proposed = torch.tanh(read[:, step, 2] + reset * kept[:, 2])
            state = update * state + (1 - update) * proposed
            states.append(state)
        return torch.stack(states, dim=1)


class GRU4Rec(Model):
    """Histories -> the last state of the recurrence; the item vectors are the table's rows."""

    Config = GRU4RecConfig
    config: GRU4RecConfig

    def __init__(
        self,
        config: GRU4RecConfig,
        num_items: int,
        *,
        objective: Callable[..., NestedLossOutput] = nested_softmax,
        **_: object,  # the number of users and item features, which it does not read
    ) -> None:
        super().__init__()
        self.config, self.granularities, self.objective = config, config.granularities, objective
        sizes = config.granularities.sizes
        built = build_table(config.table, num_items, sizes[-1], init_std=0.1, sizes=sizes)
        self.table = cast(EmbeddingTable, built)
        self.recurrence = Recurrence(sizes)
        self.dropout = nn.Dropout(config.dropout)
        self.scales = ScoreScales(config.granularities)

    def item_vectors(self) -> Tensor:
        """`[N, D]`."""
        return self.table.vectors()

    def user_vectors(self, histories: Histories) -> Tensor:
        """`[B, D]` from the most recent `history_length` interactions of non-empty histories."""
        recent = histories.last(self.config.history_length)
        return self._states(recent)[layout_of(recent, self.device).last]

    def loss(self, batch: Batch, negatives: Negatives | None) -> NestedLossOutput:
        """The objective of the next item, at every position and granularity."""
        targets = to_indices(batch.targets, self.device)
        # Of all items, or of the negatives and then of each token's target.
        items = self.item_vectors()
        if negatives is not None:
            items = self.table(torch.cat([negatives.items, targets]))
        return self.objective(
            self._states(batch.histories),
            items,
            targets,
            self.scales(),
            self.granularities,
            negatives=negatives,
        )

    def user_tower(self) -> nn.Module:
        """For ONNX."""
        return UserTower(self.recurrence, self.config.history_length)

    def _states(self, histories: Histories) -> Tensor:
        """`[T, D]`; the state of a token has seen the items up to it."""
        layout = layout_of(histories, self.device)
        vectors = self.dropout(self.table(to_indices(histories.items, self.device)))
        return layout.pack(self.recurrence(layout.pad(vectors), layout.longest))


class UserTower(nn.Module):
    """`vectors [B, L, D]`, `lengths [B]` -> users `[B, D]`, for histories of any length up to the
    longest: ONNX has no loop over a length that changes, so the steps are written out.
    """

    def __init__(self, recurrence: Recurrence, longest: int) -> None:
        super().__init__()
        self.recurrence, self.longest = recurrence, longest

    def forward(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        padded = nn.functional.pad(vectors, (0, 0, 0, self.longest - vectors.shape[1]))
        states = self.recurrence(padded, self.longest)
        last = (lengths - 1)[:, None, None].expand(vectors.shape[0], 1, states.shape[2])
        users: Tensor = states.gather(1, last).squeeze(1)
        return users
