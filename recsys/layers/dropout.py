"""Dropout with 8 random bits for each element.

On the CPU torch draws one serial random number per element (about 18 ns each, a sixth of a
training step here). One 64-bit draw decides four elements; the rate is exact to 1/65,536.
"""

import torch
from torch import Tensor, nn

_LEVELS = 1 << 16


class RowDropout(nn.Module):
    """Zeroes whole rows `[T, D]` with probability `rate` in training; the others stay as they are.

    A history of which some items are hidden.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """`[T, D]`."""
        if not self.training or self.rate == 0.0:
            return x
        return x * (torch.rand(len(x), 1, device=x.device) >= self.rate)


class Dropout(nn.Module):
    """Zeroes elements with probability `rate` in training and divides the others by `1 - rate`."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, any device."""
        if not self.training or self.rate == 0.0:
            return x
        num_draws = -(-x.numel() // 4)
        draws = torch.empty(num_draws, dtype=torch.int64, device=x.device).random_(-(1 << 63), None)
        bits = draws.view(torch.int16)[: x.numel()].view(x.shape)
        dropped = round(self.rate * _LEVELS)
        keep = (bits >= dropped - _LEVELS // 2).to(x.dtype)
        return x * keep.mul_(_LEVELS / (_LEVELS - dropped))

    def extra_repr(self) -> str:
        """What print(model) shows."""
        return f"rate={self.rate}"
