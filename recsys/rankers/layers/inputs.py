"""Inputs of a network: scaled numbers with marks of missing ones, and vectors of fields.

Shape legend: R rows, C numbers, M of them that may be missing, F fields, G vectors of a row
(one for each field, group of fields, and item), E coordinates of a vector, K + 1 quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.rankers.examples import Field, Schema
from recsys.rankers.layers.prefix import part
from recsys.rankers.neural.options import InputOptions
from recsys.rankers.neural.statistics import NumberStatistics
from recsys.tables import build_table
from recsys.tables.compressed.low_rank import LowRankConfig
from recsys.tables.plain.dense import DenseConfig
from recsys.tables.shared_rows.hashed import HashedConfig


@dataclass(frozen=True)
class Batch:
    """Rows as tensors; what a network does not read is None."""

    numbers: Tensor | None = None
    """`[R, C]` float32, NaN: missing."""
    fields: Tensor | None = None
    """`[R, F]` int64."""
    items: Tensor | None = None
    """`[R]` int64."""
    history: Tensor | None = None
    """`[Q, L]` int64 items + 1, 0 where there is none."""
    owners: Tensor | None = None
    """`[R]` int64: the row of `history` of each row."""


class Numbers(nn.Module):
    """Numbers on one scale: `[R, C] -> [R, C + M]`.

    quantile: the share of the training rows below a number (piecewise linear between K + 1
    quantiles), moved and scaled to mean 0 and variance 1 of a uniform distribution. standard:
    (x - mean) / deviation, within -10 and 10. A missing one is 0, and marked.
    """

    lows: Tensor
    widths: Tensor
    means: Tensor
    deviations: Tensor
    absent: Tensor

    def __init__(self, statistics: NumberStatistics, kind: str) -> None:
        super().__init__()
        self.kind = kind
        lows, highs = statistics.edges[:, :-1], statistics.edges[:, 1:]
        self.register_buffer("lows", torch.from_numpy(lows.copy()))
        self.register_buffer("widths", torch.from_numpy((highs - lows).clip(min=1e-12)))
        self.register_buffer("means", torch.from_numpy(statistics.means))
        self.register_buffer("deviations", torch.from_numpy(statistics.deviations))
        self.register_buffer("absent", torch.from_numpy(statistics.absent))
        self.outputs = len(statistics.means) + len(statistics.absent)

    def forward(self, numbers: Tensor) -> Tensor:
        """`[R, C] -> [R, C + M]`."""
        missing = torch.isnan(numbers)
        known = torch.where(missing, self.means, numbers)
        if self.kind == "quantile":
            steps = ((known.unsqueeze(-1) - self.lows) / self.widths).clamp(0.0, 1.0)
            scaled = (steps.mean(-1) - 0.5) * 12**0.5
        else:
            scaled = ((known - self.means) / self.deviations).clamp(-10.0, 10.0)
        scaled = torch.where(missing, torch.zeros_like(scaled), scaled)
        return torch.cat([scaled, missing[:, self.absent].to(scaled.dtype)], dim=1)


class FieldVectors(nn.Module):
    """A vector for each field; the fields of one group share a table and are averaged.

    Fields of one group are one feature of several values, spread over columns; 0 is no value. Small
    fields stand in one table, one after another; each large one has a table of its own kind.
    """

    starts: Tensor
    same: Tensor
    alone: Tensor
    members: Tensor

    def __init__(self, fields: Sequence[Field], options: InputOptions) -> None:
        super().__init__()
        groups = _groups(fields)
        largest = {name: max(fields[at].size for at in groups[name]) for name in groups}
        large = [name for name, size in largest.items() if size >= options.large.from_size]
        small = [name for name in groups if name not in large]
        self.names = (*small, *large)
        """`[G]` of the fields, or of their groups, in the order of the vectors."""
        self.tables = nn.ModuleList(_large_table(largest[name], options) for name in large)
        self.large = [groups[name] for name in large]
        self.columns = [column for name in small for column in groups[name]]
        owners = torch.tensor([at for at, name in enumerate(small) for _ in groups[name]])
        sizes = torch.tensor([0, *(largest[name] for name in small)], dtype=torch.int64)
        rows = sizes.cumsum(0)
        self.small = (
            build_table(
                DenseConfig(), int(rows[-1]), options.embedding_dim, init_std=options.init_std
            )
            if small
            else None
        )
        self.grouped = len(self.columns) > len(small)
        if small:
            same = (owners[:, None] == owners).float()
            members = (torch.arange(len(small))[:, None] == owners).float()
            self.register_buffer("starts", rows[owners])
            self.register_buffer("same", same, persistent=False)
            self.register_buffer("alone", same.sum(1) == 1, persistent=False)
            self.register_buffer("members", members, persistent=False)

    @property
    def outputs(self) -> int:
        """Vectors of a row."""
        return len(self.names)

    def forward(self, fields: Tensor, size: int) -> Tensor:
        """`[R, F] -> [R, G, size]`, in the order of `names`."""
        found: list[Tensor] = []
        if self.small is not None:
            values = fields[:, self.columns]
            vectors = self.small(values + self.starts, size=size)
            found.append(self._averaged(vectors, values) if self.grouped else vectors)
        for columns, table in zip(self.large, self.tables, strict=True):
            values = fields[:, columns]
            vectors = table(values, size=size)
            found.append(_mean(vectors, values) if len(columns) > 1 else vectors)
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)

    def _averaged(self, vectors: Tensor, values: Tensor) -> Tensor:
        """The vectors of single fields, and the mean of the values that each group has."""
        present = (values != 0).to(vectors.dtype)
        shares = present / (present @ self.same).clamp(min=1.0)
        shares = torch.where(self.alone, torch.ones_like(shares), shares)
        return torch.matmul(self.members, vectors * shares.unsqueeze(2))


def _groups(fields: Sequence[Field]) -> dict[str, list[int]]:
    """Columns by the name of their group, or of the field, in the order of their first column."""
    found: dict[str, list[int]] = {}
    for column, field in enumerate(fields):
        found.setdefault(field.group or field.name, []).append(column)
    return found


def _mean(vectors: Tensor, values: Tensor) -> Tensor:
    """The mean vector of the values that are there: `[R, n, E] -> [R, 1, E]`."""
    present = (values != 0).to(vectors.dtype)
    total = (vectors * present.unsqueeze(-1)).sum(1)
    return (total / present.sum(1, keepdim=True).clamp(min=1.0)).unsqueeze(1)


def _large_table(size: int, options: InputOptions) -> nn.Module:
    kinds = {
        "dense": DenseConfig(),
        "hashed": HashedConfig(share=options.large.share),
        "low_rank": LowRankConfig(share=options.large.share),
    }
    chosen = kinds[options.large.table]
    return build_table(chosen, size, options.embedding_dim, init_std=options.init_std)  # type: ignore[arg-type]


class Inputs(nn.Module):
    """All that is known of a row, as numbers `[R, C + M]` and vectors `[R, G, E]`."""

    def __init__(self, schema: Schema, statistics: NumberStatistics, options: InputOptions) -> None:
        """Raises ConfigError where the schema holds nothing to score rows by."""
        super().__init__()
        self.embedding_dim = options.embedding_dim
        self.numbers = Numbers(statistics, options.numbers) if schema.numbers else None
        self.fields = FieldVectors(schema.fields, options) if schema.fields else None
        self.items: nn.Module | None = None
        if options.item_vectors:
            if not schema.num_items:
                raise ConfigError(
                    "inputs.item_vectors: these examples name no items; leave it out, or make "
                    "features with items"
                )
            # Row 0 stands for no item.
            self.items = build_table(
                DenseConfig(),
                schema.num_items + 1,
                options.embedding_dim,
                init_std=options.init_std,
            )
        self.dropout = nn.Dropout(options.dropout)
        if self.numbers is None and self.fields is None and self.items is None:
            raise ConfigError("there are no features to score rows by; name some")

    @property
    def reads(self) -> tuple[str, ...]:
        """Fields of `Batch` that are read."""
        kept = {"numbers": self.numbers, "fields": self.fields, "items": self.items}
        return tuple(name for name, module in kept.items() if module is not None)

    @property
    def num_numbers(self) -> int:
        """C + M."""
        return 0 if self.numbers is None else self.numbers.outputs

    @property
    def num_vectors(self) -> int:
        """G."""
        fields = 0 if self.fields is None else self.fields.outputs
        return fields + (self.items is not None)

    def size(self, share: float) -> int:
        """Coordinates of a vector at a share of the width."""
        return part(self.embedding_dim, share)

    def forward(self, batch: Batch, share: float) -> tuple[Tensor, Tensor]:
        """Numbers `[R, C + M]` and vectors `[R, G, E']`, either of no columns where there is none.

        Numbers are whole at any share of the width: there are few, and each may matter.
        """
        size, vectors = self.size(share), []
        if self.fields is not None:
            assert batch.fields is not None
            vectors.append(self.fields(batch.fields, size))
        if self.items is not None:
            assert batch.items is not None
            vectors.append(self.items(batch.items + 1, size=size).unsqueeze(1))
        if self.numbers is None:
            found = torch.cat(vectors, dim=1)
            return found.new_zeros(found.shape[0], 0), self.dropout(found)
        assert batch.numbers is not None
        numbers = self.numbers(batch.numbers)
        # len() would be a constant of the exported network.
        if not vectors:
            return numbers, numbers.new_zeros(numbers.shape[0], 0, size)
        return numbers, self.dropout(torch.cat(vectors, dim=1))
