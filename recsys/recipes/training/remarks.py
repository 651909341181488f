"""Remarks on a training run, for readers of its figures.

Shape legend: N items, D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from recsys.data.splitting import Split
from recsys.models import Model
from recsys.progress import console
from recsys.runs.config import RunConfig
from recsys.tables import ramped_tables

_BLOCK = 1 << 14


def tell(remarks: Sequence[str]) -> None:
    """Prints each on a line of its own, on stderr."""
    for remark in remarks:
        console.print(remark, style="yellow", markup=False, highlight=False, soft_wrap=True)


def fewer_epochs(config: RunConfig, epochs: int) -> list[str]:
    """A sentence where `trainer.histories` makes them fewer."""
    if epochs == config.trainer.epochs:
        return []
    return [
        f"{epochs} epochs in place of {config.trainer.epochs}: many users are learned by heart in "
        f"fewer (trainer.histories={config.trainer.histories}); trainer.epochs=... sets them"
    ]


def rows_left_out(config: RunConfig, split: Split, num_targets: int) -> list[str]:
    """A sentence where a short history leaves out more than half of what could be learned.

    Args:
        config: of the run.
        split: of its data set.
        num_targets: those of an epoch.
    """
    pairs = config.model.pairs
    # Of a sequence the first row is not a target.
    lengths = np.maximum(split.fit_end(config.fit_on) - split.start - (not pairs), 0)
    possible = int(lengths.sum())
    if 2 * num_targets >= possible:
        return []
    length = config.model.history_length
    remedy = "raise it"
    if not pairs:
        remedy += f", or cut histories into pieces: batching.windows={-(-lengths.max() // length)}"
    return [
        f"an epoch has {num_targets:,} of {possible:,} targets: model.history_length {length} "
        f"leaves the older ones out; {remedy}"
    ]


def trained_oddly(model: Model) -> list[str]:
    """Sentences on a model in eval mode: of items that share vectors, of rows cut untrained."""
    found = []
    with torch.inference_mode():
        vectors = model.item_vectors()
        distinct = num_distinct(vectors)
    if 2 * distinct < len(vectors):
        found.append(
            f"{distinct:,} distinct vectors stand for {len(vectors):,} items: items that share one "
            "are scored alike. Unless model.table is meant to share rows, training has collapsed: "
            "lower trainer.optimizer.learning_rate, or choose another model.table"
        )
    for name, table in ramped_tables(model):
        if table.ramped < 1:
            found.append(
                f"{name}: the weights were kept at {table.ramped:.0%} of the ramp, so rows are cut "
                f"to {table.served_as} without having been trained so: lower the table's start and "
                "ramp, or raise trainer.epochs or patience"
            )
    return found


def num_distinct(vectors: Tensor) -> int:
    """How many of the rows `[N, D]` float32 differ, but for a chance of about N^2 / 2^64."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(-(1 << 62), 1 << 62, (vectors.shape[1],), generator=generator) | 1
    sums = [
        ((block.cpu() + 0.0).contiguous().view(torch.int32).long() * factors).sum(1)  # -0 is 0
        for block in vectors.float().split(_BLOCK)
    ]
    return len(torch.cat(sums).unique())
