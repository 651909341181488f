"""Start-up time and memory of `recsys serve` where the core and the extra `serve` alone are there.

python -m benchmarks.serving.start BUNDLE... [--rounds 5] [--keep FOLDER]
    [--results results/serving_start.json]

The tree is installed into a clean environment, from the package index. The first start there
compiles the kernels, as that of a fresh container does; later ones find them on disk. A start ends
when `/readyz` says yes: the bundle is compared byte by byte, opened and warm. Memory is that of
the process, files that it maps included (PSS), as it is ready and after a hundred requests.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from benchmarks.installs import environment_with
from benchmarks.serving.keeping import check_results, keep
from benchmarks.serving.process import Serving
from recsys.reports.results.record import Figure, Unit
from recsys.retrieval.bundle.loading import load_bundle
from recsys.serving.catalogue import Catalogue

FOREIGN = ("torch", "scipy", "pandas", "implicit", "matplotlib", "torchrec", "faiss", "jinja2")
"""Modules that must not be there."""
_REQUESTS = 100
_UNITS: dict[str, Unit] = {"s": "seconds", "ms": "ms"}


def check_environment(python: str) -> None:
    """Raises RuntimeError if a module of training is there, or imported by the server."""
    code = (
        "import sys; from importlib.util import find_spec\n"
        "import recsys.server.app, recsys.cli.serving\n"
        f"found = [name for name in {FOREIGN!r} if find_spec(name) or name in sys.modules]\n"
        "sys.exit(f'{found} are there' if found else 0)"
    )
    done = subprocess.run(
        [python, "-c", code], cwd=tempfile.gettempdir(), capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{python}: {done.stderr.strip()}")


def one_start(python: str, bundle: Path, body: dict[str, Any]) -> dict[str, float]:
    """Figures of one start."""
    with tempfile.TemporaryDirectory(prefix="recsys-start-") as name:
        serving = Serving(bundle, Path(name), 1, python=python)
        try:
            found = {
                "ready, s": serving.start_seconds,
                "processor until ready, s": serving.cpu_seconds(),
                "MB when ready": serving.megabytes(),
            }
            if serving.maps("libtorch"):
                raise RuntimeError("the server has loaded torch")
            for number in range(_REQUESTS):
                start = time.perf_counter()
                answer = httpx.post(f"{serving.address}/v1/recommend", json=body).raise_for_status()
                if not number:
                    found["first request, ms"] = 1e3 * (time.perf_counter() - start)
            if not answer.json()["items"]:
                raise RuntimeError("the server recommends nothing")
            found["MB after a hundred requests"] = serving.megabytes()
        finally:
            serving.stop()
    return found


def body_of(bundle: Path) -> dict[str, Any]:
    """A request that the bundle can answer: a history, a user, or no more than nothing."""
    opened = load_bundle(bundle, verify=False)
    if opened.manifest.tower is not None:
        ids = opened.ids("item")["item_id"].head(20).to_list()
        return {"history": ids, "k": 10}
    if opened.manifest.users is not None:
        return {"user": opened.ids("user")["user_id"][0], "k": 10}
    return {"history": [], "k": 10}


def measure(python: str, bundle: Path, rounds: int) -> Iterator[Figure]:
    """The first start, and medians of later ones."""
    body, num_items = body_of(bundle), len(Catalogue(load_bundle(bundle, verify=False)))
    starts = [one_start(python, bundle, body) for _ in range(rounds + 1)]
    for name, group in (("first start", starts[:1]), ("later starts", starts[1:])):
        for metric in starts[0]:
            value = statistics.median(each[metric] for each in group)
            unit = _UNITS.get(metric.rpartition(", ")[2], "count")
            yield Figure(name=f"{num_items:,} items, {name}", metric=metric, unit=unit, value=value)


def main(
    bundles: Annotated[list[Path], typer.Argument(help="Bundles to serve.")],
    rounds: Annotated[int, typer.Option(help="Later starts of each.", min=1)] = 5,
    kept: Annotated[
        Path | None, typer.Option("--keep", help="Folder of the environment, to use it again.")
    ] = None,
    results: Annotated[Path | None, typer.Option(help="results/NAME.json.")] = None,
) -> None:
    """Measures starts; nothing else should run meanwhile."""
    check_results(results, "benchmarks.serving.start")
    with tempfile.TemporaryDirectory(prefix="recsys-serve-only-") as name:
        folder = kept or Path(name) / "venv"
        python = environment_with("[serve]", folder)
        check_environment(python)
        rows = []
        for bundle in bundles:
            _forget_kernels(folder)
            rows += list(measure(python, bundle, rounds))
    for row in rows:
        print(f"{row.name:40} {row.metric:30} {row.value:10.2f}")
    if results is not None:
        keep(results, "benchmarks.serving.start", rows)


def _forget_kernels(folder: Path) -> None:
    """Removes what starts have compiled; Python's own bytecode goes with it."""
    for cache in folder.rglob("recsys/**/__pycache__"):
        shutil.rmtree(cache, ignore_errors=True)


if __name__ == "__main__":
    typer.run(main)
