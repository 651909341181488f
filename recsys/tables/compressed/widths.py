"""Tables with rows of learned width: zeros after a learned prefix.

Pruning by magnitude on the way (Zhu and Gupta 2017), whole slices of coordinates at a time and
always from the end, as nested vectors allow: the slices whose numbers are largest on average stay.
Rows that training moves often (frequent items) grow large and stay long; rare ones become short.
What embedding size search looks for by gates (DNIS: Cheng et al. 2020; OptEmbed: Lyu et al., CIKM
2022).

A row is served as its prefix and the place where that starts. Training keeps full rows.

Shape legend: N indices, S slices of equal length, D embedding_dim, B rows requested.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.tables.compressed.ramp import RampConfig, RampedTable

_MAX_SLICES = 32
_START_BYTES = 8


class WidthsConfig(RampConfig):
    """Options of a table with rows of learned width."""

    name: Literal["widths"] = "widths"
    share: float = Field(default=0.25, gt=0, le=1)
    """Bytes that are served over those of a dense table, at most."""
    every: int = Field(default=50, ge=1)
    """Steps from one choice of widths to the next; after the ramp they stay."""


class WidthsTable(RampedTable):
    """Rows, and the number of slices that each row keeps."""

    on_host = ("steps", "progress")
    kept: Tensor
    steps: Tensor

    def __init__(
        self, config: WidthsConfig, num_rows: int, embedding_dim: int, *, init_std: float
    ) -> None:
        """Raises ConfigError when the share holds no slice at all."""
        super().__init__(config)
        self.config, self.num_rows, self.embedding_dim = config, num_rows, embedding_dim
        self.num_slices = max(s for s in range(1, _MAX_SLICES + 1) if embedding_dim % s == 0)
        self.width = embedding_dim // self.num_slices
        room = config.share * 4 * num_rows * embedding_dim - _START_BYTES * num_rows
        self.budget = min(int(room / (4 * self.width)), num_rows * self.num_slices)
        if self.budget < 1:
            raise ConfigError(
                f"table.share {config.share} of {num_rows} x {embedding_dim} is less than the "
                "list of where rows start; raise it"
            )
        self.weight = nn.Parameter(torch.randn(num_rows, embedding_dim) * init_std)
        self.register_buffer("kept", torch.full((num_rows,), self.num_slices, dtype=torch.uint8))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def widths(self, count: int) -> Tensor:
        """`[N]` uint8: slices of each row, if `count` of all are kept."""
        sizes = self.weight.view(self.num_rows, self.num_slices, self.width).square().mean(2)
        # A slice is worth what the best of it and those behind it is: only ends are cut off.
        worth = sizes.flip(1).cummax(1).values.flip(1)
        # Slice by slice, so that of equals the one nearer to the front of its row comes first.
        order = worth.T.flatten().argsort(descending=True, stable=True)[:count]
        return torch.bincount(order % self.num_rows, minlength=self.num_rows).to(torch.uint8)

    def served(self) -> Tensor:
        """`[N]` uint8: slices of each row within the share."""
        return self.kept if self.ramped == 1.0 else self.widths(self.budget)

    def note_progress(self, progress: float) -> None:
        """One training step at `progress`, 0..1 of what is planned; from time to time the widths
        are chosen anew, steeply at first.
        """
        before = self.ramped
        self.steps += 1
        super().note_progress(progress)
        done = self.ramped
        if done > 0 and before < 1 and (int(self.steps) % self.config.every == 0 or done == 1):
            everything = self.num_rows * self.num_slices
            count = self.budget + int((everything - self.budget) * (1.0 - done) ** 3)
            self.kept.copy_(self.widths(count))

    def _masked(self, found: Tensor, slices: Tensor) -> Tensor:
        """`[B, D]` with zeros behind the first `slices [B]` slices."""
        places = torch.arange(self.num_slices, device=found.device)
        mask = places < slices[:, None]
        return found * mask.repeat_interleave(self.width, dim=1)

    def forward(self, rows: Tensor, *, size: int | None = None, sparse: bool = False) -> Tensor:
        """See `EmbeddingTable`."""
        flat = rows.reshape(-1)
        slices = self.kept if self.training else self.served()
        found = nn.functional.embedding(flat, self.weight, sparse=sparse)
        return self._masked(found, slices[flat])[:, :size].reshape(*rows.shape, -1)

    def vectors(self) -> Tensor:
        """`[num_rows, D]`, all of them."""
        return self._masked(self.weight, self.kept if self.training else self.served())

    @property
    def served_as(self) -> str:
        """The share."""
        return f"the share of {self.config.share:g}"

    @property
    def nbytes(self) -> int:
        """Four bytes a number within the share, eight for the place where each row starts."""
        return 4 * self.width * self.budget + _START_BYTES * self.num_rows
