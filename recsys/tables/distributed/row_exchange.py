"""Point-to-point lookup of rows of a sharded table.

For lookups without a gradient (evaluation, candidates, export). Training goes through the engine.

Shape legend: N rows, D embedding_dim, R rows requested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from recsys.processes import Processes
from recsys.tables.distributed.plan import Shard, holders


@dataclass(frozen=True)
class Reading:
    """The cost of one lookup for this process."""

    ranks: tuple[int, ...] = ()
    """Processes whose rows were read."""
    sent: int = 0
    """Bytes of indices sent to other processes, and of vectors sent to those who asked."""
    received: int = 0
    """Bytes of both that came in."""


class RowExchange:
    """Lookup of rows of a table that is spread over several processes."""

    def __init__(
        self, shards: Sequence[Shard], blocks: Mapping[Shard, Tensor], processes: Processes
    ) -> None:
        """Args:
        shards: of all processes.
        blocks: weights `[rows, width]` of this process's own.
        processes: whose they are.
        """
        self.shards, self.blocks, self.processes = tuple(shards), blocks, processes
        self.last = Reading()

    def read(self, rows: Tensor, size: int) -> Tensor:
        """The first `size` coordinates of rows of this process's choice.

        All processes call it at the same time, each with rows of its own (or none). Messages go to
        and from the holders of that prefix alone.

        Args:
            rows: `[R]` int64.
            size: 1..D.

        Returns:
            `[R, size]`.
        """
        found = torch.empty(len(rows), size)
        rank, held = self.processes.rank, holders(self.shards, size)
        places = {holder: self._places(rows, holder) for holder in held}
        others = [holder for holder in held if holder != rank]
        asked = {holder: rows[places[holder]] for holder in others}
        served = self._ask(asked, rank in held)
        answers = {peer: self._own(wanted, size) for peer, wanted in served.items()}
        width = {holder: _width(self.shards, holder, size) for holder in held}
        given = _swap(
            answers,
            {h: torch.empty(len(ids), width[h]) for h, ids in asked.items() if len(ids)},
        )
        if rank in held:
            given[rank] = self._own(rows[places[rank]], size)
        for holder, block in given.items():
            self._fill(found, places[holder], block, holder, size)
        wanted = sum(ids.nbytes for ids in asked.values())
        self.last = Reading(
            tuple(sorted(holder for holder in held if len(places[holder]))),
            wanted + sum(block.nbytes for block in answers.values()),
            sum(ids.nbytes for ids in served.values())
            + sum(block.nbytes for holder, block in given.items() if holder != rank),
        )
        return found

    def _places(self, rows: Tensor, holder: int) -> Tensor:
        """Which of the rows a process holds (a part of)."""
        shard = next(shard for shard in self.shards if shard.rank == holder)
        return ((rows >= shard.row) & (rows < shard.row_end)).nonzero()[:, 0]

    def _ask(self, asked: dict[int, Tensor], holding: bool) -> dict[int, Tensor]:
        """Sends the indices; returns those that others ask of this process."""
        others = [r for r in range(self.processes.world_size) if r != self.processes.rank]
        counts = _swap(
            {holder: torch.tensor([len(ids)]) for holder, ids in asked.items()},
            {peer: torch.empty(1, dtype=torch.int64) for peer in others} if holding else {},
        )
        return _swap(
            {holder: ids for holder, ids in asked.items() if len(ids)},
            {
                peer: torch.empty(int(count), dtype=torch.int64)
                for peer, count in counts.items()
                if count
            },
        )

    def _own(self, rows: Tensor, size: int) -> Tensor:
        """`[R, w]` what this process has of the rows: its columns below `size`, side by side."""
        parts = [
            block[rows - shard.row, : size - shard.column]
            for shard, block in self.blocks.items()
            if shard.column < size
        ]
        return torch.cat(parts, dim=1).contiguous()

    def _fill(self, found: Tensor, places: Tensor, block: Tensor, holder: int, size: int) -> None:
        """Puts what a holder gave into its coordinates."""
        start = 0
        for shard in self.shards:
            if shard.rank == holder and shard.column < size:
                width = min(shard.end, size) - shard.column
                part = block[:, start : start + width]
                if len(places) == len(found):
                    found[:, shard.column : shard.column + width] = part
                else:
                    found[places, shard.column : shard.column + width] = part
                start += width


def _width(shards: Sequence[Shard], holder: int, size: int) -> int:
    return sum(
        min(shard.end, size) - shard.column
        for shard in shards
        if shard.rank == holder and shard.column < size
    )


def _swap(outgoing: dict[int, Tensor], incoming: dict[int, Tensor]) -> dict[int, Tensor]:
    """Sends tensors to processes and fills those that others send; returns the filled ones."""
    messages = [dist.P2POp(dist.irecv, tensor, peer) for peer, tensor in incoming.items()]
    messages += [dist.P2POp(dist.isend, tensor, peer) for peer, tensor in outgoing.items()]
    if messages:
        for work in dist.batch_isend_irecv(messages):
            work.wait()
    return incoming
