"""The linear recurrence over padded rows in real numbers, for export as ONNX.

Shape legend: B users, L longest history, D embedding_dim.
"""

import torch
from torch import Tensor, nn

from recsys.layers.lru import LRU, LRULayer


class PaddedRecurrence(nn.Module):
    """`vectors [B, L, D]`, `lengths [B]` -> users `[B, D]`, with the layers' own weights."""

    def __init__(self, layers: nn.ModuleList, longest: int) -> None:
        """`longest`: L at most."""
        super().__init__()
        self.layers = nn.ModuleList(
            _PaddedLayer(layer, longest) for layer in layers if isinstance(layer, LRULayer)
        )

    def forward(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        num_rows, _, dim = vectors.shape
        for layer in self.layers:
            vectors = layer(vectors)
        last = (lengths - 1)[:, None, None].expand(num_rows, 1, dim)
        users: Tensor = vectors.gather(1, last).squeeze(1)
        return users


class _PaddedLayer(nn.Module):
    """Like `LRULayer`; values after the end of a history are meaningless and unused."""

    def __init__(self, layer: LRULayer, longest: int) -> None:
        super().__init__()
        self.layer, self.recurrence = layer, _PaddedLRU(layer.recurrence, longest)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.recurrence(self.layer.recurrence_norm(x))
        result: Tensor = x + self.layer.feed(self.layer.feed_norm(x))
        return result


class _PaddedLRU(nn.Module):
    """Like `LRU`: step i of the scan adds the value 2^i cells before, times decay^(2^i)."""

    real: Tensor
    imaginary: Tensor

    def __init__(self, lru: LRU, longest: int) -> None:
        super().__init__()
        self.lru = lru
        self.strides = [1 << i for i in range(max(0, longest - 1).bit_length())]
        powers = torch.stack([lru.decay().detach() ** stride for stride in (0, *self.strides)])
        self.register_buffer("real", powers.real.contiguous())
        self.register_buffer("imaginary", powers.imag.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        longest = x.shape[1]
        scale = self.lru.log_gamma.exp()
        real, imaginary = (self.lru.into(x).unflatten(-1, (-1, 2)) * scale[:, None]).unbind(-1)
        for step, stride in enumerate(self.strides, start=1):
            a, b = self.real[step], self.imaginary[step]
            before, beside = _later(real, stride, longest), _later(imaginary, stride, longest)
            real = real + a * before - b * beside
            imaginary = imaginary + a * beside + b * before
        result: Tensor = self.lru.out(torch.stack([real, imaginary], dim=-1).flatten(-2))
        return result


def _later(states: Tensor, stride: int, longest: int | torch.SymInt) -> Tensor:
    """`[B, L, D]` moved `stride` cells to the right, zeros before."""
    return nn.functional.pad(states, (0, 0, stride, 0))[:, :longest]
