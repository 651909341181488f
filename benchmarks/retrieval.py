"""The funnel beside exact search and full-width Faiss indexes, at 100k, 1M and 10M vectors.

python -m benchmarks.retrieval 100000                  one table: recall, speed, memory
python -m benchmarks.retrieval 1000000 --like runs/beauty_sasrec
python -m benchmarks.retrieval 10000000 --only-ours --folder DIR    cold tiers mapped from disk

Vectors are drawn with the mean and the second moments of a trained run's items and users
(`--like`), or with a spectrum that falls as such a run's does. Ratios are those of one run on one
machine. Tiers said to be mapped are arrays in memory here, but for --only-ours.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer
from rich.console import Console

from benchmarks.measure import Row, machine
from recsys.retrieval.bundle import Bundle, load_bundle
from recsys.retrieval.encoding import Float32, blocks_of
from recsys.retrieval.filters import Int64, make_filters
from recsys.retrieval.funnel import Funnel, Stage
from recsys.retrieval.index import build_index, recall_of, tune
from recsys.retrieval.indexing import make_index
from recsys.retrieval.memory import InMemory
from recsys.retrieval.tiers import parse_tiers
from recsys.retrieval.writing import BundleSource, write_bundle

DIM, K, QUERIES, TUNING = 256, 10, 512, 512
SIZES = (8, 16, 32, 64, 128, 256)
RECALL = 0.99
Search = Callable[[Float32], Int64]


class Source:
    """Items and users with the first and second moments of trained ones."""

    def __init__(self, like: Path | None) -> None:
        if like is None:
            self.normalize = False
            # As the coordinates of the trained Beauty run fall, about.
            spread = np.diag(np.repeat(SIZES, np.diff([0, *SIZES])) ** -0.5).astype(np.float32)
            self.parts = {"items": (np.zeros(DIM, np.float32), spread)}
            self.parts["users"] = self.parts["items"]
            return
        from recsys.data.histories import Histories
        from recsys.recipes.run import load_run
        from recsys.serving.export import user_vectors

        run = load_run(like)
        data = run.dataset
        every = Histories(np.arange(data.num_users), data.items, data.offsets)
        users = user_vectors(run.model, every.rows(np.arange(0, data.num_users, 5)))
        self.normalize = run.model.granularities.normalize
        items = run.model.item_vectors().detach().float().numpy()
        self.parts = {"items": _moments(items), "users": _moments(users)}

    def draw(self, what: str, count: int, seed: int, out: Float32 | None = None) -> Float32:
        """`[count, 256]`, block by block, into `out` where that is given."""
        rng = np.random.default_rng(seed)
        mean, root = self.parts[what]
        drawn = np.empty((count, DIM), np.float32) if out is None else out
        for rows in blocks_of(count):
            size = rows.stop - rows.start
            drawn[rows] = rng.standard_normal((size, DIM), np.float32) @ root + mean
        return drawn


def _moments(vectors: Float32) -> tuple[Float32, Float32]:
    mean = vectors.mean(0)
    values, axes = np.linalg.eigh(np.cov(vectors, rowvar=False))
    root = (axes * np.sqrt(values.clip(0))) @ axes.T
    return mean, root.astype(np.float32)


def measure(num_items: int, like: Path | None = None, threads: int | None = None) -> list[Row]:
    """One row per way to search `num_items` vectors of 256 coordinates."""
    source = Source(like)
    items = source.draw("items", num_items, 0)
    users, others = (source.draw("users", QUERIES, seed) for seed in (1, 2))
    whole = _encoded(items, "0:256:fp32:ram", source.normalize)
    exact = Funnel(whole, [Stage(DIM, K)], threads=threads)
    wanted, tuning = exact.search(users).items, exact.search(others).items
    rows = [_row("exact, full width", _lists(exact), users, wanted, items.nbytes)]
    rows += _ours(items, source, users, wanted, (others, tuning), threads)
    unit = items / np.linalg.norm(items, axis=1, keepdims=True) if source.normalize else items
    for kind in ("flat", "hnsw", "hnsw,sq8", "ivf,pq64"):
        rows.append(_faiss(kind, unit, users, wanted, (others, tuning), threads))
    rows += _leanvec(unit, users, wanted)
    for row in rows:
        row["times exact"] = row["queries/s"] / rows[0]["queries/s"]
    return rows


def _encoded(items: Float32, tiers: str, normalize: bool) -> InMemory:
    return InMemory(items, parse_tiers(tiers, DIM), SIZES, normalize=normalize)


def _row(name: str, search: Search, users: Float32, wanted: Int64, nbytes: float) -> Row:
    found = search(users)
    batch = [_seconds(search, users) for _ in range(3)]
    single = [_seconds(search, users[[row]]) for row in range(15)]
    return {
        "search": name,
        "recall@10": recall_of(found, wanted),
        "queries/s": len(users) / float(np.median(batch)),
        "ms, single": 1e3 * float(np.median(single)),
        "hot MiB": nbytes / 2**20,
    }


def _lists(funnel: Funnel) -> Search:
    return lambda users: funnel.search(users).items


def _seconds(search: Search, users: Float32) -> float:
    started = time.perf_counter()
    search(users)
    return time.perf_counter() - started


def _ours(
    items: Float32,
    source: Source,
    users: Float32,
    wanted: Int64,
    tuning: tuple[Float32, Int64],
    threads: int | None,
) -> list[Row]:
    """For each first granularity: the fewest candidates that reach the recall on other users."""
    rows = []
    for size in (16, 32, 64):
        encoded = _encoded(items, f"0:{size}:int8:ram,{size}:256:fp16:mmap", source.normalize)
        keep = _enough(encoded, size, tuning, threads)
        if keep is None:
            continue
        funnel = Funnel(encoded, [Stage(size, keep), Stage(DIM, K)], threads=threads)
        name = f"int8 {size} scanned, keep {keep}"
        rows.append(_row(name, _lists(funnel), users, wanted, funnel.hot_bytes))
        for kind in ("ivf,sq8", "hnsw,sq8"):
            mapped = _encoded(items, f"0:{size}:int8:mmap,{size}:256:fp16:mmap", source.normalize)
            index, _ = make_index(mapped, kind, size, RECALL, tuning[0], threads=threads)
            stages = [Stage(size, keep), Stage(DIM, K)]
            indexed = Funnel(mapped, stages, finder=index, threads=threads)
            name = f"{kind} {size}, keep {keep}"
            rows.append(_row(name, _lists(indexed), users, wanted, indexed.hot_bytes))
    return rows


def _enough(
    encoded: InMemory | Bundle, size: int, tuning: tuple[Float32, Int64], threads: int | None
) -> int | None:
    """The fewest candidates whose ranking reaches the recall; None: 5,000 are not enough."""
    for keep in (50, 100, 200, 300, 500, 700, 1000, 1500, 2000, 3000, 5000):
        funnel = Funnel(encoded, [Stage(size, keep), Stage(DIM, K)], threads=threads)
        if recall_of(funnel.search(tuning[0]).items, tuning[1]) >= RECALL:
            return keep
    return None


def _faiss(
    kind: str,
    items: Float32,
    users: Float32,
    wanted: Int64,
    tuning: tuple[Float32, Int64],
    threads: int | None,
) -> Row:
    index = build_index(items, kind, threads=threads)
    tune(index, tuning[0], tuning[1], RECALL)

    def search(queries: Float32) -> Int64:
        return index.find(queries, K, make_filters(len(queries), len(items)))

    set_to = ", ".join(f"{name} {value}" for name, value in index.search.items())
    return _row(f"faiss {kind} full width {set_to}", search, users, wanted, index.nbytes)


def _leanvec(items: Float32, users: Float32, wanted: Int64) -> list[Row]:
    """Intel's SVS with LeanVec, where `scalable-vs` is installed."""
    try:
        import svs  # type: ignore[import-not-found]
    except ImportError:
        return []
    loader: Any = svs.LeanVecLoader(
        svs.VectorDataLoader, items, leanvec_dims=64, primary_kind=svs.LeanVecKind.lvq8
    )
    parameters = svs.VamanaBuildParameters(graph_max_degree=32, window_size=100)
    index = svs.Vamana.build(parameters, loader, svs.DistanceType.MIP)
    for window in (20, 50, 100, 200, 400, 800):
        index.search_window_size = window
        if recall_of(index.search(users, K)[0].astype(np.int64), wanted) >= RECALL:
            break

    def search(queries: Float32) -> Int64:
        found: Int64 = index.search(queries, K)[0].astype(np.int64)
        return found

    return [_row(f"svs leanvec 64, window {window}", search, users, wanted, np.nan)]


def measure_mapped(num_items: int, folder: Path, like: Path | None, threads: int | None) -> Row:
    """The funnel alone over a bundle on disk; memory as the system counts it."""
    source = Source(like)
    path = folder / "items.npy"
    drawn = np.lib.format.open_memmap(path, "w+", np.float32, (num_items, DIM))
    source.draw("items", num_items, 0, drawn)
    drawn.flush()
    users = source.draw("users", 64, 1)
    wanted = _exact_blocks(drawn, users, source.normalize)
    tiers = parse_tiers("0:32:int8:ram,32:256:fp16:mmap", DIM)
    ids = pl.Series(np.arange(num_items))
    made = BundleSource(drawn, ids, SIZES, source.normalize)
    bundle = write_bundle(folder / "bundle", made, tiers)
    del drawn, made
    path.unlink()
    opened = load_bundle(bundle, verify=False)
    keep = _enough(opened, 32, (users, wanted), threads) or 5000
    funnel = Funnel(opened, [Stage(32, keep), Stage(DIM, K)], threads=threads)
    name = f"bundle: int8 32 in memory, 224 fp16 mapped, keep {keep}"
    row = _row(name, _lists(funnel), users, wanted, funnel.hot_bytes)
    return row | _memory()


def _exact_blocks(items: Float32, users: Float32, normalize: bool) -> Int64:
    """`[Q, 10]` of vectors larger than memory."""
    best, listed = np.full((len(users), 0), 0, np.float32), np.zeros((len(users), 0), np.int64)
    for rows in blocks_of(len(items)):
        block = np.asarray(items[rows])
        norms = np.linalg.norm(block, axis=1) if normalize else np.float32(1)
        best = np.concatenate([best, users @ block.T / norms], axis=1)
        numbers = np.broadcast_to(np.arange(rows.start, rows.stop), (len(users), len(block)))
        listed = np.concatenate([listed, numbers], axis=1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :K]
        best = np.take_along_axis(best, order, axis=1)
        listed = np.take_along_axis(listed, order, axis=1)
    return listed


def _memory() -> Row:
    """MiB of this process now: its own, and pages of mapped files, which the system may take."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {f"{name} MiB": int(fields[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile")}


def main(
    num_items: int,
    like: Annotated[Path | None, typer.Option(help="A run to match.")] = None,
    threads: Annotated[int | None, typer.Option(help="[all cores]")] = None,
    only_ours: Annotated[
        bool, typer.Option(help="From disk, for what memory cannot hold.")
    ] = False,
    folder: Annotated[Path | None, typer.Option(help="For --only-ours.")] = None,
) -> None:
    """Prints one table."""
    from benchmarks.__main__ import as_table

    console = Console(width=160)
    console.print(machine())
    title = f"{num_items:,} x {DIM}, like {like or 'a falling spectrum'}"
    if not only_ours:
        console.print(as_table(title, measure(num_items, like, threads)))
        return
    place = folder or Path(tempfile.mkdtemp(prefix="recsys-bench-"))
    place.mkdir(parents=True, exist_ok=True)
    try:
        console.print(as_table(title, [measure_mapped(num_items, place, like, threads)]))
    finally:
        if folder is None:
            shutil.rmtree(place)


if __name__ == "__main__":
    typer.run(main)
