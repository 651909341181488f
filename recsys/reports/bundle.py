"""What was exported, on a terminal: each tier, what it costs and what its codec lost."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from recsys.console import make_console
from recsys.retrieval.codecs import find_codec
from recsys.retrieval.manifest import BundleManifest, TierEntry, read_manifest


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
    lines = [f"{manifest.items.count:,} items, {users:,} users, scores by {manifest.metric}"]
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
        routing = manifest.routing
        early = 1 - routing.stopped[-1]
        lines.append(
            f"routing: {early:.1%} of the validation users stop early, which keeps "
            f"{routing.kept:.2%} of ndcg@{routing.k}"
        )
    return lines
