"""Ways to search that `benchmarks.retrieval` builds and measures, each saved in the folder.

Shape legend: N items, Q queries, D coordinates.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.measure import Row
from benchmarks.vectors import DIM, QUERIES, SIZES, Drawn, K
from recsys.files import write_json
from recsys.retrieval.bundle import Bundle, load_bundle
from recsys.retrieval.encoding import Float32
from recsys.retrieval.filters import Int64, make_filters
from recsys.retrieval.funnel import Funnel, Stage
from recsys.retrieval.index import Index, build_index, load_index, recall_of, tune
from recsys.retrieval.indexing import index_of, open_index
from recsys.retrieval.tiers import parse_tiers
from recsys.retrieval.versions import is_bundle
from recsys.retrieval.writing import BundleSource, write_bundle

OURS = ("scan64", "lists128")
"""And whatever else is named scanD, ivfD (Faiss's lists) or listsD (ours) of D coordinates."""
RIVALS = ("exact", "hnsw", "ivfpq", "leanvec")
RECALL = 0.99
_INDEXES = {"hnsw": "hnsw", "ivfpq": "ivf,pq64", "exact": "flat"}
_KEEPS = (50, 100, 150, 200, 300, 400, 500, 700, 1000, 1500, 2000, 3000, 5000, 7000, 10_000)
_MOST_VISITED = 4096
_DEARER = {"ivf": 4, "lists": 64}
"""A multiply-add of the ranking beside one of the lists: it waits for memory, tiles do not."""
_SINGLES = 50
_SECONDS = 3.0
Search = Callable[[Float32], Int64]


def build(drawn: Drawn, name: str, threads: int | None, report: Callable[[str], None]) -> None:
    """Builds one way, tunes it on other users than those it is measured with, and says so."""
    card = drawn.folder / f"{name}.json"
    if card.is_file():
        return
    report(f"build {name}")
    started = time.perf_counter()
    make = _build_leanvec if name == "leanvec" else _build_faiss if name in RIVALS else _build_ours
    made = make(drawn, name, threads)
    if made is None:
        report("leanvec needs svs, which is missing: pip install scalable-vs; left out")
        return
    write_json(card, made | {"seconds": round(time.perf_counter() - started)})


def names_of(folder: Path) -> list[str]:
    """The ways that are built there, exact search first."""
    built = sorted(path.stem for path in folder.glob("*.json") if path.stem != "drawn")
    return sorted(built, key=lambda name: (name != "exact", name in RIVALS))


def _build_ours(drawn: Drawn, name: str, threads: int | None) -> dict[str, Any]:
    way = name.rstrip("0123456789")
    size = int(name.removeprefix(way))
    # Under an index the short tier is read for the kept items alone: it need not be hot.
    tiers = {
        "scan": f"0:{size}:int8:ram,{size}:{DIM}:fp16:mmap",
        "ivf": f"0:{size}:int8:mmap,{size}:{DIM}:fp16:mmap",
        "lists": f"0:{DIM}:fp16:mmap",
    }[way]
    source = BundleSource(
        drawn.items, pl.Series(np.arange(len(drawn.items))), SIZES, drawn.normalize
    )
    kind = {"ivf": "ivf,sq8", "lists": "ivf,int8"}.get(way)
    additions = [index_of(kind, size, None)] if kind else []
    if not is_bundle(drawn.folder / name):
        write_bundle(drawn.folder / name, source, parse_tiers(tiers, DIM), additions=additions)
    bundle = load_bundle(drawn.folder / name, verify=False)
    if kind:
        return {"size": size} | _tune_both(bundle, size, drawn, threads, _DEARER[way])
    for keep in _KEEPS:
        reached = _reached(Funnel(bundle, _stages(size, keep), threads=threads), drawn)
        if reached >= RECALL:
            break
    return {"size": size, "keep": keep, "tuned": reached}


def _tune_both(
    bundle: Bundle, size: int, drawn: Drawn, threads: int | None, dearer: int
) -> dict[str, Any]:
    """Lists to visit and candidates to rank that reach the recall with the least work.

    Work: multiply-adds, of which those of the ranking count `dearer` times.
    """
    index, best = open_index(bundle, threads=threads), (np.inf, {})
    prefix = np.ascontiguousarray(drawn.others[:, :size])
    for keep in _KEEPS:
        funnel = Funnel(bundle, _stages(size, keep), finder=index, threads=threads)
        # So many lists that they are full: rows an index cannot fill are scanned, every item.
        low = high = min(index.limit, max(1, 4 * keep * index.limit // bundle.num_items))
        while (reached := _at(index, high, funnel, drawn)) < RECALL and high < index.limit:
            low, high = high, min(2 * high, index.limit)
        if reached < RECALL:
            continue
        while high - low > max(1, low // 16):
            middle = (low + high) // 2
            low, high = (
                (low, middle) if _at(index, middle, funnel, drawn) >= RECALL else (middle, high)
            )
        reached = _at(index, high, funnel, drawn)
        cost = index.multiply_adds(prefix, keep) + dearer * keep * DIM
        if cost > 1.5 * best[0]:
            break
        best = min(best, (cost, {"keep": keep, "search": {"nprobe": high}, "tuned": reached}),
                   key=lambda pair: pair[0])  # fmt: skip
    return best[1]


def _at(index: Index, lists: int, funnel: Funnel, drawn: Drawn) -> float:
    index.search["nprobe"] = lists
    return _reached(funnel, drawn)


def _reached(funnel: Funnel, drawn: Drawn) -> float:
    return recall_of(_lists(funnel)(drawn.others), drawn.tuning)


def _stages(size: int, keep: int) -> list[Stage]:
    return [Stage(size, keep), Stage(DIM, K)]


def _build_faiss(drawn: Drawn, name: str, threads: int | None) -> dict[str, Any]:
    path = drawn.folder / f"{name}.index"
    kind = _INDEXES[name]
    if path.is_file():
        start = {"hnsw": {"efSearch": 16}, "ivf,pq64": {"nprobe": 1}}.get(kind, {})
        index = load_index(path, kind, start, threads=threads)
    else:
        index = build_index(np.asarray(drawn.items), kind, threads=threads)
        index.save(path)
    reached = tune(index, drawn.others, drawn.tuning, RECALL, _MOST_VISITED)
    return {"kind": kind, "search": index.search, "tuned": reached}


def _build_leanvec(drawn: Drawn, name: str, threads: int | None) -> dict[str, Any] | None:
    """Intel's SVS: LeanVec to 64 coordinates in 8 bits, a Vamana graph, the rest in 8 bits."""
    try:
        import svs  # type: ignore[import-not-found]
    except ImportError:
        return None
    flat, saved = drawn.folder / "leanvec.fvecs", drawn.folder / name
    svs.write_vecs(np.asarray(drawn.items), str(flat))
    loader = svs.LeanVecLoader(
        svs.VectorDataLoader(str(flat), svs.DataType.float32, dims=DIM), 64,
        primary_kind=svs.LeanVecKind.lvq8, secondary_kind=svs.LeanVecKind.lvq8,
    )  # fmt: skip
    parameters = svs.VamanaBuildParameters(alpha=0.95, graph_max_degree=32, window_size=100)
    threads = threads or os.cpu_count() or 1
    index = svs.Vamana.build(parameters, loader, svs.DistanceType.MIP, num_threads=threads)
    flat.unlink()
    saved.mkdir(exist_ok=True)
    index.save(*(str(saved / part) for part in ("config", "graph", "data")))
    for window in (20, 50, 100, 200, 400, 800, 1600):
        index.search_window_size = window
        reached = recall_of(index.search(drawn.others, K)[0].astype(np.int64), drawn.tuning)
        if reached >= RECALL:
            break
    return {"window": window, "tuned": reached}


def measure(folder: Path, name: str, threads: int | None) -> Row:
    """One row; run it in a process of its own, whose memory is counted."""
    card = json.loads((folder / "drawn.json").read_text())
    drawn, made = (
        Drawn(folder, card["normalize"]),
        json.loads((folder / f"{name}.json").read_text()),
    )
    before = _memory()["RssAnon"]
    if name not in RIVALS:
        title, search, hot = _open_ours(folder / name, made, threads)
    elif name == "leanvec":
        title, search, hot = _open_leanvec(folder / name, made, threads)
    else:
        title, search, hot = _open_faiss(folder / f"{name}.index", made, threads)
    users, wanted = drawn.users, drawn.wanted
    found = search(users)
    memory = _memory()
    return {
        "search": title,
        "recall@10": recall_of(found, wanted),
        "queries/s": QUERIES / _seconds(search, [users]),
        "ms, single": 1e3 * _seconds(search, [users[[row]] for row in range(_SINGLES)]),
        "hot MiB": hot / 2**20,
        "own MiB": memory["RssAnon"] - before,
        "mapped MiB": memory["RssFile"],
    }


def _open_ours(shelf: Path, made: dict[str, Any], threads: int | None) -> tuple[str, Search, float]:
    bundle = load_bundle(shelf, verify=False)
    finder: Index | None = None
    first = "int8 scanned"
    if bundle.manifest.index:
        finder = open_index(bundle, threads=threads)
        finder.search = made["search"]
        first = f"{finder.kind} nprobe {finder.search['nprobe']}"
    funnel = Funnel(bundle, _stages(made["size"], made["keep"]), finder=finder, threads=threads)
    title = f"ours: {made['size']} {first}, keep {made['keep']}, ranked at {DIM}"
    return title, _lists(funnel), funnel.hot_bytes


def _lists(funnel: Funnel) -> Search:
    return lambda users: funnel.search(users).items


def _open_faiss(path: Path, made: dict[str, Any], threads: int | None) -> tuple[str, Search, float]:
    index = load_index(path, made["kind"], made["search"], threads=threads)
    nothing = make_filters(0, index.inner.ntotal)
    set_to = "".join(f" {name} {value}" for name, value in index.search.items())
    title = "exact, full width: faiss flat" if made["kind"] == "flat" else (
        f"faiss {made['kind']} full width{set_to}"
    )  # fmt: skip

    def search(users: Float32) -> Int64:
        offsets = np.zeros(len(users) + 1, np.int64)
        return index.find(users, K, type(nothing)(nothing.hidden, nothing.seen, offsets))

    return title, search, index.nbytes


def _open_leanvec(
    saved: Path, made: dict[str, Any], threads: int | None
) -> tuple[str, Search, float]:
    import svs

    index = svs.Vamana(
        str(saved / "config"), svs.GraphLoader(str(saved / "graph")),
        svs.LeanVecLoader(str(saved / "data")), svs.DistanceType.MIP,
        num_threads=threads or os.cpu_count() or 1,
    )  # fmt: skip
    index.search_window_size = made["window"]

    def search(users: Float32) -> Int64:
        found: Int64 = index.search(users, K)[0].astype(np.int64)
        return found

    nbytes = sum(path.stat().st_size for path in saved.rglob("*") if path.is_file())
    return f"svs leanvec 64, window {made['window']}", search, nbytes


def _seconds(search: Search, pieces: list[Float32]) -> float:
    """Median over the pieces, again and again for three seconds."""
    times: list[float] = []
    started = time.perf_counter()
    while time.perf_counter() - started < _SECONDS or len(times) < len(pieces):
        for piece in pieces:
            began = time.perf_counter()
            search(piece)
            times.append(time.perf_counter() - began)
    return float(np.median(times))


def _memory() -> dict[str, float]:
    """MiB of this process now: its own, and pages of mapped files, which the system may take."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile")}
