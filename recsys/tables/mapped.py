"""A table larger than memory: weights and optimizer state in files that are mapped.

A step reads and writes, in place, the rows it touches. Losses over the full catalogue take the
gradient of every row: train with sampled negatives.

The files have no name: their room is free again when the process ends, however it ends. What lasts
is the checkpoint of a run, which is whole or absent, so a run that was killed goes on from rows and
moments of one and the same step.

Shape legend: N rows, D embedding_dim.
"""

import math
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
from recsys.errors import ConfigError
from recsys.tables.row_reading import read_rows
from recsys.tables.updates import UpdateRule, adagrad_rows, adamw_rows, touched_rows

_PAGE = 1 << 12
"""Bytes that become this process's when a row is written."""
_BLOCK = 1 << 22
"""Numbers written at once when a table is filled."""


class MappedConfig(StrictModel):
    """Rows in a file, with an optimizer of their own."""

    name: Literal["mapped"] = "mapped"
    optimizer: Literal["adamw", "adagrad"] = "adamw"
    """adamw: two moments, each as large as the table. adagrad (row-wise): one number a row."""
    folder: Path | None = None
    """Where the files are made; None: /var/tmp, as /tmp is memory on some systems."""
    resident_mib: int = Field(default=512, ge=1)
    """Memory that rows written to may take, about, before they are let go."""


class MappedArray:
    """A float32 tensor in a file without a name; zeros at first."""

    def __init__(self, shape: tuple[int, ...], folder: Path) -> None:
        """Reserves the room on disk.

        Raises:
            ConfigError: it is not there, or the folder cannot be written.
        """
        size = 4 * math.prod(shape)
        try:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - as long as the array
            # Without it a full disk would kill the process at some later write.
            os.posix_fallocate(self._file.fileno(), 0, size)
            self._map = mmap.mmap(self._file.fileno(), size)
        except OSError as error:
            raise ConfigError(
                f"{size / 2**20:,.0f} MiB for a mapped table cannot be had in {folder} ({error}); "
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
        width = math.prod(self.tensor.shape[1:])
        shape = self.tensor.shape[1:] if size is None else (size,)
        found = torch.empty(len(rows), *shape)
        indices = rows.numpy()
        if len(rows) and not 0 <= indices.min() <= indices.max() < len(self.tensor):
            raise IndexError(f"row {indices.max()} is asked for, the table has {len(self.tensor)}")
        wanted = 4 * (width if size is None else size)
        read = read_rows(self._file.fileno(), indices, 4 * width, wanted, found.data_ptr())
        if read < len(rows):
            raise OSError(f"row {indices[read]} of a mapped table could not be read from its file")
        return found

    def release(self) -> None:
        """Lets go of pages that were written to; what was written stays."""
        self._map.madvise(mmap.MADV_DONTNEED)


class MappedTable(nn.Module):
    """`num_rows` vectors that are updated where they lie; a `SelfUpdating` table."""

    def __init__(
        self, config: MappedConfig, num_rows: int, embedding_dim: int, *, init_std: float
    ) -> None:
        """Raises ConfigError when the files cannot be made."""
        super().__init__()
        self.config, self.num_rows, self.embedding_dim = config, num_rows, embedding_dim
        folder = config.folder or Path("/var/tmp")
        shape = (num_rows, embedding_dim)
        shapes: dict[str, tuple[int, ...]] = {"exp_avg": shape, "exp_avg_sq": shape}
        if config.optimizer == "adagrad":
            shapes = {"sum": (num_rows,)}
        self._arrays = {name: MappedArray(part, folder) for name, part in shapes.items()}
        self._slots = {name: array.tensor for name, array in self._arrays.items()}
        if config.optimizer == "adamw":
            self._slots["step"] = torch.zeros(())
        self._arrays["weight"] = MappedArray(shape, folder)
        self.weight = nn.Parameter(self._arrays["weight"].tensor)
        self._written = 0
        flat = self.weight.detach().view(-1)
        for start in range(0, len(flat), _BLOCK):
            flat[start : start + _BLOCK].normal_(std=init_std)
            self.release()

    def forward(self, rows: Tensor, *, size: int | None = None, sparse: bool = True) -> Tensor:  # noqa: ARG002
        """See `EmbeddingTable`; the gradient is always sparse."""
        found: Tensor = _lookup(self.weight, self._arrays["weight"], rows, size)
        return found

    def vectors(self) -> Tensor:
        """`[num_rows, D]`, all of them; mapped as well, so reading them takes no memory."""
        return self.weight

    @property
    def nbytes(self) -> int:
        """4 N D, on disk."""
        return self.weight.nbytes

    def update_rows(self, rule: UpdateRule) -> None:
        """See `SelfUpdating`."""
        if self.weight.grad is None:
            return
        rows, values = touched_rows(self.weight.grad)
        kept = {name: array.read(rows) for name, array in self._arrays.items()}
        weight = kept.pop("weight")
        state = self._slots | kept
        update = adamw_rows if self.config.optimizer == "adamw" else adagrad_rows
        update(weight, state, torch.arange(len(rows)), values, rule)
        for name, new in {"weight": weight, **kept}.items():
            self._arrays[name].tensor.index_copy_(0, rows, new)
        self.weight.grad = None
        self._count(len(rows) * len(self._arrays))

    def optimizer_slots(self) -> dict[str, Tensor]:
        """See `SelfUpdating`."""
        return self._slots

    def release(self) -> None:
        """See `SelfUpdating`."""
        self._written = 0
        for array in self._arrays.values():
            array.release()

    def _count(self, rows: int) -> None:
        """Releases before the rows written to take more memory than they may."""
        self._written += rows * max(_PAGE, 4 * self.embedding_dim)
        if self._written > self.config.resident_mib << 20:
            self.release()


class _Lookup(torch.autograd.Function):
    """`rows [...]` of a file, `[..., size]`; the gradient of its weight is sparse."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, array: MappedArray, rows: Tensor, size: int | None
    ) -> Tensor:
        ctx.rows, ctx.shape = rows.flatten(), weight.shape
        return array.read(ctx.rows, size).view(*rows.shape, -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        values = grad.reshape(len(ctx.rows), -1)
        missing = ctx.shape[1] - values.shape[1]
        values = nn.functional.pad(values, (0, missing)) if missing else values
        found = torch.sparse_coo_tensor(ctx.rows[None], values, ctx.shape, check_invariants=False)
        return found, None, None, None


_lookup: Any = _Lookup.apply
