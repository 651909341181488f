"""The report of the ranking stage on a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from recsys.console import make_console
from recsys.evaluation.bootstrap import PairedDifference
from recsys.reports.ranking.content import Fit, RankingContent

_ENDLESS = 10_000


def print_ranking(content: RankingContent, console: Console | None = None) -> None:
    """Every funnel and ranker, beside its candidates' own order and beside exact search."""
    console = console or make_console()
    table = Table(
        title=Text(f"{content.run}: both stages, {content.card.part} part"),
        title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for name in ("ranker", "candidates"):
        table.add_column(name, no_wrap=True)
    numbers = ("reached", f"ndcg@{content.k}", "to dot %", "to exact %", "M mul-adds", "ms")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    for row in content.rows:
        table.add_row(
            Text(row.name),
            Text(row.candidates),
            "" if row.reached is None else f"{row.reached:.3f}",
            f"{row.ndcg:.4f}",
            change(row.beside_dot),
            change(row.beside_exact),
            f"{row.multiply_adds / 1e6:.2f}",
            "" if row.ms is None else f"{row.ms:.1f}",
        )
    endless = console.options.update(width=_ENDLESS)
    table.width = Measurement.get(console, endless, table).maximum  # no figure is cut
    console.print(table, crop=False, overflow="ignore")
    console.print(
        f"{content.num_users:,} users; protocol {content.card.protocol}, fitted on "
        f"{content.card.fit_on}. reached: share of the targets among the candidates. to dot, to "
        "exact: change of ndcg against dot products' order of the same candidates, and against "
        "exact search at full width; in brackets the 95 % interval, paired over users. ms: of one "
        "user alone, in this run",
        style="dim", markup=False, highlight=False,
    )  # fmt: skip


def print_fit(found: Fit, console: Console | None = None) -> None:
    """What was learned from, and what it brings on the validation part."""
    console = console or make_console()
    told = ", ".join(f"{count:,} {what}" for what, count in found.told.items())
    gained = [
        f"{name} ({share:.0%})" for name, share in list(_importance(found).items())[:6] if share > 0
    ]
    lines = [
        f"learned from: {told}",
        f"validation part, 10 best: ndcg {found.before:.4f} by dot products, {found.after:.4f} by "
        f"the ranker, {change(found.lift)} % (95 % interval, paired over users)",
        *([f"most of the gain: {', '.join(gained)}"] if gained else []),
        f"fitted: {found.folder}",
    ]
    console.print("\n".join(lines), soft_wrap=True, markup=False, highlight=False)


def _importance(found: Fit) -> dict[str, float]:
    """Shares of the features, the largest first; empty: the ranker does not tell."""
    tell = getattr(found.ranker, "importance", None)
    shares: dict[str, float] = tell() if tell is not None else {}
    return dict(sorted(shares.items(), key=lambda pair: -pair[1]))


def change(beside: PairedDifference | None) -> str:
    """A change in percent with its interval, as `+5.2 [+1.1, +9.0]`."""
    if beside is None:
        return ""
    base = beside.difference / (beside.ratio - 1) if beside.ratio != 1 else 0.0
    if not base:
        return "+0.0"
    low, high = (100 * edge / base for edge in (beside.difference_low, beside.difference_high))
    return f"{100 * beside.difference / base:+.1f} [{low:+.1f}, {high:+.1f}]"
