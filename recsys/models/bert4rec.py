"""BERT4Rec on nested vectors: hidden items of a history are told from both sides.

Sun et al., BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from
Transformer, CIKM 2019. Training hides items of a history behind one vector, the mask, and asks for
them; a user is the encoding of a mask that stands behind the history.

Departures from the paper: the last item of a history is always hidden, beside a share of the
others, so that every history trains what users are asked for; the number hidden in a batch is the
share rounded, so that no device waits for a count; places are counted from the end, where the mask
is; the softmax may be sampled (Petrov and Macdonald, gSASRec, RecSys 2023, show what that loses and
`loss: {name: gbce}` mends); packed tokens.

Shape legend: B users, T tokens, N items, D embedding_dim, M hidden tokens, L longest history.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from recsys.data.batching import Batch
from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.devices import to_indices
from recsys.layers.dropout import Dropout
from recsys.layers.jagged import JaggedLayout, layout_of
from recsys.layers.timed.padded_grid import PaddedGrid
from recsys.layers.transformer import Transformer, TransformerConfig
from recsys.losses.softmax import Negatives, NestedLossOutput, nested_softmax
from recsys.models.next_item import NextItemConfig, NextItemModel, trained_negatives

Integers = npt.NDArray[np.integer]


class BERT4RecConfig(NextItemConfig):
    """Options of BERT4Rec."""

    name: Literal["bert4rec"] = "bert4rec"
    encoder: TransformerConfig = TransformerConfig()
    hidden_share: float = Field(default=0.2, ge=0, lt=1)
    """Share of the tokens before the last that training hides and asks for."""
    history_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the items of the history that training leaves out beside those it asks for."""

    @model_validator(mode="after")
    def _can_be_built(self) -> BERT4RecConfig:
        dim, heads = self.granularities.embedding_dim, self.encoder.num_heads
        if dim % heads:
            raise ValueError(f"encoder.num_heads {heads} does not divide embedding_dim {dim}")
        for option, value in (
            ("encoder.nested", self.encoder.nested),
            ("encoder.nested_from", self.encoder.nested_from),
            ("encoder.distances", self.encoder.distances),
            ("seen_negatives", self.seen_negatives),
            ("repeat_bias", self.repeat_bias),
        ):
            if value:
                raise ValueError(
                    f"{option} is of models that read a history from the past to now, and bert4rec "
                    "reads it from both sides; leave it out, or train sasrec"
                )
        if self.time != "none":
            raise ValueError(f"bert4rec reads no time, and time is {self.time}; leave it out")
        return self


class BERT4Rec(NextItemModel):
    """User vectors from histories; item vectors are the table's rows."""

    Config = BERT4RecConfig
    config: BERT4RecConfig

    def __init__(
        self,
        config: BERT4RecConfig,
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
        dim, std = config.granularities.embedding_dim, config.item_init_std
        self.mask = nn.Parameter(torch.empty(dim).normal_(std=std))
        self.position = nn.Embedding(config.history_length + 1, dim)
        nn.init.normal_(self.position.weight, std=std)
        self.input_norm, self.input_dropout = nn.LayerNorm(dim), Dropout(config.encoder.dropout)
        self.encoder = Transformer((dim,), config.encoder, causal=False)
        self._add_scores()

    def loss(self, batch: Batch, negatives: Negatives | None) -> NestedLossOutput:
        """The objective of hidden items, each as the one that is looked for."""
        whole, layout = self._whole(batch)
        read = to_indices(whole.items, self.device)
        hidden = self._hidden(layout, len(whole.items))
        targets = read[hidden]
        negatives = trained_negatives(self.table, negatives)
        if negatives is None:
            inputs, items = self.table(read, sparse=True), self.table.vectors()
        else:
            places = torch.cat([read, negatives.items, targets])
            rows = self.table(places, sparse=self.config.sparse_gradients)
            inputs, items = rows.tensor_split([len(read)])
        covered = torch.zeros(len(read), dtype=torch.bool, device=self.device)
        covered = covered.index_fill_(0, hidden, True)
        x = torch.where(covered[:, None], self.mask, self.history_dropout(inputs))
        users = self._read(x, layout)[hidden]
        return self.objective(
            users,
            self.output_dropout(items),
            targets,
            self.scales(),
            self.granularities,
            negatives=negatives,
        )

    def _encode(self, histories: Histories, x: Tensor, *, last: bool = False) -> Tensor:
        """`[B, D]` at a mask behind each history of vectors `[T, D]`.

        Raises:
            NotImplementedError: not `last`: earlier places would need masks of their own.
        """
        if not last:
            raise NotImplementedError("bert4rec has user vectors of whole histories alone")
        rows = layout_of(histories, self.device).rows
        longer, layout = self._with_mask(histories)
        places = torch.arange(len(rows), device=self.device) + rows
        masks = self.mask.expand(len(longer.items), -1)
        return self._read(masks.index_copy(0, places, self.history_dropout(x)), layout, last=True)

    def _read(self, x: Tensor, layout: JaggedLayout, *, last: bool = False) -> Tensor:
        x = x + self.position(layout.from_end)
        found: Tensor = self.encoder(self.input_dropout(self.input_norm(x)), layout, last=last)
        return found

    def _with_mask(self, histories: Histories) -> tuple[Histories, JaggedLayout]:
        """Histories of one token more each, whose item is 0."""
        longer = _followed(histories, np.zeros(len(histories), np.int32))
        return longer, layout_of(longer, self.device)

    def _whole(self, batch: Batch) -> tuple[Histories, JaggedLayout]:
        """What each user of a batch has had, up to the last target."""
        ends = batch.histories.offsets[1:] - 1
        whole = _followed(batch.histories, batch.targets[ends])
        return whole, layout_of(whole, self.device)

    def _hidden(self, layout: JaggedLayout, num_tokens: int) -> Tensor:
        """`[M]` the last token of each user, and a share of the others, drawn without repeats."""
        count = round(self.config.hidden_share * (num_tokens - layout.num_rows))
        drawn = torch.rand(num_tokens, device=self.device).index_fill_(0, layout.last, -1.0)
        return torch.cat([layout.last, drawn.topk(count).indices])

    def user_tower(self) -> nn.Module:
        """The encoder over padded rows, a mask behind each."""
        return PaddedBERT4Rec(self)


def _followed(histories: Histories, items: Integers) -> Histories:
    """Histories with one item more each, `[B]`."""
    ends = histories.offsets[1:]
    longer = np.insert(histories.items, ends, items)
    return Histories(histories.users, longer, histories.offsets + np.arange(len(ends) + 1))


class PaddedBERT4Rec(nn.Module):
    """`vectors [B, L, D]` and `lengths [B]` -> users `[B, D]`, with the model's own weights."""

    def __init__(self, model: BERT4Rec) -> None:
        super().__init__()
        self.mask, self.position, self.input_norm = model.mask, model.position, model.input_norm
        self.encoder = model.encoder

    def forward(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Cells behind the mask hold nonsense, which attention leaves out."""
        padded = nn.functional.pad(vectors, (0, 0, 0, 1))
        num_rows: Any = padded.shape[0]
        longest: Any = padded.shape[1]
        back = lengths[:, None] - torch.arange(longest)
        x = torch.where((back == 0)[..., None], self.mask, padded)
        x = x + self.position(back.clamp_min(0))
        grid = PaddedGrid(num_rows, longest, lengths + 1)
        encoded = self.encoder(self.input_norm(x).flatten(0, 1), grid).view(padded.shape)
        last = lengths[:, None, None].expand(num_rows, 1, padded.shape[2])
        users: Tensor = encoded.gather(1, last).squeeze(1)
        return users
