"""Files of tensors spread over processes, as safetensors.

Each process writes what it holds, in files of bounded size; what was written by W processes is read
by any number of them, however they have cut the tensor, or whole. The folder must be one that all
processes see. Nothing in it is a pickle: a file says itself which rectangle of which tensor it is.
"""

from __future__ import annotations

import queue
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed._shard.metadata import ShardMetadata
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed._shard.sharded_tensor.metadata import (
    ShardedTensorMetadata,
    TensorProperties,
)
from torch.distributed._shard.sharded_tensor.shard import Shard as TensorShard
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from recsys.errors import RunError

FILE_BYTES = 64 << 20
"""A file's tensor is about this large at most: writing one needs a copy of it."""


@dataclass(frozen=True)
class Piece:
    """A rectangle of a tensor and the process that holds it."""

    rank: int
    offsets: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Spread:
    """A tensor that is spread over processes."""

    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    """Of all processes."""
    own: Mapping[Piece, Tensor]
    """What this process holds; the tensors themselves, which loading fills."""

    def in_files(self) -> Spread:
        """The same, in rows few enough for a file."""
        pieces: list[Piece] = []
        own: dict[Piece, Tensor] = {}
        for piece in self.pieces:
            row_bytes = 4 * max(1, torch.Size(piece.shape[1:]).numel())
            step = max(1, FILE_BYTES // row_bytes)
            for lo in range(0, piece.shape[0], step):
                hi = min(lo + step, piece.shape[0])
                part = Piece(
                    piece.rank,
                    (piece.offsets[0] + lo, *piece.offsets[1:]),
                    (hi - lo, *piece.shape[1:]),
                )
                pieces.append(part)
                if piece in self.own:
                    own[part] = self.own[piece][lo:hi]
        return Spread(self.shape, tuple(pieces), own)

    def as_tensor(self) -> ShardedTensor:
        """As torch knows such tensors."""
        known = {
            piece: ShardMetadata(list(piece.offsets), list(piece.shape), f"rank:{piece.rank}/cpu")
            for piece in self.pieces
        }
        return ShardedTensor._init_from_local_shards_and_global_metadata(
            [TensorShard(tensor, known[piece]) for piece, tensor in self.own.items()],
            ShardedTensorMetadata(
                list(known.values()),
                torch.Size(self.shape),
                TensorProperties(dtype=torch.float32),
            ),
        )


class _Writer(HuggingFaceStorageWriter):
    """Writes one file for each rectangle: a safetensors file holds each tensor name once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), save_distributed=True)

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        files: queue.Queue[tuple[object, str, list[object]]] = queue.Queue()
        for number, item in enumerate(plan.items):
            shard = plan.storage_data["shard_index"]
            name = f"process-{shard:05d}-part-{number:05d}.safetensors"
            files.put((self.fs.concat_path(self.path, name), name, [item]))
        return self._write_data(planner, files)


def save_spread(folder: Path, tensors: Mapping[str, Spread]) -> None:
    """Writes tensors into an empty folder; all processes call it."""
    state = {name: spread.in_files().as_tensor() for name, spread in tensors.items()}
    save(state, storage_writer=_Writer(folder))


def saved_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a folder.

    Raises:
        RunError: there are none.
    """
    found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    if not found:
        raise RunError(f"{folder} holds no tensors; the checkpoint is damaged: train again")
    return {
        name: tuple(entry.size)
        for name, entry in found.items()
        if isinstance(entry, TensorStorageMetadata)
    }


def load_spread(folder: Path, tensors: Mapping[str, Spread]) -> None:
    """Fills this process's parts of tensors that any number of processes have written."""
    state = {name: spread.as_tensor() for name, spread in tensors.items()}
    load(state, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)


def load_whole(folder: Path, name: str) -> Tensor:
    """A tensor put together from its rectangles; one process is enough.

    Raises:
        RunError: there is no such tensor.
    """
    shapes = saved_shapes(folder)
    if name not in shapes:
        raise RunError(f"{folder} holds {sorted(shapes)}, not {name}")
    whole = torch.empty(shapes[name])
    reader = HuggingFaceStorageReader(str(folder))
    load({name: whole}, storage_reader=reader, no_dist=True)
    return whole
