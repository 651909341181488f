"""A way to search: parts to build, opening, parameters.

Shape legend: B users, K of a list, D coordinates.
"""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.retrieval.vectors import Vectors
from recsys.arrays import Float32, Int64
from recsys.files.atomic import write_json

Point = dict[str, int]
"""Search parameters."""
Search = Callable[[Float32], Int64]
"""`[B, D]` users -> `[B, K]` items."""


@dataclass(frozen=True)
class Opened:
    """A way in memory."""

    at: Callable[[Point], Search]
    """A search with these parameters."""
    resident: float
    """Bytes that every search may touch: they must lie in memory. By arithmetic (sizes of what is
    stored), as RssAnon cannot tell a file that a library copied from one that it has to hold."""
    mapped: float = 0
    """Bytes of which a search reads a few rows: they may stay on disk."""
    holds: tuple[Any, ...] = ()
    """What a library knows by its address alone, and Python would free."""


@dataclass(frozen=True)
class Part:
    """Something that is built once, in a folder of its own beside the vectors."""

    name: str
    build: Callable[[Vectors, Path, int], None]
    """Fills an empty folder; the number is that of threads."""


@dataclass(frozen=True)
class Way:
    """One way to search."""

    name: str
    title: str
    """As its own library would write it."""
    parts: tuple[Part, ...]
    open: Callable[[Vectors, int], Opened]
    grid: tuple[tuple[Point, ...], ...]
    """Lines of search parameters, each from little work to much."""
    item_bytes: Callable[[int], float]
    """About how many bytes an item of D coordinates keeps in memory: known before it is built."""
    needs: tuple[str, str] | None = None
    """A module, and the package that has it."""
    ours: bool = False
    unfit: Callable[[], str | None] = field(default=lambda: None)
    """Why this machine cannot run it."""

    def missing(self) -> str | None:
        """What stands against it on this machine."""
        if self.needs and find_spec(self.needs[0]) is None:
            module, package = self.needs
            return f"module {module} is missing: pip install {package}"
        return self.unfit()


def grid_of(
    outer: str, values: Sequence[int], inner: str, work: Sequence[int]
) -> tuple[tuple[Point, ...], ...]:
    """A line for each value of `outer`; along it `inner` grows."""
    return tuple(tuple({inner: step, outer: value} for step in work) for value in values)


def line_of(name: str, work: Sequence[int]) -> tuple[tuple[Point, ...], ...]:
    """One line of one parameter."""
    return (tuple({name: step} for step in work),)


def build_parts(vectors: Vectors, way: Way, threads: int) -> None:
    """Builds what is not there yet; a part that stands is whole."""
    for part in way.parts:
        folder = vectors.folder / part.name
        if folder.exists():
            continue
        unfinished = vectors.folder / f"{part.name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        started = time.perf_counter()
        part.build(vectors, unfinished, threads)
        seconds = time.perf_counter() - started
        write_json(_seconds_file(vectors, part), {"seconds": seconds, "threads": threads})
        unfinished.rename(folder)


def build_seconds(vectors: Vectors, way: Way) -> float:
    """Of all its parts; not a number where one was brought from elsewhere."""
    files = [_seconds_file(vectors, part) for part in way.parts]
    if not all(file.is_file() for file in files):
        return float("nan")
    return float(sum(json.loads(file.read_text())["seconds"] for file in files))


def is_built(vectors: Vectors, way: Way) -> bool:
    """Whether all parts stand."""
    return all((vectors.folder / part.name).exists() for part in way.parts)


def size_of(*paths: Path) -> int:
    """Bytes of files, and of all files in folders."""
    files = itertools.chain.from_iterable(
        path.rglob("*") if path.is_dir() else [path] for path in paths
    )
    return sum(file.stat().st_size for file in files if file.is_file())


def _seconds_file(vectors: Vectors, part: Part) -> Path:
    return vectors.folder / f"{part.name}.built.json"
