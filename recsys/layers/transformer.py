"""Transformer layers over jagged histories, causal unless said otherwise.

References: Kang and McAuley, SASRec, ICDM 2018; Borisyuk et al., LiGR, 2025 (gated residuals) and
Tikhonovich et al., eSASRec, RecSys 2025, which puts them into SASRec; Zhai et al., HSTU, ICML 2024
(a learned bias by distance, after Raffel et al., T5, 2020).

Shape legend: T packed tokens, D embedding_dim, H heads, B users, L longest history.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.config import StrictModel
from recsys.layers.dropout import Dropout
from recsys.layers.jagged import JaggedLayout, attend, attend_both_ways
from recsys.layers.nested import halves, linear, norm, scaled
from recsys.layers.nested_attention import NestedAttention
from recsys.layers.precision import forward_in
from recsys.layers.timed.buckets import TimeBias
from recsys.layers.timed.pointwise import last_window
from recsys.layers.timed.softmax import attend_in_blocks, fits, softmax_bias


class TransformerConfig(StrictModel):
    """Settings of the transformer over histories."""

    num_layers: int = Field(default=1, ge=1)
    num_heads: int = Field(default=1, ge=1)
    hidden_ratio: float = Field(default=1.0, gt=0)
    """Width of the feed-forward layer over embedding_dim."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """On the input, on what each sub-layer gives, and inside the feed-forward layer."""
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    distances: int = Field(default=0, ge=0)
    """Numbers that each head learns to add to the score of a token 0, 1, 2, ... steps back; all
    that lie further back share the last. 0: none. What a token learns of its neighbours is then
    the same wherever it stands, which position vectors must learn place by place."""
    layer: Literal["prenorm", "sasrec", "ligr"] = "sasrec"
    """prenorm: x + f(LN(x)). sasrec: LN(x) + f(LN(x)), as the original code adds it.
    ligr: x + f(LN(x)) * sigmoid(W x), SwiGLU inside."""
    bf16: bool = False
    """In training, linear layers multiply in bfloat16 (sums, attention, norms, loss and weights
    stay in float32): faster for batches of some thousand tokens where there are instructions.
    `trainer.precision: bf16` does so for the whole model."""
    nested: bool = False
    """Every layer nested, so that a smaller model can be cut out of the trained one (`recsys cut`);
    num_heads are then those of each block of coordinates between two granularities."""
    nested_from: int = Field(default=0, ge=0)
    """The smallest granularity with a model of its own, 0: all. The vectors of smaller ones are
    prefixes of what that model gives: better ones than a model of their own width would."""


class SelfAttention(nn.Module):
    """Multi-head self-attention, causal or to both sides; queries may come from a tensor of their
    own.
    """

    def __init__(
        self, dim: int, config: TransformerConfig, *, timed: bool = False, causal: bool = True
    ) -> None:
        super().__init__()
        self.causal = causal
        self.num_heads, self.dropout = config.num_heads, config.attention_dropout
        self.times = TimeBias(config.num_heads) if timed else None
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.distance_bias: nn.Parameter | None = None
        if config.distances:
            self.distance_bias = nn.Parameter(torch.zeros(config.num_heads, config.distances))

    def _bias(self, back: Tensor) -> Tensor | None:
        """Steps back `[...]` -> `[H, ...]` what is added to the scores; None: nothing."""
        if self.distance_bias is None:
            return None
        places = back.clamp(0, self.distance_bias.shape[1] - 1)
        return nn.functional.embedding(places, self.distance_bias.T).movedim(-1, 0)

    def forward(self, queries: Tensor, context: Tensor, layout: JaggedLayout) -> Tensor:
        """`[T, D], [T, D] -> [T, D]`: token t sees the tokens of its user up to t; if not causal,
        all of them.
        """
        packed = torch.cat([self.query(queries), self.key_value(context)], dim=1)
        grid = layout.pad(packed)
        heads = grid.view(*grid.shape[:2], 3, self.num_heads, -1)
        heads = heads.permute(2, 0, 3, 1, 4)  # [3, B, H, L, D / H]
        dropout = self.dropout if self.training else 0.0
        bias = self._bias(torch.arange(layout.longest, device=grid.device))
        if not self.causal:
            seen = attend_both_ways(heads[0], heads[1], heads[2], layout.lengths, dropout=dropout)
            seen = seen.transpose(1, 2).flatten(2)
        elif self.times is None and fits(heads[0], dropout, bias):
            seen = attend(heads[0], heads[1], heads[2], dropout=dropout, bias=bias)
            seen = seen.transpose(1, 2).flatten(2)
        else:
            seen = attend_in_blocks(
                (heads[0], heads[1], heads[2]),
                dropout,
                softmax_bias(self.times, self._bias, layout),
            )
        attended: Tensor = self.out(layout.pack(seen))
        return attended

    def last(self, queries: Tensor, context: Tensor, layout: JaggedLayout) -> Tensor:
        """`[B, D], [T, D] -> [B, D]`: `forward` at each user's last token, without dropout.

        With one query a user no key or value is made: the query goes through the keys' weights
        and the mean of the context through the values', so tokens cost D, and not D x D. The
        keys' bias adds the same to all scores of a user and falls out.
        """
        num_users, dim = queries.shape
        heads = (self.num_heads, dim // self.num_heads)
        keys, values = (w.view(*heads, dim) for w in self.key_value.weight.chunk(2))
        query = self.query(queries).view(num_users, *heads) * heads[1] ** -0.5
        grid = layout.pad(context)
        scores = torch.einsum("bhe,hed->bhd", query, keys) @ grid.transpose(1, 2)  # [B, H, L]
        back = layout.lengths[:, None] - 1 - torch.arange(layout.longest, device=grid.device)
        bias, beyond = self._bias(back), back < 0
        if bias is not None:
            scores = scores + bias.transpose(0, 1)
        if self.times is not None:
            window = last_window(layout)
            scores = scores + self.times(window.asked, window.seen).squeeze(2)
        weights = scores.masked_fill(beyond[:, None], -torch.inf).softmax(2)
        mixed = torch.einsum("bhd,hed->bhe", weights @ grid, values).flatten(1)
        attended: Tensor = self.out(mixed + self.key_value.bias[dim:])
        return attended


class FeedForward(nn.Module):
    """Two linear layers with GELU, dropout between."""

    def __init__(self, sizes: Sequence[int], config: TransformerConfig) -> None:
        super().__init__()
        hidden = scaled(sizes, config.hidden_ratio)
        self.net = nn.Sequential(
            linear(sizes, hidden, nested=config.nested),
            nn.GELU(),
            Dropout(config.dropout),
            linear(hidden, sizes, nested=config.nested),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """`[T, D] -> [T, D]`."""
        result: Tensor = self.net(tokens)
        return result


class SwiGLU(nn.Module):
    """Gated feed-forward layer (Shazeer 2020)."""

    def __init__(self, sizes: Sequence[int], config: TransformerConfig) -> None:
        super().__init__()
        hidden = scaled(sizes, config.hidden_ratio)
        self.blocks = hidden if config.nested else hidden[-1:]
        self.gate_and_value = linear(sizes, scaled(hidden, 2), nested=config.nested)
        self.out = linear(hidden, sizes, nested=config.nested)
        self.dropout = Dropout(config.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """`[T, D] -> [T, D]`."""
        gate, value = halves(self.gate_and_value(tokens), self.blocks)
        result: Tensor = self.out(self.dropout(nn.functional.silu(gate) * value))
        return result


class TransformerLayer(nn.Module):
    """One layer: attention and a feed-forward net, joined as `config.layer` says."""

    def __init__(
        self, sizes: Sequence[int], config: TransformerConfig, *, timed: bool, causal: bool
    ) -> None:
        super().__init__()
        self.kind, nested = config.layer, config.nested
        self.attention_norm, self.feed_norm = norm(sizes, nested=nested), norm(sizes, nested=nested)
        self.attention: SelfAttention | NestedAttention
        if nested:
            heads, dropout = config.num_heads, config.attention_dropout
            self.attention = NestedAttention(sizes, heads, dropout, timed=timed)
        else:
            self.attention = SelfAttention(sizes[-1], config, timed=timed, causal=causal)
        self.feed = (SwiGLU if self.kind == "ligr" else FeedForward)(sizes, config)
        self.dropout = Dropout(config.dropout)
        if self.kind == "ligr":
            self.attention_gate = linear(sizes, sizes, nested=nested)
            self.feed_gate = linear(sizes, sizes, nested=nested)

    def forward(self, x: Tensor, layout: JaggedLayout, *, last: bool = False) -> Tensor:
        """`[T, D] -> [T, D]`; `last`: `[B, D]` at the last token of each user alone."""
        before = x
        if last and self.kind == "sasrec":  # keys and values are taken of what has no norm
            x = x[layout.last]
        normed = self.attention_norm(x)
        context = before if self.kind == "sasrec" else normed
        if last and self.kind != "sasrec":
            x, normed = x[layout.last], normed[layout.last]
        attend = self.attention.last if last else self.attention
        attended: Tensor = self.dropout(attend(normed, context, layout))
        if self.kind == "ligr":
            attended = attended * torch.sigmoid(self.attention_gate(x))
        x = (normed if self.kind == "sasrec" else x) + attended
        normed = self.feed_norm(x)
        fed: Tensor = self.dropout(self.feed(normed))
        if self.kind == "ligr":
            fed = fed * torch.sigmoid(self.feed_gate(x))
        return (normed if self.kind == "sasrec" else x) + fed


class Transformer(nn.Module):
    """`num_layers` layers and a final LayerNorm."""

    def __init__(
        self,
        sizes: Sequence[int],
        config: TransformerConfig,
        *,
        timed: bool = False,
        causal: bool = True,
    ) -> None:
        """Args:
        sizes: those that have a model of their own; only the last counts if not `nested`.
        config: of the layers.
        timed: scores have a bias by the time between two tokens.
        causal: tokens see those before them; false: all of their user, of plain attention without
            `distances` alone.
        """
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerLayer(sizes, config, timed=timed, causal=causal)
            for _ in range(config.num_layers)
        )
        self.norm = norm(sizes, nested=config.nested)
        self.bf16 = config.bf16

    def forward(self, x: Tensor, layout: JaggedLayout, *, last: bool = False) -> Tensor:
        """`[T, D] -> [T, D]`; `last`: `[B, D]` at the last token of each user alone.

        With `last` the final layer does no more than these need; not for training.
        """
        with forward_in("bf16" if self.bf16 and self.training else "float32", x.device):
            for number, layer in enumerate(self.layers, start=1):
                x = layer(x, layout, last=last and number == len(self.layers))
        result: Tensor = self.norm(x)
        return result
