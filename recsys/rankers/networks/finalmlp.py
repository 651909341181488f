"""FinalMLP: two streams of hidden layers on inputs that are gated differently, fused bilinearly.

Mao et al., FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction, AAAI 2023.

Shape legend: R rows, I inputs, G vectors of a row, E coordinates, O outputs of a stream, H heads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.rankers.layers.inputs import Batch, FieldVectors
from recsys.rankers.layers.prefix import Hidden, PrefixLinear, flat, part
from recsys.rankers.networks.base import Features

if TYPE_CHECKING:
    from recsys.rankers.models.finalmlp import FinalMlpConfig


class Gate(nn.Module):
    """Feature selection: a factor of 0 to 2 for each input, out of the vectors of some fields.

    Without fields, out of one trained vector (section 3.2 of the paper).
    """

    def __init__(
        self, width: int, dim: int, columns: tuple[int, ...], config: FinalMlpConfig
    ) -> None:
        super().__init__()
        self.columns = list(columns)
        self.context = None if columns else nn.Parameter(torch.zeros(1, dim))
        inputs = max(1, len(columns)) * dim
        self.hidden = Hidden(inputs, config.gate_hidden, dropout=0.0, norm=False)
        self.output = PrefixLinear(self.hidden.outputs, width)

    def forward(self, x: Tensor, vectors: Tensor, share: float) -> Tensor:
        """`[R, I'], [R, G, E'] -> [R, I']`."""
        if self.context is None:
            context = vectors[:, self.columns].transpose(1, 2).flatten(1)
        else:
            context = self.context[:, : vectors.shape[2]]
        gates = 2 * torch.sigmoid(self.output(self.hidden(context, share), x.shape[1]))
        return x * gates


class Fusion(nn.Module):
    """`w1 x + w2 y + sum over heads of x_h W_h y_h` (eq. 9 and 10)."""

    def __init__(self, first: int, second: int, heads: int) -> None:
        super().__init__()
        self.heads, self.sizes = heads, (first // heads, second // heads)
        self.first, self.second = PrefixLinear(first, 1), PrefixLinear(second, 1, bias=False)
        self.weight = nn.Parameter(torch.empty(heads, *self.sizes))
        nn.init.xavier_normal_(self.weight)

    def forward(self, first: Tensor, second: Tensor, share: float) -> Tensor:
        """`[R, O'], [R, O'] -> [R, 1]`; the coordinates of the heads stand side by side."""
        one, other = (part(size, share) for size in self.sizes)
        by_head = first.reshape(-1, one, self.heads).permute(2, 0, 1)
        mapped = torch.bmm(by_head, self.weight[:, :one, :other])
        products = (mapped * second.reshape(-1, other, self.heads).permute(2, 0, 1)).sum(dim=(0, 2))
        score: Tensor = self.first(first) + self.second(second)
        return score + products.unsqueeze(1)


class FinalMlp(nn.Module):
    """Two gated streams and their fusion."""

    def __init__(self, features: Features, config: FinalMlpConfig) -> None:
        super().__init__()
        self.inputs = features.inputs()
        self.reads = self.inputs.reads
        dim = self.inputs.embedding_dim
        width = self.inputs.num_numbers + self.inputs.num_vectors * dim
        gates = (config.gate_first, config.gate_second)
        self.gates = nn.ModuleList(
            Gate(width, dim, _places(names, self.inputs.fields), config) for names in gates
        )
        streams = (config.first, config.second)
        self.streams = nn.ModuleList(
            Hidden(width, sizes, dropout=config.dropout, norm=config.norm, groups=config.heads)
            for sizes in streams
        )
        self.fusion = Fusion(config.first[-1], config.second[-1], config.heads)

    def forward(self, batch: Batch, share: float = 1.0) -> Tensor:
        """`[R]` scores."""
        numbers, vectors = self.inputs(batch, share)
        x = flat(numbers, vectors)
        first, second = (
            stream(gate(x, vectors, share), share)
            for gate, stream in zip(self.gates, self.streams, strict=True)
        )
        score: Tensor = self.fusion(first, second, share)
        return score.squeeze(1)


def _places(names: tuple[str, ...], fields: FieldVectors | None) -> tuple[int, ...]:
    """Which vectors of a row are those of the fields named.

    Raises:
        ConfigError: there is no such field.
    """
    known = {name: at for at, name in enumerate(() if fields is None else fields.names)}
    if missing := [name for name in names if name not in known]:
        raise ConfigError(f"gates: there is no field {missing[0]!r}; known: {', '.join(known)}")
    return tuple(known[name] for name in names)
