"""Runs that go on week by week, beside runs that are trained anew each week.

python -m benchmarks.updates interactions.csv --results results/updates.json
python -m benchmarks.updates interactions.csv --first 13 --out runs/updates-choice

A model is trained on all rows up to week w, then goes on with w + 1, w + 2, ...; each is measured
on the rows of the week after it: what users who are known then have next, among items that are
known then (rolling origin with a global cut in time; Hidasi and Czapp, Widespread flaws in offline
evaluation, RecSys 2023). Beside it a model is trained anew on the same rows, by the same config,
and one goes on with --compatible from last week's model that was trained anew. Options of the
update were chosen by the second command, on earlier weeks.

What is counted: seconds of training, steps, and targets processed, which do not depend on what else
the machine does. A killed benchmark goes on with the runs that are there.

Shape legend: U users of a data set.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer

from benchmarks.measure import Row, machine
from benchmarks.updates_results import keep
from recsys.data.dataset import Dataset, load_dataset
from recsys.data.manifest import SplitRule
from recsys.data.splitting import Split
from recsys.evaluation.evaluate import rank_held_out
from recsys.evaluation.held_out import held_out
from recsys.files.atomic import write_json
from recsys.recipes.training.train import train
from recsys.recipes.updating.crossing import Known, cross
from recsys.recipes.updating.update import update
from recsys.runs.config import RunConfig
from recsys.runs.loading import LoadedRun, load_run
from recsys.runs.records import load_run_info
from recsys.training.logs import LOG, read_lines

WEEK = 7 * 24 * 3600
CONFIG: dict[str, Any] = {
    "fit_on": "all",
    "threads": 1,
    "model": {
        "granularities": {"sizes": [16, 32, 64]},
        "history_length": 50,
        "encoder": {"dropout": 0.4},
    },
    "loss": {"name": "sampled_softmax", "distillation": 0.5, "negatives": {"uniform": 2048}},
    "trainer": {"epochs": 10, "optimizer": {"learning_rate": 0.002}},
}
"""A small recipe. Its epochs are the best of 10, 15, 20 and 30 on week 14."""


@dataclass(frozen=True)
class Weeks:
    """Rows by week, and the folder of everything that is made of them."""

    rows: pl.DataFrame
    """user_id, item_id, timestamp, week."""
    place: Path

    def data(self, week: int) -> Dataset:
        """All rows up to a week; indices are those of the week before, where it was made."""
        folder, before = self.place / f"data-{week}", self.place / f"data-{week - 1}"
        if folder.is_dir():
            return load_dataset(folder)
        return Dataset.from_frame(
            self.rows.filter(pl.col("week") <= week).drop("week"),
            time="timestamp", name=f"week {week}", out=folder,
            like=before if before.is_dir() else None,
        )  # fmt: skip

    def next_week(self, week: int) -> tuple[Dataset, Split, Row]:
        """The rows of the week after as test part, of users and items that are known by then."""
        data = self.data(week)
        later = self.rows.filter(pl.col("week") <= week + 1).drop("week")
        items, users = data.item_frame()["item_id"], data.user_frame()["user_id"]
        known = pl.col("item_id").is_in(items.implode()) & pl.col("user_id").is_in(users.implode())
        shown = Dataset.from_frame(later.filter(known), time="timestamp", like=data)
        start, end = shown.offsets[:-1], shown.offsets[1:]
        times = shown.timestamps
        assert times is not None
        last = self.rows.filter(pl.col("week") <= week)["timestamp"].max()
        old = np.concatenate([[0], np.cumsum(times <= last)])
        cut = start + old[end] - old[start]
        told = {
            "rows of the week": int((self.rows["week"] == week + 1).sum()),
            "of known users and items": len(times) - int(old[-1]),
        }
        return shown, Split(SplitRule(name="global-time"), start, cut, cut, end), told


def anew(weeks: Weeks, week: int) -> Path:
    """A run on all rows up to a week."""
    config = RunConfig.model_validate({**CONFIG, "data": str(weeks.data(week).folder)})
    return train(config, out=weeks.place / f"anew-{week}", resume=True)


def costs(run: Path) -> Row:
    """Seconds, steps and targets of a training."""
    config, info = load_run(run).config, load_run_info(run)
    steps = max(line["step"] for line in read_lines(run / LOG) if line["event"] == "train")
    if "update" in info:
        epoch = info["update"]["epoch"]
        targets = epoch["new"] + epoch["beside"] + epoch["replayed"]
    else:
        targets = _targets(load_run(run))
    return {
        "seconds": info["seconds"],
        "steps": steps,
        "targets": targets * config.trainer.epochs,
    }


def _targets(run: LoadedRun) -> int:
    lengths = np.diff(run.dataset.offsets)
    return int(np.minimum(np.maximum(lengths - 1, 0), run.config.model.history_length).sum())


def ndcg(run: Path, weeks: Weeks, week: int) -> dict[int, float]:
    """ndcg@10 on the week after, by granularity."""
    dataset, split, _ = weeks.next_week(week)
    model = load_run(run).model
    ranking = rank_held_out(model, dataset, split, part="test", filter_seen=True, ks=(10,))
    return {
        size: float(ranking.per_user("ndcg", 10, size).mean()) for size in ranking.sizes if size
    }


def crossed(old: Path, new: Path, weeks: Weeks, week: int) -> pl.DataFrame:
    """Old and new users x old and new items on the week after."""
    dataset, split, _ = weeks.next_week(week)
    before, now = load_run(old), load_run(new)
    known = Known(before.dataset.num_items, before.dataset.num_users)
    held = held_out(dataset, split, "test")
    return cross((before.model, now.model), known, dataset, held, filter_seen=True).rows


def moved(weeks: Weeks, first: int, week: int) -> int:
    """Users and items of the first week that have another index now."""
    count = 0
    for frame, column in (("user_frame", "user_id"), ("item_frame", "item_id")):
        old, new = (getattr(weeks.data(w), frame)()[column] for w in (first, week))
        count += int((old != new.head(len(old))).sum())
    return count


def measure(weeks: Weeks, first: int, updates: int, overrides: list[str]) -> dict[str, Any]:
    """One row for each week and way, and their means."""
    rows: list[Row] = []
    pairs: list[pl.DataFrame] = []
    for week in range(first, first + updates + 1):
        weeks.data(week)
    run = anew(weeks, first)
    for week in range(first + 1, first + updates + 1):
        data, whole = weeks.data(week), anew(weeks, week)
        run = update(run, data, overrides, out=weeks.place / f"on-{week}", resume=True)
        last = anew(weeks, week - 1)
        beside = weeks.place / f"compatible-{week}"
        held = update(last, data, overrides, out=beside, compatible=True, resume=True)
        told = {"week": week, "moved ids": moved(weeks, first, week), **weeks.next_week(week)[2]}
        for way, each in (("anew", whole), ("updated", run), ("compatible", held)):
            values = ndcg(each, weeks, week)
            rows.append({"way": way, **told, **costs(each), "ndcg@10": values})
        pairs.append(crossed(last, held, weeks, week))
    means = pl.concat(pairs).group_by(
        "catalogue", "granularity", "users", "items", maintain_order=True
    ).agg(pl.col("ndcg@10", "same").mean())  # fmt: skip
    return {
        "machine": machine(),
        "config": CONFIG,
        "overrides": overrides,
        "weeks": rows,
        "summary": summary(rows),
        "compatible": means.to_dicts(),
        "kept": kept(means),
    }


def summary(rows: list[Row]) -> dict[str, Any]:
    """Means over weeks, and shares of training anew."""
    found: dict[str, Any] = {}
    for way in ("anew", "updated", "compatible"):
        mine = [row for row in rows if row["way"] == way]
        sizes = mine[0]["ndcg@10"]
        found[way] = {
            "ndcg@10": {size: fmean(row["ndcg@10"][size] for row in mine) for size in sizes},
            **{key: fmean(row[key] for row in mine) for key in ("seconds", "steps", "targets")},
        }
    for way in ("updated", "compatible"):
        base = found["anew"]
        found[way]["share of anew"] = {
            **{key: found[way][key] / base[key] for key in ("seconds", "steps", "targets")},
            **{f"ndcg@10/d{size}": value / base["ndcg@10"][size]
               for size, value in found[way]["ndcg@10"].items()},
        }  # fmt: skip
    return found


def kept(means: pl.DataFrame) -> list[Row]:
    """What new users keep with the old index, by catalogue and granularity."""
    rows = []
    for (catalogue, size), group in means.group_by("catalogue", "granularity", maintain_order=True):
        by = {(row["users"], row["items"]): row["ndcg@10"] for row in group.to_dicts()}
        share = by["new", "old"] / by["new", "new"]
        rows.append({"catalogue": catalogue, "granularity": size, "new x old": share})
    return rows


def run(
    source: Annotated[Path, typer.Argument(help="CSV of user_id, item_id, timestamp (seconds).")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value of the updates.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of runs, data and updates.json.")] = Path(
        "runs/updates"
    ),
    first: Annotated[int, typer.Option(help="The last week of the first model, from 0.")] = 20,
    updates: Annotated[int, typer.Option(help="Weeks that it goes on for.")] = 4,
    results: Annotated[
        Path | None, typer.Option(help="Keep for a page: results/NAME.json.")
    ] = None,
) -> None:
    """Measures updates beside training anew."""
    out.mkdir(parents=True, exist_ok=True)
    frame = pl.read_csv(source).select("user_id", "item_id", "timestamp")
    start = pl.col("timestamp").min()
    rows = frame.with_columns(week=(pl.col("timestamp") - start) // WEEK)
    found = measure(Weeks(rows, out), first, updates, list(overrides or []))
    write_json(out / "updates.json", found)
    if results is not None:
        keep(results, found)
    print(json.dumps({"summary": found["summary"], "kept": found["kept"]}, indent=1))


if __name__ == "__main__":
    typer.run(run)
