"""Nested linear and norm layers: a prefix of the output depends on a prefix of the input.

Wang et al., Train Once, Deploy Anywhere (fMRLRec), EMNLP 2024: the outputs of block j, the
coordinates between two granularities, see the inputs up to the larger one alone. A network of such
layers holds a smaller network for every granularity, and that one is cut out by leaving away the
last blocks: every tensor of the smaller network is the leading corner of the larger one's.

Shape legend: D inputs, E outputs, G granularities (blocks), M[j] the size of granularity j.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

MIN_BLOCK = 2
"""A LayerNorm over one coordinate gives a constant."""


def block_widths(sizes: Sequence[int]) -> list[int]:
    """Coordinates each granularity adds: `M[j] - M[j - 1]`."""
    return [high - low for low, high in pairwise((0, *sizes))]


def scaled(sizes: Sequence[int], ratio: float) -> tuple[int, ...]:
    """Sizes of a layer `ratio` times as wide, rounded."""
    return tuple(round(size * ratio) for size in sizes)


def blocks_from(sizes: Sequence[int], smallest: int) -> tuple[int, ...]:
    """The granularities that have a model of their own: those from `smallest` up.

    Raises:
        ValueError: `smallest` is not 0 and no granularity.
    """
    if smallest and smallest not in sizes:
        raise ValueError(f"encoder.nested_from {smallest} is not among {tuple(sizes)}")
    return tuple(size for size in sizes if size >= smallest)


def check_blocks(sizes: Sequence[int], *, heads: int = 1, ratio: float = 1.0) -> None:
    """Whether layers can be nested at `sizes`.

    Args:
        sizes: the granularities.
        heads: that every block of coordinates shall have.
        ratio: width of hidden layers over that of their input.

    Raises:
        ValueError: a block is too narrow to be normalized, has no whole heads, or has no hidden
            units of its own.
    """
    hidden = block_widths(scaled(sizes, ratio))
    for size, width, units in zip(sizes, block_widths(sizes), hidden, strict=True):
        if width < MIN_BLOCK:
            raise ValueError(
                f"granularity {size} adds {width} coordinate; nested layers normalize each block "
                f"by itself and need {MIN_BLOCK} or more: leave it out"
            )
        if width % heads:
            raise ValueError(
                f"num_heads {heads} does not divide the {width} coordinates that granularity "
                f"{size} adds; nested layers give every block heads of its own"
            )
        if units < 1:
            raise ValueError(
                f"hidden_ratio {ratio} leaves granularity {size} no hidden unit; raise it"
            )


class NestedLinear(nn.Module):
    """Block lower triangular `[..., D] -> [..., E]`.

    One weight `[E[j] - E[j - 1], M[j]]` per block and one product each: at D = 256 and six
    granularities a training step takes as long (within 10 %) as with one masked `[D, D]` weight,
    and a third of the parameters and of their optimizer state is not there.
    """

    def __init__(self, inputs: Sequence[int], outputs: Sequence[int], *, bias: bool = True) -> None:
        """Args:
        inputs: `[G]` sizes of the granularities among the inputs, ascending; the last is D.
        outputs: `[G]` the same among the outputs; the last is E.
        bias: whether there is one.
        """
        super().__init__()
        self.inputs = tuple(inputs)
        self.blocks = nn.ModuleList(
            nn.Linear(size, width, bias=bias)
            for size, width in zip(inputs, block_widths(outputs), strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`[..., D] -> [..., E]`."""
        parts = [block(x[..., :size]) for size, block in zip(self.inputs, self.blocks, strict=True)]
        return torch.cat(parts, dim=-1)


class NestedNorm(nn.Module):
    """LayerNorm of each block by itself: no coordinate is scaled by a later one."""

    def __init__(
        self, sizes: Sequence[int], kind: Callable[[int], nn.Module] = nn.LayerNorm
    ) -> None:
        """Args:
        sizes: the ends of the blocks.
        kind: of norm, made of a width: `nn.RMSNorm`, say.
        """
        super().__init__()
        self.widths = block_widths(sizes)
        self.blocks = nn.ModuleList(kind(width) for width in self.widths)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., D] -> [..., D]`."""
        parts = x.split(self.widths, dim=-1)
        normed = [block(part) for block, part in zip(self.blocks, parts, strict=True)]
        return torch.cat(normed, dim=-1)


def linear(inputs: Sequence[int], outputs: Sequence[int], *, nested: bool) -> nn.Module:
    """A linear layer; torch's own, from the last size to the last, where it is not to be nested."""
    return NestedLinear(inputs, outputs) if nested else nn.Linear(inputs[-1], outputs[-1])


def norm(sizes: Sequence[int], *, nested: bool) -> nn.Module:
    """A LayerNorm, of each block by itself where it is to be nested."""
    return NestedNorm(sizes) if nested else nn.LayerNorm(sizes[-1])


def halves(x: Tensor, outputs: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Two layers of `outputs` that were computed as one: every block holds both, side by side.

    `[..., 2 E] -> [..., E], [..., E]`.
    """
    pairs = [part.chunk(2, dim=-1) for part in x.split([2 * w for w in block_widths(outputs)], -1)]
    firsts, seconds = zip(*pairs, strict=True)
    return torch.cat(firsts, dim=-1), torch.cat(seconds, dim=-1)
