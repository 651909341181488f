"""Bundles on a terminal: tiers with their bytes and errors, versions, drift between two."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from recsys.console import make_console
from recsys.retrieval.bundle.manifest import BundleManifest, RoutingEntry, TierEntry, read_manifest
from recsys.retrieval.codecs.registry import find_codec
from recsys.retrieval.index.building import stages_text
from recsys.retrieval.index.choosing import Candidate


def print_bundle(folder: Path, console: Console | None = None) -> None:
    """One line for each tier; then tower, index, funnel and routing."""
    console = console or make_console()
    manifest = read_manifest(folder)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("tier", no_wrap=True)
    for name in ("bytes an item", "largest error", "relative error"):
        table.add_column(name, justify="right")
    for tier in manifest.items.tiers:
        table.add_row(*_cells(tier))
    console.print(table)
    for line in _lines(manifest):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    for line in warnings(manifest):
        console.print(line, soft_wrap=True, highlight=False, markup=False, style="yellow")


def print_candidates(found: Sequence[Candidate], chosen: int) -> None:
    """The indexes that were measured, and the one that was taken."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="indexes", title_justify="left")
    table.add_column("index", no_wrap=True)
    for name in ("coordinates", "stages", "recall@10", "bytes an item", "ms a user, in a batch"):
        table.add_column(name, justify="right")
    for place, one in enumerate(found):
        table.add_row(
            one.kind,
            f"{one.granularity}",
            stages_text(one.tuned.stages),
            f"{one.tuned.recall:.4f}",
            f"{one.nbytes:.1f}",
            f"{one.ms:.3f}",
            style="bold" if place == chosen else "" if one.reached else "dim",
        )
    make_console().print(table)


def _cells(tier: TierEntry) -> tuple[str, ...]:
    size = find_codec(tier.codec).bytes_per_row(tier.hi - tier.lo)
    return (
        f"{tier.lo}:{tier.hi}:{tier.codec}:{tier.residence}",
        f"{size:,}",
        f"{tier.max_abs_error:.2g}",
        f"{tier.relative_error:.2%}",
    )


def _lines(manifest: BundleManifest) -> list[str]:
    users = 0 if manifest.users is None else manifest.users.count
    several = f", the best of {manifest.interests} vectors a user"
    metric = manifest.metric + (several if manifest.interests > 1 else "")
    lines = [f"{manifest.items.count:,} items, {users:,} users, scores by {metric}"]
    if manifest.tower is not None:
        lines.append(f"user tower: ONNX, off by {manifest.tower.parity:.1e} at most")
    elif manifest.no_tower:
        lines.append(f"no user tower: {manifest.no_tower}")
    if manifest.index is not None:
        index = manifest.index
        reached = "" if index.recall is None else f", recall {index.recall:.2%}"
        lines.append(f"index: {index.kind} at {index.granularity} coordinates{reached}")
    if manifest.stages is not None:
        lines.append(f"stages: {manifest.stages}")
    if manifest.routing is not None:
        lines.append(_routing(manifest.routing))
    return lines


def _routing(entry: RoutingEntry) -> str:
    """Who stops early and what that keeps, of users it was not learned of where they are known."""
    early, measured = 1 - entry.stopped[-1], entry.measured
    learned = f"{early:.1%} of the validation users stop early"
    if measured is None:
        return f"routing: {learned}, which keeps {entry.kept:.2%} of ndcg@{entry.k} of theirs"
    text = (
        f"routing: {1 - measured.stopped[-1]:.1%} of {measured.num_users:,} test users stop early, "
        f"which keeps {measured.kept:.2%} of ndcg@{entry.k}"
    )
    if measured.kept_low is not None and measured.kept_high is not None:
        low, high = measured.kept_low, measured.kept_high
        text += f" (95 % interval {100 * low:.1f} to {100 * high:.1f} %)"
    return f"{text}; learned where {learned} and {entry.kept:.2%} is kept"


def warnings(manifest: BundleManifest) -> list[str]:
    """What whoever exports a bundle should think about."""
    entry = manifest.routing
    if entry is None or entry.stopped[-1] > 0:
        return []
    return [
        "warning: every validation user stops early, so nobody reaches the last stage: the users "
        "do not tell the stages apart. Serve the earlier stages alone (--stages), or everybody by "
        "all of them (no --route)"
    ]


def print_versions(versions: Sequence[Any]) -> None:
    """One row for each version; the current one is marked."""
    table = Table("", "version", "created", "parent", "run", "items", "MiB", box=box.SIMPLE)
    for each in versions:
        told = each.manifest
        table.add_row(
            "current" if each.current else "",
            each.name,
            told.created_at or "?",
            told.parent or "",
            str(told.model.get("run", "")),
            f"{told.items.count:,}",
            f"{each.nbytes / 2**20:.1f}",
        )
    make_console().print(table, highlight=False, markup=False)


def print_drift(drift: Any) -> None:
    """What stayed and what changed."""
    table = Table("", "both", "first alone", "second alone", box=box.SIMPLE)
    for name in ("items", "users"):
        table.add_row(name, *(f"{count:,}" for count in getattr(drift, name)))
    console = make_console()
    console.print(table, highlight=False, markup=False)
    lines = [
        f"cosine of items' vectors at {size}: {value:.4f}" for size, value in drift.cosine.items()
    ]
    if drift.neighbours is not None:
        lines.append(f"items most like an item that stay: {drift.neighbours:.1%} of the first ten")
    if drift.lists is not None:
        lines.append(f"users' lists that stay: {drift.lists:.1%} of the first ten")
        first, second = drift.coverage
        lines.append(f"items in any of these lists: {first:.1%} before, {second:.1%} after")
    print("\n".join(lines))
