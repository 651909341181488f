"""One training step on several processes: shares of a batch, and sums of gradients.

Every process knows the whole batch, which is a function of (seed, epoch, index), and takes some of
its users. The loss of a share counts by its targets, not as one of W, so W processes take the very
step that one would. Negatives are drawn from the whole batch, so all processes draw the same.

Shape legend: B users, T targets, W processes, G granularities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from recsys.arrays import Int64
from recsys.data.batching import Batch
from recsys.losses.softmax import NestedLossOutput
from recsys.processes import Processes


@dataclass(frozen=True)
class Share:
    """The share of a batch that one process takes."""

    batch: Batch
    weight: float
    """Its loss is multiplied by this, and gradients are averaged over processes: W times its part
    of the terms that the loss is the mean over."""


def share_of(batch: Batch, processes: Processes) -> Share:
    """This process's users of a batch, with about a W-th of the targets.

    A batch of fewer users than processes leaves some without: they take any one, with the weight 0,
    because lookups and sums need every process.
    """
    if processes.world_size == 1:
        return Share(batch, 1.0)
    offsets = batch.histories.offsets
    lo, hi = _cuts(offsets, processes.world_size)[processes.rank : processes.rank + 2].tolist()
    none = lo == hi
    if none:
        lo = min(lo, len(batch.histories) - 1)
        hi = lo + 1
    rows = np.arange(lo, hi)
    own = Batch(
        batch.histories.rows(rows),
        batch.targets[offsets[lo] : offsets[hi]],
        None if batch.older is None else batch.older.rows(rows),
    )
    part = 0.0 if none else len(own.targets) / len(batch.targets)
    return Share(own, processes.world_size * part)


def _cuts(offsets: Int64, parts: int) -> Int64:
    """`[W + 1]` rows: the edges nearest to equal numbers of targets."""
    wanted = np.arange(parts + 1) * offsets[-1] / parts
    middles = (offsets[:-1] + offsets[1:]) / 2
    cuts: Int64 = np.searchsorted(middles, wanted)
    return cuts


def shared_total(output: NestedLossOutput, share: Share, processes: Processes) -> Tensor:
    """`[]` what this process calls backward on.

    Where rows count by `focus`, their mean count is that of the whole batch, not of the share.
    """
    total, focused = output.total, output.focused
    if focused is not None and processes.world_size > 1:
        counts = processes.sum(focused.counts * (share.weight / processes.world_size))
        total = total + focused.mean(counts) - focused.mean()
    return total * share.weight


def average_gradients(model: nn.Module, processes: Processes) -> None:
    """Each gradient becomes its mean over processes; one that no process has stays absent.

    Tables that are updated inside backward have no gradients here; the engine has divided theirs.
    """
    if processes.world_size == 1:
        return
    parameters = list(model.parameters())
    kinds = torch.tensor([_kind(parameter.grad) for parameter in parameters])
    kinds = torch.stack([kinds == 1, kinds == 2]).int()  # [2, P]: dense, sparse; on the host
    dense, sparse = processes.sum(kinds).bool()
    flat = [
        (torch.zeros_like(p) if p.grad is None else p.grad.to_dense()).reshape(-1)
        for p, wanted in zip(parameters, dense.tolist(), strict=True)
        if wanted
    ]
    if flat:
        joined = processes.sum(torch.cat(flat)).div_(processes.world_size)
        chosen = [p for p, wanted in zip(parameters, dense.tolist(), strict=True) if wanted]
        parts = joined.split([p.numel() for p in chosen])
        for parameter, part in zip(chosen, parts, strict=True):
            parameter.grad = part.view_as(parameter)
    for parameter, some, all_rows in zip(parameters, sparse.tolist(), dense.tolist(), strict=True):
        if some and not all_rows:
            parameter.grad = _mean_of_rows(parameter, processes)


def _kind(gradient: Tensor | None) -> int:
    if gradient is None:
        return 0
    return 2 if gradient.is_sparse else 1


def _mean_of_rows(parameter: nn.Parameter, processes: Processes) -> Tensor:
    """A sparse gradient over the rows that any process has touched."""
    own = parameter.grad
    if own is None:
        own = torch.sparse_coo_tensor(
            parameter.new_empty((1, 0), dtype=torch.int64),
            parameter.new_empty(0, *parameter.shape[1:]),
            parameter.shape,
        )  # fmt: skip
    own = own.coalesce()
    rows = torch.cat(processes.gather(own.indices()[0]))
    values = torch.cat(processes.gather(own.values())) / processes.world_size
    return torch.sparse_coo_tensor(rows[None], values, parameter.shape).coalesce()


def joined_losses(losses: Tensor, share: Share, processes: Processes) -> Tensor:
    """Losses `[G]` of the whole batch in float64, from those of this process's share."""
    own = losses if losses.device.type == "mps" else losses.double()  # it has no float64
    if processes.world_size == 1:
        return own
    return processes.sum(own * (share.weight / processes.world_size))
