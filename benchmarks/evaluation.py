"""Evaluation time of six granularities and of one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from benchmarks.measure import Row, as_rows, in_turns
from benchmarks.steps import NUM_ITEMS, SIX
from recsys.data.dataset import write_dataset
from recsys.data.histories import Histories
from recsys.data.splitting import make_split
from recsys.evaluation.evaluate import rank_held_out
from recsys.granularity import Granularities
from recsys.layers.jagged import to_indices

NUM_USERS = 10_000


class FixedVectors:
    """Random vectors that cost nothing to make."""

    def __init__(self, sizes: tuple[int, ...], *, normalize: bool) -> None:
        generator = torch.Generator().manual_seed(0)
        self.granularities = Granularities(sizes=sizes, normalize=normalize)
        self._users = torch.randn(NUM_USERS, 256, generator=generator)
        self._items = torch.randn(NUM_ITEMS, 256, generator=generator)

    def item_vectors(self) -> Tensor:
        """`[N, 256]`."""
        return self._items

    def user_vectors(self, histories: Histories) -> Tensor:
        """`[B, 256]`."""
        return self._users[to_indices(histories.users)]


def measure(rounds: int) -> dict[str, list[Row]]:
    """Ranks alone (validation) and with lists of the first 100 (final tables)."""
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(NUM_USERS), 9),
            "item_id": np.concatenate(
                [np.arange(NUM_ITEMS), rng.integers(0, NUM_ITEMS, NUM_USERS * 9 - NUM_ITEMS)]
            ),
        }
    )
    tables = {}
    with tempfile.TemporaryDirectory() as folder:
        data = write_dataset(Path(folder) / "data", frame, name="random")
        split = make_split(data)

        def runner(sizes: tuple[int, ...], lists: bool, cosine: bool) -> Callable[[], None]:
            model = FixedVectors(sizes, normalize=cosine)

            def run() -> None:
                rank_held_out(
                    model, data, split, part="test", filter_seen=True, ks=(10, 100), lists=lists
                )

            return run

        for name, lists, cosine in (
            ("ranks, dot product", False, False),
            ("ranks, cosine", False, True),
            ("ranks and lists of 100, dot product", True, False),
        ):
            variants = {
                f"{len(sizes)} granularities": runner(sizes, lists, cosine)
                for sizes in ((256,), SIX)
            }
            tables[name] = as_rows(in_turns(variants, rounds), "1 granularities")
    return tables
