"""Mapped tables: weights and optimizer state in a file larger than memory.

A step reads and writes, in place, the rows it touches. Losses over the full catalogue take the
gradient of every row: train with sampled negatives.

The file has no name: its room is free again when the process ends, however it ends. What lasts
is the checkpoint of a run, which is whole or absent, so a run that was killed goes on from rows and
moments of one and the same step.

Shape legend: N rows, D embedding_dim, W numbers of a record.
"""

import mmap
import os
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.config import StrictModel
from recsys.errors import ConfigError, InstallationError
from recsys.kernels.row_reading import read_rows
from recsys.tables.row_optimizers import UpdateRule, adagrad_rows, adamw_rows, touched_rows

_PAGE = 1 << 12
"""Bytes that become this process's when a row is written."""
_BLOCK = 1 << 22
"""Numbers written at once when a table is filled."""
_ADAMW = ("weight", "exp_avg", "exp_avg_sq")
_ADAGRAD = ("weight", "sum")
"""Parts of a record. Weights come first: a prefix of them is a prefix of the record."""


class MappedConfig(StrictModel):
    """Options of a mapped table, which has its own optimizer."""

    name: Literal["mapped"] = "mapped"
    optimizer: Literal["adamw", "adagrad"] = "adamw"
    """adamw: two moments, each as large as the table. adagrad (row-wise): one number a row."""
    folder: Path | None = None
    """Where the file is made; None: /var/tmp, as /tmp is memory on some systems."""
    resident_mib: int = Field(default=512, ge=1)
    """Memory that rows written to may take, about, before they are let go."""


class MappedArray:
    """A float32 tensor in an unnamed temporary file; zeros at first."""

    def __init__(self, shape: tuple[int, int], folder: Path) -> None:
        """Reserves the room on disk.

        Raises:
            ConfigError: it is not there, or the folder cannot be written.
            InstallationError: the system is not Linux.
        """
        if not hasattr(os, "posix_fallocate"):
            raise InstallationError(
                "a mapped table reserves its file by posix_fallocate, which Linux alone has; train "
                "there, or choose another model.table.name"
            )
        size = 4 * shape[0] * shape[1]
        try:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - as long as the array
            # Without it a full disk would kill the process at some later write.
            os.posix_fallocate(self._file.fileno(), 0, size)
            self._map = mmap.mmap(self._file.fileno(), size)
        except OSError as error:
            raise ConfigError(
                f"{size / 2**20:,.0f} MiB for a mapped table cannot be reserved in {folder} "
                f"({error}); "
                "make room there, or choose another place with table.folder"
            ) from error
        self._map.madvise(mmap.MADV_RANDOM)
        self.tensor = torch.from_numpy(np.frombuffer(self._map, np.float32)).view(shape)

    def read(self, rows: Tensor, size: int | None = None) -> Tensor:
        """The first `size` numbers of `rows [R]` int64 (None: all), in memory of their own.

        Raises:
            IndexError: a row is not there.
            OSError: the file could not be read.
        """
        width = self.tensor.shape[1]
        wanted = width if size is None else size
        found = torch.empty(len(rows), wanted)
        indices = rows.numpy()
        if len(rows) and not 0 <= indices.min() <= indices.max() < len(self.tensor):
            raise IndexError(f"row {indices.max()} is requested, the table has {len(self.tensor)}")
        file, address = self._file.fileno(), found.data_ptr()
        read = read_rows(file, indices, 4 * width, 4 * wanted, address)
        if read < len(rows):
            raise OSError(f"row {indices[read]} of a mapped table could not be read from its file")
        return found

    def release(self) -> None:
        """Lets go of pages that were written to; what was written stays."""
        self._map.madvise(mmap.MADV_DONTNEED)


class MappedTable(nn.Module):
    """`num_rows` vectors in a file, updated in place; a `SelfUpdating` table."""

    def __init__(
        self, config: MappedConfig, num_rows: int, embedding_dim: int, *, init_std: float
    ) -> None:
        """Raises ConfigError when the file cannot be made."""
        super().__init__()
        self.config, self.num_rows, self.embedding_dim = config, num_rows, embedding_dim
        folder = config.folder or Path("/var/tmp")
        names = _ADAMW if config.optimizer == "adamw" else _ADAGRAD
        widths = [1 if name == "sum" else embedding_dim for name in names]
        # Side by side, as each page that is written to costs a fault: one a row, not one a file.
        self._file = MappedArray((num_rows, sum(widths)), folder)
        self._names, self._widths = names, widths
        self._slots = self._parts(self._file.tensor)
        if config.optimizer == "adamw":
            self._slots["step"] = torch.zeros(())
        self.weight = nn.Parameter(self._slots.pop("weight"))
        self._written = 0
        for block in self.weight.detach().split(max(1, _BLOCK // embedding_dim)):
            block.copy_(torch.empty(block.shape).normal_(std=init_std))
            self.release()

    def forward(self, rows: Tensor, *, size: int | None = None, sparse: bool = True) -> Tensor:  # noqa: ARG002
        """See `EmbeddingTable`; the gradient is always sparse."""
        found: Tensor = _lookup(self.weight, self._file, rows, size or self.embedding_dim)
        return found

    def vectors(self) -> Tensor:
        """`[num_rows, D]`, all of them: a mapped view that passes, from one row to the next, over
        what the optimizer keeps. Whoever needs them in one piece, as ranking does, makes a copy.
        """
        return self.weight

    @property
    def nbytes(self) -> int:
        """4 N D, on disk; what the optimizer keeps lies there besides."""
        return self.weight.nbytes

    def update_rows(self, rule: UpdateRule) -> None:
        """See `SelfUpdating`."""
        if self.weight.grad is None:
            return
        rows, values = touched_rows(self.weight.grad)
        records = self._file.read(rows)
        parts = self._parts(records)
        weight, state = parts.pop("weight"), self._slots | parts
        update = adamw_rows if self.config.optimizer == "adamw" else adagrad_rows
        update(weight, state, torch.arange(len(rows)), values, rule)
        self._file.tensor.index_copy_(0, rows, records)
        self.weight.grad = None
        self._count(len(rows))

    def optimizer_slots(self) -> dict[str, Tensor]:
        """See `SelfUpdating`."""
        return self._slots

    def release(self) -> None:
        """See `SelfUpdating`."""
        self._written = 0
        self._file.release()

    def _parts(self, records: Tensor) -> dict[str, Tensor]:
        """Weights and slots of `records [R, W]`, as views."""
        parts = dict(zip(self._names, records.split(self._widths, dim=1), strict=True))
        return parts | ({"sum": parts["sum"][:, 0]} if "sum" in parts else {})

    def _count(self, rows: int) -> None:
        """Releases before the rows written to take more memory than they may."""
        self._written += rows * max(_PAGE, 4 * sum(self._widths))
        if self._written > self.config.resident_mib << 20:
            self.release()


class _Lookup(torch.autograd.Function):
    """`rows [...]` of a file, `[..., size]`; the gradient of its weight is sparse."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, array: MappedArray, rows: Tensor, size: int) -> Tensor:
        # A batch names popular rows again and again; each is a call to the system.
        ctx.distinct, ctx.places = rows.flatten().unique(return_inverse=True)
        ctx.shape = weight.shape
        return array.read(ctx.distinct, size)[ctx.places].view(*rows.shape, size)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        size = grad.shape[-1]
        values = grad.new_zeros(len(ctx.distinct), ctx.shape[1])
        values[:, :size].index_add_(0, ctx.places, grad.reshape(-1, size))
        found = torch.sparse_coo_tensor(
            ctx.distinct[None], values, ctx.shape, check_invariants=False, is_coalesced=True
        )
        return found, None, None, None


_lookup: Any = _Lookup.apply
