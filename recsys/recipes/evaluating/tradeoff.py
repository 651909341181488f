"""`recsys tradeoff`: quality of funnels against bytes and work."""

from __future__ import annotations

import os
import platform
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recsys.config import apply_overrides, parse
from recsys.errors import ConfigError
from recsys.evaluation.tradeoff.funnels import measure
from recsys.evaluation.tradeoff.sweep import (
    SCAN,
    Point,
    Queries,
    Sweep,
    Tradeoff,
    choose,
    tiers_of,
)
from recsys.files.atomic import check_writable
from recsys.recipes.evaluating.queries import Measuring, Source, folder_of, open_source
from recsys.reports.ranking.content import RANKING, read_ranking
from recsys.reports.tradeoff.content import TradeoffContent
from recsys.reports.tradeoff.page import write_tradeoff
from recsys.retrieval.checks import checked_count
from recsys.runs.loading import LoadedRun
from recsys.runs.records import RUN

MEASURING = Measuring()
_FEWEST = 16
"""Items that 4-bit codes are learned of."""


def tradeoff(
    source: str | Path | LoadedRun,
    overrides: Sequence[str] = (),
    *,
    k: int = 10,
    keep_ndcg: float = 0.99,
    out: str | Path | None = None,
    measuring: Measuring = MEASURING,
    show: Callable[[TradeoffContent], None] = lambda _: None,
) -> TradeoffContent:
    """Sweeps funnels, chooses one, measures it once, and writes page, plots and table.

    All funnels are measured on the validation part. What was chosen there is measured on the test
    part, beside exact search. A run that was fitted to its validation part, and a bundle, have no
    such two parts: every second user serves to choose, the others to measure.

    Args:
        source: a run or its folder (quality against the held-out truth), or a bundle with users
            (against exact search of what it holds).
        overrides: of the `Sweep`: `keeps=[100, 200]`.
        k: length of the lists.
        keep_ndcg: share of exact search's ndcg@k that the chosen funnel must keep. The cheapest
            whose whole interval lies there is chosen; where there is none, the safest that may.
        out: folder of the report; None: `SOURCE/tradeoff`, or beside a bundle's versions.
        measuring: with whom, and how.
        show: called with what was found before it is written, which may fail.

    Raises:
        RunError, DataError: the source cannot be read.
        ConfigError, GranularityError: the sweep cannot be.
        OSError: no report can be written there.
    """
    checked_count(k, "k")
    if not 0 < keep_ndcg <= 1:
        raise ConfigError(f"keep_ndcg is {keep_ndcg:g}; a share above 0, at most 1, is expected")
    if out is not None and Path(out).is_file():
        raise ConfigError(f"{out} is a file, and the report is a folder; choose another --out")
    loaded, threads = open_source(source, measuring), measuring.threads
    source = folder_of(source)
    place = Path(out) if out else _place(source)
    check_writable(place, folder=True)
    ranking = read_ranking(source / RANKING)
    sweep = _sweep(loaded.sizes, len(loaded.vectors), overrides)
    found = _measure(loaded, loaded.choosing, sweep, k, threads)
    choice = choose(found.points, keep_ndcg)
    chosen = _only(choice.point, sweep, k) if choice else None
    content = TradeoffContent(
        source=source.resolve().name,
        under=loaded.under,
        parts=loaded.parts,
        found=found,
        floor=keep_ndcg,
        choice=choice,
        measured=_measure(loaded, loaded.measuring, chosen, k, threads) if chosen else None,
        command=export_command(source, choice.point, sweep, loaded.sizes) if choice else None,
        machine=machine_of(threads),
        ranking=ranking,
    )
    show(content)
    write_tradeoff(place, content)
    return content


def _place(source: Path) -> Path:
    """Of the report, where nothing was said."""
    if (source / RUN).is_file():
        return source / "tradeoff"
    return source.parent / f"{source.name}-tradeoff"


def _measure(
    loaded: Source, queries: Queries, sweep: Sweep, k: int, threads: int | None
) -> Tradeoff:
    """Measures a sweep with some of the users; indexes are tuned with those who choose."""
    return measure(
        loaded.vectors, loaded.sizes, loaded.normalize, queries, sweep,
        tuned_by=loaded.choosing, k=k, threads=threads,
    )  # fmt: skip


def _only(point: Point, sweep: Sweep, k: int) -> Sweep:
    """The sweep of one funnel."""
    chosen = {
        "granularities": (point.granularity,),
        "codecs": (point.codec,),
        "indexes": (point.index,),
        "keeps": (max(k, point.keep),),  # of fewer than k items all are kept
        "rankings": (point.ranking,),
        "cascades": (point.cascade,),
    }
    return sweep.model_copy(update=chosen)


def _sweep(sizes: tuple[int, ...], num_items: int, overrides: Sequence[str]) -> Sweep:
    """The funnels: by default candidates by up to a quarter of the vector, ranked by all.

    Few items, or odd granularities, have no 4-bit codes of two coordinates each: bytes then.
    """
    dim = sizes[-1]
    short = [size for size in sizes[:-1] if 4 * size <= dim] or list(sizes[:1])
    tree: dict[str, Any] = {"granularities": short[-3:], "rankings": [dim]}
    if num_items < _FEWEST or any(size % 2 for size in short[-3:]):
        tree["indexes"] = [SCAN, "ivf,sq8"]
    return parse(Sweep, apply_overrides(tree, list(overrides)), "the sweep of `recsys tradeoff`")


def machine_of(threads: int | None) -> str:
    """What the searches are timed on, in words."""
    cores = os.cpu_count() or 1
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.is_file() else ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.M)
    processor = named[1] if named else platform.processor() or platform.machine()
    used = min(threads or cores, cores)
    return (
        f"{processor}, {cores} core{'s' * (cores > 1)}, {used} thread{'s' * (used > 1)}, "
        f"{platform.system()}"
    )


def export_command(source: Path, point: Point, sweep: Sweep, sizes: Sequence[int]) -> str:
    """The `recsys export` that makes a point, of a run or of a bundle."""
    tiers = tiers_of(
        point.granularity, point.ranking, point.codec, sweep.ranking_codec, point.index
    )
    out = source / "bundle" if (source / RUN).is_file() else Path(f"{source}-tiers")
    words = ["recsys", "export", str(source), str(out), "--tiers", ",".join(map(str, tiers))]
    if point.index != SCAN:
        words += ["--index", point.index, "--recall", str(sweep.index_recall)]
    *stages, last = point.stages(sizes, 1)
    text = [*(f"{stage.granularity}:{stage.keep}" for stage in stages), str(last.granularity)]
    return shlex.join([*words, "--stages", ",".join(text)])


__all__ = ["Tradeoff", "TradeoffContent", "export_command", "tradeoff"]
