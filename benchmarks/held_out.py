"""Whether the held-out items of a user are like his other ones: the validation and the test part.

python -m benchmarks.held_out data/gowalla [data/gowalla_run ...]
    [--results results/gowalla_held_out.json]

Two items are as alike as the cosine of who had them in the training part. `together`: the mean
over pairs of a user's held-out items; `with the others`: over pairs of one of these and one of his
training rows. Of rows that were drawn one by one both are the same. Where the held-out items are
like one another and not like the others, they belong together, as what comes later does, and a
model is asked something else than by a validation part that was drawn row by row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import scipy.sparse as sp
import typer
from rich.table import Table

from benchmarks.serving.keeping import check_results, keep
from recsys.arrays import Float64, Int64
from recsys.console import make_console
from recsys.data.dataset import Dataset, load_dataset
from recsys.data.splitting import make_split
from recsys.errors import DataError
from recsys.progress import progress
from recsys.reports.results.record import Figure

_BLOCK = 512


@dataclass(frozen=True)
class Likeness:
    """Means over users with at least two held-out items and a training row."""

    data: str
    part: str
    users: int
    together: float
    """Cosine of two held-out items of a user."""
    others: float
    """Cosine of a held-out item and a training row of the same user."""


def likeness(data: Dataset, name: str, part: str) -> Likeness:
    """Of `part`, valid or test, of a data set that is called `name`.

    Raises:
        DataError: nobody has two held-out items, which could be compared.
    """
    split = make_split(data)
    train = _indicator(data, split.start, split.train_end)
    held = _indicator(data, *split.targets(part))
    lengths = np.sqrt(np.asarray(train.sum(axis=0)).ravel())
    known = lengths > 0
    held = (held @ sp.diags(known.astype(np.float64))).tocsr()
    unit = sp.diags(np.divide(1.0, lengths, where=known, out=np.zeros_like(lengths)))
    who = (train @ unit).T.tocsr()  # [N, U] of length 1: who had an item in training
    wanted = np.flatnonzero((np.diff(held.indptr) > 1) & (np.diff(train.indptr) > 0))
    if not len(wanted):
        raise DataError(
            f"no user of {name} has a training row and two items of the {part} part, which could "
            "be compared; a split that holds one item out has none"
        )
    together, others = [], []
    with progress() as bar:
        for start in bar.track(range(0, len(wanted), _BLOCK), description=f"{name}, {part}"):
            rows = wanted[start : start + _BLOCK]
            mine, had = held[rows], train[rows]
            sums = mine @ who  # [B, U]: a sum over pairs is a product of sums
            h, t = np.diff(mine.indptr), np.diff(had.indptr)
            together.append((_dots(sums, sums) - h) / (h * (h - 1.0)))
            others.append(_dots(sums, had @ who) / (h * t))
    means = [float(np.concatenate(values).mean()) for values in (together, others)]
    return Likeness(name, part, len(wanted), *means)


def _indicator(data: Dataset, low: Int64, high: Int64) -> sp.csr_matrix:
    """`[U, N]`, 1 where a user has an item between `low [U]` and `high [U]`."""
    counts = high - low
    owners = np.repeat(np.arange(data.num_users), counts)
    places = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts - low, counts)
    ones, shape = np.ones(len(owners)), (data.num_users, data.num_items)
    matrix = sp.csr_matrix((ones, (owners, data.items_at(places))), shape=shape)
    matrix.data[:] = 1.0  # an item that somebody had twice counts once
    return matrix


def _dots(a: sp.csr_matrix, b: sp.csr_matrix) -> Float64:
    """`[B]` inner products of rows."""
    found: Float64 = np.asarray(a.multiply(b).sum(axis=1)).ravel()
    return found


def main(
    data: Annotated[list[Path], typer.Argument(help="Dataset folders.")],
    results: Annotated[Path | None, typer.Option(help="results/NAME.json.")] = None,
) -> None:
    """Prints one line for each data set and part."""
    check_results(results, "benchmarks.held_out")
    table = Table("data", "part", "users", "together", "with the others", "ratio")
    found = []
    for folder in data:
        for part in ("valid", "test"):
            one = likeness(load_dataset(folder), folder.name, part)
            found.append(one)
            told = [f"{one.together:.4f}", f"{one.others:.4f}", f"{one.together / one.others:.2f}"]
            table.add_row(one.data, one.part, f"{one.users:,}", *told)
    make_console().print(table)
    if results is not None:
        keep(results, "benchmarks.held_out", figures_of(found), timed=False)


def figures_of(found: list[Likeness]) -> Iterator[Figure]:
    """What is kept of a run."""
    for one in found:
        name = f"{one.data}, {one.part}"
        yield Figure(name=name, metric="together", value=one.together)
        yield Figure(name=name, metric="with the others", value=one.others)
        yield Figure(name=name, metric="ratio", unit="times", value=one.together / one.others)


if __name__ == "__main__":
    typer.run(main)
