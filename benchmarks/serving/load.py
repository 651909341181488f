"""The highest steady rate of `recsys serve` at which 99 % of requests take less than 50 ms.

python -m benchmarks.serving BUNDLE [--workers 1] [--minutes 10] [--alone]
    [--results results/serving.json]

First what HTTP costs: one request at a time over it, beside the user tower and the funnel called
for the same history in this process. `hey` (Debian: apt-get install hey) sends the requests. Then
the rate is doubled while it holds, then halved between; nine tenths of it are held for some
minutes, with five hot swaps, one damaged version that must be refused, and one killed worker where
there are several. `--alone` adds the rate without micro-batching (`together=1`).
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import typer

import recsys
from benchmarks.measure import machine
from benchmarks.serving.keeping import check_results, keep
from benchmarks.serving.process import Serving
from recsys.reports.results.record import Figure
from recsys.retrieval.bundle.loading import Bundle, load_bundle
from recsys.retrieval.bundle.versions import point_to
from recsys.retrieval.bundle_funnel import open_funnel
from recsys.serving.catalogue import Catalogue
from recsys.serving.user_tower import UserTower

LIMIT = 0.05
"""Seconds within which 99 % of the requests must be answered."""
CONNECTIONS = 32
"""At most."""


@dataclass(frozen=True)
class Load:
    """What one run of the load tool has found."""

    rate: float
    """Requests a second that were answered with 200."""
    failed: int
    p50: float
    p95: float
    p99: float
    """Milliseconds."""

    def holds(self, wanted: float) -> bool:
        """Whether so many requests a second were answered in time."""
        return not self.failed and self.p99 < LIMIT * 1e3 and self.rate > 0.95 * wanted


def send(address: str, body: Path, rate: float, seconds: float, most: int = CONNECTIONS) -> Load:
    """Sends requests at a rate, evenly spread over time.

    All connections of one `hey` send at the same ticks, as bursts. So each connection is a process
    of its own, and they start one after the other within the time between two requests of one. Many
    connections, as each stays with the worker that took it.
    """
    connections = int(np.clip(rate, 1, most))
    each = rate / connections
    command = ["hey", "-z", f"{seconds:g}s", "-c", "1", "-q", f"{each:g}", "-m", "POST"]
    command += ["-T", "application/json", "-D", str(body), "-o", "csv", f"{address}/v1/recommend"]
    sending = []
    for number in range(connections):
        time.sleep(1 / rate if number else 0)
        sending.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    rows: list[dict[str, str]] = []
    for process in sending:
        rows += csv.DictReader(io.StringIO(process.communicate()[0]))
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    good = [row for row in rows if row["status-code"] == "200"]
    took = np.array([float(row["response-time"]) for row in good] or [np.inf]) * 1e3
    p50, p95, p99 = (float(np.percentile(took, share)) for share in (50, 95, 99))
    return Load(len(good) / seconds, len(rows) - len(good), p50, p95, p99)


def highest(address: str, body: Path, seconds: float) -> tuple[float, Load]:
    """The highest rate that holds, to a twentieth."""
    send(address, body, 50, min(5, seconds))
    good, best, bad, rate = 0.0, Load(0, 0, 0, 0, 0), None, 50.0
    while bad is None or bad - good > 0.05 * bad:
        load = send(address, body, rate, seconds)
        print(f"{rate:8.0f} /s  {load}")
        if load.holds(rate):
            good, best = rate, load
        else:
            bad = rate
            if rate < 2:
                break
        rate = 2 * rate if bad is None else (good + bad) / 2
    return good, best


def bare(bundle: Bundle, history: list[Any], calls: int = 300) -> dict[str, float]:
    """Milliseconds (p50, p95, p99) of what a request needs without HTTP: tower, filters, funnel."""
    catalogue, tower = Catalogue(bundle), UserTower(bundle, threads=1)
    funnel, took = open_funnel(bundle, threads=1), np.zeros(calls)
    for number in range(calls):
        start = time.perf_counter()
        items, offsets = catalogue.histories([history])
        users = tower.user_vectors(items, offsets)
        funnel.search(users, filters=catalogue.filters(items, offsets))
        took[number] = 1e3 * (time.perf_counter() - start)
    shares = np.percentile(took[calls // 10 :], (50, 95, 99))
    return dict(zip(("p50", "p95", "p99"), map(float, shares), strict=True))


def prepare(shelf: Path) -> dict[str, str]:
    """Names of the versions that are published later, as another machine would: two good ones with
    other tiers (copies, where there is an index, which takes minutes to build), one damaged.
    """
    good = load_bundle(shelf).folder
    if load_bundle(shelf, verify=False).manifest.index is None:
        other = recsys.export(shelf, shelf, tiers=_flat(shelf))
    else:
        other = shutil.copytree(good, shelf / "v999998")
    bad = shutil.copytree(good, shelf / "v999999")
    victim = max(
        (path for path in (bad / "items").rglob("*") if path.is_file()),
        key=lambda p: p.stat().st_size,
    )
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    point_to(shelf, good.name)
    return {"good": good.name, "other": other.name, "bad": bad.name}


def disturb(
    serving: Serving, shelf: Path, names: dict[str, str], seconds: float, told: dict[str, Any]
) -> None:
    """Publishes five good versions and a damaged one, kills a worker, and tells of memory."""
    pause = seconds / 8
    sizes = []
    for number in range(5):
        time.sleep(pause)
        sizes.append(serving.megabytes())
        point_to(shelf, names["good" if number % 2 else "other"])
    time.sleep(pause)
    told |= {"mb_first_swap": sizes[1], "mb_last_swap": serving.megabytes()}
    point_to(shelf, names["bad"])
    time.sleep(pause)
    point_to(shelf, names["other"])
    if len(serving.pids()) > 1:
        os.kill(serving.pids()[0], signal.SIGKILL)
        told["killed"] = 1


def _flat(shelf: Path) -> str:
    return f"0:{load_bundle(shelf, verify=False).dim}:fp16:mmap"


def main(
    bundle: Annotated[Path, typer.Argument(help="A bundle with users and a user tower.")],
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    minutes: Annotated[float, typer.Option(help="How long the rate is held.")] = 10,
    seconds: Annotated[float, typer.Option(help="Of each try of a rate.")] = 15,
    alone: Annotated[bool, typer.Option(help="Also without micro-batching.")] = False,
    results: Annotated[Path | None, typer.Option(help="results/NAME.json.")] = None,
) -> None:
    """Finds the highest steady rate and holds it; nothing else should run meanwhile."""
    if shutil.which("hey") is None:
        raise SystemExit("hey is not installed: apt-get install hey")
    check_results(results, "benchmarks.serving")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shelf = folder / "bundle"
        shutil.copytree(bundle, shelf, symlinks=True)
        names, opened = prepare(shelf), load_bundle(shelf)
        items, offsets = opened.seen
        history = Catalogue(opened).ids(items[offsets[0] : offsets[1]][-50:])
        body = folder / "body.json"
        body.write_text(json.dumps({"history": history, "k": 10}))
        found: dict[str, Any] = {
            "machine": machine(),
            "bundle": bundle.name,
            "items": len(opened.items),
            "workers": workers,
        }
        found["bare"] = bare(opened, history)
        serving = Serving(shelf, folder, 1)
        send(serving.address, body, 20, min(5, seconds), 1)
        found["one"] = vars(send(serving.address, body, 20, seconds, 1))
        serving.stop()
        if alone:
            serving = Serving(shelf, folder, workers, "together=1")
            found["alone"] = vars(highest(serving.address, body, seconds)[1])
            serving.stop()
        serving = Serving(shelf, folder, workers)
        found |= {"start_seconds": serving.start_seconds, "start_mb": serving.megabytes()}
        rate, load = highest(serving.address, body, seconds)
        found["highest"] = vars(load)
        length, told = 60 * minutes, dict[str, Any]()
        others = threading.Thread(target=disturb, args=(serving, shelf, names, length, told))
        found["mb_before"] = serving.megabytes()
        others.start()
        found["held"] = vars(send(serving.address, body, max(1.0, 0.9 * rate), length))
        others.join()
        serving.wait_for(workers)
        figures = httpx.get(f"{serving.address}/metrics").text
        swaps = dict(re.findall(r'recsys_swaps_total{result="(\w+)"} ([\d.]+)', figures))
        found |= {"mb_after": serving.megabytes(), "swaps": swaps, **told}
        serving.stop()
    if results is not None:
        keep(results, "benchmarks.serving", figures_of(found))
    print(json.dumps({key: value for key, value in found.items() if key != "machine"}, indent=2))


def figures_of(found: dict[str, Any]) -> Iterator[Figure]:
    """What is kept of a run."""
    name = f"{found['items']:,} items, {found['workers']} worker{'s' * (found['workers'] > 1)}"
    loads = {"highest": "highest", "held": "held, with swaps", "alone": "without micro-batching"}
    one = f"{found['items']:,} items, one request at a time"
    for place, load in (
        (f"{one}, without HTTP", found["bare"]),
        (f"{one}, over HTTP", found["one"]),
    ):
        for share in ("p50", "p95", "p99"):
            yield Figure(name=place, metric=share, unit="ms", value=load[share])
    for key, told in loads.items():
        if key not in found:
            continue
        load = found[key]
        place = f"{name}, {told}"
        yield Figure(name=place, metric="requests/s", unit="per second", value=load["rate"])
        yield Figure(name=place, metric="failed", unit="count", value=load["failed"])
        for share in ("p50", "p95", "p99"):
            yield Figure(name=place, metric=share, unit="ms", value=load[share])
    place = f"{name}, {loads['held']}"
    for key, metric in (
        ("mb_before", "MB before"),
        ("mb_first_swap", "MB after the first swap"),
        ("mb_last_swap", "MB after the last swap"),
        ("mb_after", "MB after"),
    ):
        yield Figure(name=place, metric=metric, unit="count", value=found[key])
    for result, count in found["swaps"].items():
        yield Figure(name=place, metric=result, unit="count", value=float(count))
    yield Figure(name=place, metric="killed", unit="count", value=found.get("killed", 0))
