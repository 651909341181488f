"""Linear recurrent units over jagged histories, nested at every prefix.

Orvieto et al., Resurrecting Recurrent Neural Networks for Long Sequences, ICML 2023; Yue et al.,
Linear Recurrence for Sequential Recommendation (LRURec), WSDM 2024; with nested layers as in Wang
et al., fMRLRec, EMNLP 2024. The recurrence itself is diagonal: no state sees another coordinate.

Departures from fMRLRec's code: the complex projections are real layers that give and take pairs
(real, imaginary), which is the same map.

Shape legend: T packed tokens, D embedding_dim, B users, L longest history.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from recsys.config import StrictModel
from recsys.devices import is_host
from recsys.layers.dropout import Dropout
from recsys.layers.jagged import JaggedLayout
from recsys.layers.nested import NestedLinear, NestedNorm, scaled
from recsys.layers.precision import raised


class LRUConfig(StrictModel):
    """Settings of the LRU encoder. The defaults are those of fMRLRec's code."""

    num_layers: int = Field(default=1, ge=1)
    hidden_ratio: float = Field(default=1.0, gt=0)
    """Width of the gated feed-forward layer over embedding_dim."""
    dropout: float = Field(default=0.6, ge=0, lt=1)
    """On the input, inside the feed-forward layer and on what it gives."""
    recurrence_dropout: float = Field(default=0.6, ge=0, lt=1)
    """On what the recurrence gives."""
    min_radius: float = Field(default=0.0, ge=0, lt=1)
    max_radius: float = Field(default=0.1, gt=0, lt=1)
    """The decays start in this ring of the complex plane; near 1 the memory is long."""
    nested_from: int = Field(default=0, ge=0)
    """As `TransformerConfig.nested_from`."""

    @model_validator(mode="after")
    def _ring_is_a_ring(self) -> "LRUConfig":
        if self.min_radius >= self.max_radius:
            raise ValueError(
                f"min_radius {self.min_radius} must be below max_radius {self.max_radius}"
            )
        return self


def linear_recurrence(inputs: Tensor, decay: Tensor, layout: JaggedLayout) -> Tensor:
    """`h_t = decay * h_{t-1} + x_t` within each history, starting from 0.

    A parallel scan over the packed tokens: step i adds what stands 2^i tokens before, to the tokens
    that have so many before them. That is log2 L steps and, all together, T log2(mean length)
    multiplications of D; nothing is padded. The gradient is the same scan backwards.

    Args:
        inputs: `[T, D]`, real or complex.
        decay: `[D]` of the same type.
        layout: where each history begins and ends.

    Returns:
        `[T, D]`.
    """
    apply: Callable[..., Tensor] = _Recurrence.apply
    return apply(inputs, decay, layout.positions, layout.from_end, layout.longest)


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, decay: Tensor, positions: Tensor, from_end: Tensor, longest: int
    ) -> Tensor:
        states = _scan(inputs, decay, positions, -1, longest)
        ctx.save_for_backward(states, decay, positions, from_end)
        ctx.longest = longest
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        states, decay, positions, from_end = ctx.saved_tensors
        pulls = _scan(grad, decay.conj(), from_end, 1, ctx.longest)
        if is_host(grad.device):
            later = (positions > 0).nonzero().squeeze(1)
            decay_grad = (pulls[later] * states[later - 1].conj()).sum(0)
        else:
            before = states.roll(1, 0).conj()
            decay_grad = (pulls * before).masked_fill(positions[:, None] == 0, 0.0).sum(0)
        return pulls, decay_grad, None, None, None


def _scan(inputs: Tensor, decay: Tensor, room: Tensor, direction: int, longest: int) -> Tensor:
    """`room [T]`: how many tokens of the same history lie in `direction` (-1: before) of each.

    On the CPU no work is done for tokens without room; on a device the host would have to wait for
    their number.
    """
    states, power, stride = inputs.clone(), decay, 1
    while stride < longest:
        if is_host(inputs.device):
            rows = (room >= stride).nonzero().squeeze(1)
            states.index_add_(0, rows, power * states[rows + direction * stride])
        else:
            added = power * states.roll(-direction * stride, 0)
            states = states + added.masked_fill_(room[:, None] < stride, 0.0)
        power, stride = power * power, 2 * stride
    return states


class LRU(nn.Module):
    """Projection to complex states, recurrence, projection back; every prefix by itself."""

    def __init__(self, sizes: Sequence[int], config: LRUConfig) -> None:
        super().__init__()
        pairs = scaled(sizes, 2)  # coordinate c of the state is (2 c, 2 c + 1): blocks stay blocks
        self.into, self.out = NestedLinear(sizes, pairs), NestedLinear(pairs, sizes)
        low, high = config.min_radius**2, config.max_radius**2
        # Orvieto et al., lemma 3.2: uniform on the ring. The clamps keep the logarithms finite.
        square = (torch.rand(sizes[-1]) * (high - low) + low).clamp(1e-12, 1 - 1e-6)
        self.log_nu = nn.Parameter((-0.5 * square.log()).log())
        self.log_theta = nn.Parameter((2 * math.pi * torch.rand(sizes[-1])).clamp_min(1e-6).log())
        self.log_gamma = nn.Parameter(0.5 * (1 - square).log())

    def decay(self) -> Tensor:
        """`[D]` complex, inside the unit circle whatever the parameters are."""
        return torch.polar((-self.log_nu.exp()).exp(), self.log_theta.exp())

    def forward(self, x: Tensor, layout: JaggedLayout, *, last: bool = False) -> Tensor:
        """`[T, D] -> [T, D]`: token t sees the tokens of its history up to t.

        `last`: `[B, D]` at the last token of each user alone.
        """
        inputs = torch.view_as_complex(raised(self.into(x)).unflatten(-1, (-1, 2)))
        states = linear_recurrence(inputs * self.log_gamma.exp(), self.decay(), layout)
        if last:
            states = states[layout.last]
        result: Tensor = self.out(torch.view_as_real(states).flatten(-2))
        return result


class GatedFeedForward(nn.Module):
    """`W2 (silu(W0 x) * W1 x)`, every prefix by itself."""

    def __init__(self, sizes: Sequence[int], config: LRUConfig) -> None:
        super().__init__()
        hidden = scaled(sizes, config.hidden_ratio)
        self.gate, self.value = NestedLinear(sizes, hidden), NestedLinear(sizes, hidden)
        self.out = NestedLinear(hidden, sizes)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """`[T, D] -> [T, D]`."""
        gated = nn.functional.silu(self.gate(x)) * self.dropout(self.value(x))
        result: Tensor = self.dropout(self.out(gated))
        return result


class LRULayer(nn.Module):
    """`x + LRU(norm(x))`, then `x + feed(norm(x))`."""

    def __init__(self, sizes: Sequence[int], config: LRUConfig) -> None:
        super().__init__()
        self.recurrence_norm, self.feed_norm = NestedNorm(sizes), NestedNorm(sizes)
        self.recurrence, self.feed = LRU(sizes, config), GatedFeedForward(sizes, config)
        self.dropout = Dropout(config.recurrence_dropout)

    def forward(self, x: Tensor, layout: JaggedLayout, *, last: bool = False) -> Tensor:
        """`[T, D] -> [T, D]`; `last`: `[B, D]` at the last token of each user alone."""
        read = self.recurrence(self.recurrence_norm(x), layout, last=last)
        x = (x[layout.last] if last else x) + self.dropout(read)
        result: Tensor = x + self.feed(self.feed_norm(x))
        return result
