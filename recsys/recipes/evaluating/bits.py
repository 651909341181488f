"""`recsys bits`: the best split of bytes over coordinates, as a `--tiers` option."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from recsys.errors import ConfigError
from recsys.evaluation.tradeoff.bits import Found, spend
from recsys.evaluation.tradeoff.funnels import measure_tiers
from recsys.evaluation.tradeoff.sweep import Queries
from recsys.evaluation.tradeoff.tier_scans import TierScans, with_the_rest
from recsys.recipes.evaluating.queries import Measuring, folder_of, open_source
from recsys.reports.tradeoff.bits import Aim, BitsContent, BitsRow, MeasuredTiers
from recsys.retrieval.checks import checked_count
from recsys.runs.loading import LoadedRun
from recsys.runs.records import RUN

MEASURING = Measuring(num_users=1000)


def bits(
    source: str | Path | LoadedRun,
    budgets: Sequence[float] = (32,),
    *,
    edges: Sequence[int] | None = None,
    aim: Aim = "candidates",
    keep: int = 100,
    k: int = 10,
    measuring: Measuring = MEASURING,
    show: Callable[[BitsContent], None] = lambda _: None,
) -> BitsContent:
    """Splits budgets of bytes over coordinates on validation users, measures once on test users.

    What is in memory is scanned; the coordinates behind it are mapped as fp16 and rank with it.

    Args:
        source: a run or its folder, or a bundle with users.
        budgets: bytes of one item in memory, each for itself.
        edges: where buckets of coordinates end; None: at the granularities but the last.
        aim: what should hold most of exact search's first K: the candidates, whatever ranks them,
            or the final lists of this very funnel. Ranking reads the tiers in memory too, so coarse
            ones that find well rank badly.
        keep: candidates of a scan that are ranked.
        k: length of the lists.
        measuring: with whom, and how.
        show: called with what was found.

    Raises:
        RunError, DataError: the source cannot be read, or exact search finds nothing.
        ConfigError: budgets, edges or numbers that cannot be.
    """
    if not budgets or not all(0 < budget < float("inf") for budget in budgets):
        raise ConfigError(f"budgets {list(budgets)}: numbers of bytes above 0 are expected")
    if aim not in get_args(Aim):
        raise ConfigError(f"aim {aim!r} is not among {get_args(Aim)}")
    checked_count(k, "k")
    checked_count(keep, "keep", least=k)
    loaded, source = open_source(source, measuring), folder_of(source)
    buckets = list(loaded.sizes[:-1] if edges is None else edges)

    def scans_of(users: Queries, ranked: bool) -> TierScans:
        return TierScans(
            loaded.vectors, loaded.normalize, users, edges=buckets, ranked=ranked, keep=keep, k=k,
            threads=measuring.threads,
        )  # fmt: skip

    bought = spend(scans_of(loaded.choosing, aim == "lists"), buckets, sorted(set(budgets)))
    founds = [found for each in bought for found in (each.split, each.single)]
    layouts = [with_the_rest(found.tiers, loaded.sizes[-1]) for found in founds]
    funnels = measure_tiers(
        loaded.vectors, loaded.sizes, loaded.normalize, loaded.measuring, layouts, keep,
        k=k, threads=measuring.threads,
    )  # fmt: skip
    scans = scans_of(loaded.measuring, False)
    aimed = scans if aim == "candidates" else scans_of(loaded.measuring, True)
    reached = [
        MeasuredTiers(float(scans.recalls(found.tiers).mean()), aimed.recalls(found.tiers), point)
        for found, point in zip(founds, funnels.points, strict=True)
    ]
    content = BitsContent(
        source=source.resolve().name,
        under=loaded.under,
        parts=loaded.parts,
        aim=aim,
        k=k,
        keep=scans.keep,
        rows=tuple(
            BitsRow(each, split, single, _command(source, each.split, loaded.sizes[-1], keep))
            for each, split, single in zip(bought, reached[::2], reached[1::2], strict=True)
        ),
    )
    show(content)
    return content


def _command(source: Path, found: Found, dim: int, keep: int) -> str:
    """The `recsys export` that makes a split."""
    out = source / "bundle" if (source / RUN).is_file() else Path(f"{source}-bits")
    tiers = ",".join(map(str, with_the_rest(found.tiers, dim)))
    stages = f"{found.tiers[-1].hi}:{keep},{dim}"
    words = ["recsys", "export", str(source), str(out), "--tiers", tiers, "--stages", stages]
    return shlex.join(words)


__all__ = ["BitsContent", "bits"]
