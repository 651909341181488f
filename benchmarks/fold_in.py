"""Users whom training never saw, folded in, beside the same users when it did see them.

python -m benchmarks.fold_in data/ml1m [--models ials,elsa,spectral] [--share 0.1]
    [--protocol s3rec] [--results results/ml1m_fold_in.json]

A model is fitted twice on training and validation rows: on all users, and without a share of them.
Both make lists for the users of the share, from the histories that the first one was fitted on.
What each of them had last was left out of both, and is looked for. (The second fit also has fewer
rows for its items.) A model is a name or a config file; its data and protocol are those named here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer
from rich.table import Table

import recsys
from benchmarks.serving.keeping import check_results, keep
from recsys.arrays import Float64
from recsys.console import make_console
from recsys.data.dataset import INTERACTIONS, Dataset, load_dataset
from recsys.evaluation.bootstrap import PairedDifference, resample
from recsys.reports.results.record import Figure

K = 10


@dataclass(frozen=True)
class Folded:
    """ndcg@10 of the users of the share."""

    model: str
    trained: float
    """When they were among those it was fitted on."""
    folded: float
    """When they were not."""
    paired: PairedDifference


def compare(data: Dataset, models: list[str], share: float, protocol: str) -> Iterator[Folded]:
    """Each model, on all users and on the others alone."""
    rows = rows_of(data)
    users = data.user_frame()["user_id"]
    out = users.gather_every(max(1, round(1 / share)))
    others = Dataset.from_frame(
        rows.filter(~pl.col("user_id").is_in(out.implode())), order="given", name="others"
    )
    asked = rows.filter(pl.col("user_id").is_in(out.implode()))
    by_user = asked.group_by("user_id", maintain_order=True)
    histories = dict(by_user.agg(pl.col("item_id").head(pl.len() - 1)).iter_rows())
    wanted = by_user.agg(pl.col("item_id").last())
    for model in models:
        figures = [
            ndcg_of(
                recsys.fit(part, model, protocol=protocol, fit_on="train+valid").recommend(
                    histories=histories, k=K
                ),
                wanted,
            )
            for part in (data, others)
        ]
        values = np.stack(figures, axis=1)
        trained, folded = values.mean(axis=0).tolist()
        yield Folded(Path(model).stem, trained, folded, resample(values).paired(0, 1))


def rows_of(data: Dataset) -> pl.DataFrame:
    """user_id and item_id of all rows, in the order of the data set."""
    return (
        pl.read_parquet(data.folder / INTERACTIONS)
        .join(data.user_frame().select("user_index", "user_id"), on="user_index", how="left")
        .join(data.item_frame().select("item_index", "item_id"), on="item_index", how="left")
        .select("user_id", "item_id")
    )


def ndcg_of(lists: pl.DataFrame, wanted: pl.DataFrame) -> Float64:
    """`[U]` of one item that is looked for in each list; 0: it is not there."""
    gains = pl.when(pl.col("rank").is_null()).then(0.0).otherwise(1 / (pl.col("rank") + 1).log(2))
    found = wanted.join(lists, on=["user_id", "item_id"], how="left", maintain_order="left")
    values: Float64 = found.select(gains.alias("gain"))["gain"].to_numpy()
    return values


def main(
    data: Annotated[Path, typer.Argument(help="A dataset folder of ordered histories.")],
    models: Annotated[str, typer.Option(help="Names or config files.")] = "ials,elsa,spectral",
    share: Annotated[float, typer.Option(help="Of the users, evenly spread.")] = 0.1,
    protocol: Annotated[
        str, typer.Option(help="A preset that leaves the last item out.")
    ] = "s3rec",
    results: Annotated[Path | None, typer.Option(help="results/NAME.json.")] = None,
) -> None:
    """Fits each model twice and prints one line for it."""
    check_results(results, "benchmarks.fold_in")
    table = Table("model", "users", "trained, ndcg@10", "folded in", "ratio", "95 % interval")
    found, console = [], make_console()
    for one in compare(load_dataset(data), models.split(","), share, protocol):
        found.append(one)
        paired = one.paired
        console.print(f"{one.model}: {one.trained:.4f} trained, {one.folded:.4f} folded in")
        told = [f"{one.trained:.4f}", f"{one.folded:.4f}", f"{paired.ratio:.3f}"]
        interval = f"{paired.ratio_low:.3f} to {paired.ratio_high:.3f}"
        table.add_row(one.model, f"{paired.num_users:,}", *told, interval)
    console.print(table)
    if results is not None:
        keep(results, "benchmarks.fold_in", figures_of(found), timed=False)


def figures_of(found: list[Folded]) -> Iterator[Figure]:
    """What is kept of a run."""
    for one in found:
        yield Figure(name=f"{one.model}, trained", metric="ndcg@10", value=one.trained)
        yield Figure(name=f"{one.model}, folded in", metric="ndcg@10", value=one.folded)
        yield Figure(
            name=f"{one.model}, folded in",
            metric="times trained",
            unit="times",
            value=one.paired.ratio,
            low=one.paired.ratio_low,
            high=one.paired.ratio_high,
        )


if __name__ == "__main__":
    typer.run(main)
