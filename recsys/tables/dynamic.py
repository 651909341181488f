"""Dynamic tables: ids come and go in a fixed number of rows.

Liu et al., Monolith: Real Time Recommendation System With Collisionless Embedding Table, 2022. An
id is admitted to a row once it was seen often enough, and gives it back when it was not seen for
longer than its time to live (`admission.py`). A row that is given out starts anew: weights and
moments. Ids without a row share one common row, which is trained as well.

`observe` is told what happens; in training a model reports the targets of each step, and the time
is the number of steps. Everything, map and counts included, is in the state of the module: a run
that was killed goes on with the very same rows.

Shape legend: P rows, E entries, D embedding_dim, B ids.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.config import StrictModel
from recsys.errors import RunError
from recsys.kernels import row_admission as admission
from recsys.kernels.id_map import EMPTY, look_up
from recsys.kernels.row_admission import FREE_ENTRIES, FREE_ROWS
from recsys.tables.host_buffers import HostBuffers
from recsys.tables.plain.lookup import lookup
from recsys.tables.row_optimizers import UpdateRule, adamw_rows, touched_rows

COMMON = 0
"""The row of all ids that have none."""
_observe: Callable[..., int] = admission.observe
_expire: Callable[..., int] = admission.expire


class DynamicConfig(StrictModel):
    """Options of a dynamic table."""

    name: Literal["dynamic"] = "dynamic"
    rows: int | None = Field(default=None, ge=1)
    """P; None: one for every index."""
    entries: int | None = Field(default=None, ge=1)
    """Ids that are known at a time, with a row or waiting for one; None: twice the rows."""
    min_count: int = Field(default=1, ge=1)
    """Events of an id until it is admitted."""
    time_to_live: int | None = Field(default=None, ge=1)
    """Ids not seen for longer lose their row; None: never. In training counted in steps."""
    expire_every: int = Field(default=1000, ge=1)
    """Calls of `observe` from one expiry to the next."""


class DynamicTable(HostBuffers):
    """Rows that are assigned to ids as they appear; a `SelfUpdating` table.

    On a device are the rows and their moments; the map of ids is in the host's memory.
    """

    on_host = (
        *("keys", "slots", "ids", "counts", "seen", "rows"),
        *("free_rows", "free_entries", "totals", "clock", "seed"),
    )

    def __init__(
        self,
        config: DynamicConfig,
        num_rows: int,
        embedding_dim: int,
        *,
        init_std: float,
    ) -> None:
        """`num_rows`: what `vectors` gives; ids may be any int64 but the smallest."""
        super().__init__()
        self.config, self.num_rows, self.embedding_dim = config, num_rows, embedding_dim
        self.init_std = init_std
        count = config.rows or num_rows
        entries = max(count, config.entries or 2 * count)
        self.weight = nn.Parameter(torch.randn(count + 1, embedding_dim) * init_std)
        places = 1 << (2 * entries - 1).bit_length()
        free_rows = torch.arange(count, 0, -1, dtype=torch.int32)
        self._keep("keys", torch.full((places,), int(EMPTY)))
        self._keep("slots", torch.zeros(places, dtype=torch.int32))
        self._keep("ids", torch.zeros(entries, dtype=torch.int64))
        self._keep("counts", torch.zeros(entries, dtype=torch.int32))
        self._keep("seen", torch.zeros(entries, dtype=torch.int64))
        self._keep("rows", torch.full((entries,), -1, dtype=torch.int32))
        self._keep("free_rows", free_rows)
        self._keep("free_entries", torch.arange(entries - 1, -1, -1, dtype=torch.int32))
        totals = torch.zeros(6, dtype=torch.int64)
        totals[FREE_ROWS], totals[FREE_ENTRIES] = count, entries
        self._keep("totals", totals)
        self._keep("clock", torch.zeros(2, dtype=torch.int64))  # time, calls of observe
        self._keep("seed", torch.randint(1 << 40, (1,)))
        self._slots = {
            "exp_avg": torch.zeros_like(self.weight.detach()),
            "exp_avg_sq": torch.zeros_like(self.weight.detach()),
            "step": torch.zeros(()),
        }

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> DynamicTable:
        super()._apply(fn, recurse)
        for name in ("exp_avg", "exp_avg_sq"):
            self._slots[name] = self._slots[name].to(self.weight.device)
        return self

    def _keep(self, name: str, tensor: Tensor) -> None:
        """A buffer: saved with the weights."""
        self.register_buffer(name, tensor)

    def observe(self, ids: Tensor, now: int | None = None) -> None:
        """Counts events, admits ids, and expires them from time to time.

        Args:
            ids: `[B]` int64.
            now: the time, not less than before; None: one more than before.

        Raises:
            RunError: time goes back.
        """
        clock = self.get_buffer("clock")
        last = int(clock[0])
        now = last + 1 if now is None else now
        if now < last:
            raise RunError(f"time {now} comes after {last}: events must come in the order of time")
        clock[0] = now
        clock[1] += 1
        live = -1 if self.config.time_to_live is None else self.config.time_to_live
        events = np.ascontiguousarray(ids.cpu().numpy())
        fresh = np.empty(len(events), np.int32)
        given = _observe(*self._state(), events, now, self.config.min_count, live, fresh)
        self._renew(torch.from_numpy(fresh[:given]).long())
        if int(clock[1]) % self.config.expire_every == 0:
            self.expire()

    def expire(self) -> int:
        """Drops every id that was not seen within the time to live; returns how many."""
        if self.config.time_to_live is None:
            return 0
        before = int(self.get_buffer("clock")[0]) - self.config.time_to_live
        return int(_expire(*self._state(), before, False))

    def _state(self) -> list[npt.NDArray[Any]]:
        names = (
            *("keys", "slots", "ids", "counts", "seen", "rows"),
            *("free_rows", "free_entries", "totals"),
        )
        return [self.get_buffer(name).numpy() for name in names]

    @torch.no_grad()
    def _renew(self, rows: Tensor) -> None:
        """Rows that were given out start anew, whoever had them before.

        What they start with depends on the table's seed and clock alone, so that processes that
        train together stay alike, and so does a run that was resumed.
        """
        seed = int(self.get_buffer("seed")) + int(self.get_buffer("clock")[1])
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(len(rows), self.embedding_dim, generator=generator)
        rows = rows.to(self.weight.device)
        self.weight[rows] = start.to(self.weight.device) * self.init_std
        for name in ("exp_avg", "exp_avg_sq"):
            self._slots[name][rows] = 0.0

    def rows_of(self, ids: Tensor) -> Tensor:
        """`[...]` int64 ids -> their rows, `COMMON` for those that have none."""
        flat = np.ascontiguousarray(ids.reshape(-1).cpu().numpy())
        entries = np.empty(len(flat), np.int32)
        keys, slots, *_ = self._state()
        look_up(keys, slots, flat, entries)
        found = torch.from_numpy(entries).long()
        rows = self.get_buffer("rows")[found.clamp_min(0)].long()
        known = torch.where(found >= 0, rows, -1).clamp_min(COMMON).view(ids.shape)
        return known.to(self.weight.device)

    def forward(self, rows: Tensor, *, size: int | None = None, sparse: bool = True) -> Tensor:  # noqa: ARG002
        """See `EmbeddingTable`; `rows` are ids, and the gradient is always sparse."""
        return lookup(self.weight, self.rows_of(rows), size, sparse=True)

    def vectors(self) -> Tensor:
        """`[num_rows, D]` of the ids 0 .. num_rows - 1."""
        return nn.functional.embedding(self.rows_of(torch.arange(self.num_rows)), self.weight)

    @property
    def nbytes(self) -> int:
        """4 (P + 1) D, and the map: 12 bytes a place, 24 an entry, 8 a row."""
        return self.weight.nbytes + sum(buffer.nbytes for buffer in self.buffers())

    def update_rows(self, rule: UpdateRule) -> None:
        """See `SelfUpdating`."""
        if self.weight.grad is None:
            return
        rows, values = touched_rows(self.weight.grad)
        adamw_rows(self.weight.detach(), self._slots, rows, values, rule)
        self.weight.grad = None

    def optimizer_slots(self) -> dict[str, Tensor]:
        """See `SelfUpdating`."""
        return self._slots

    def release(self) -> None:
        """See `SelfUpdating`: everything is in memory and stays there."""
