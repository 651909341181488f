"""Splits of a budget of bytes over coordinates, on a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recsys.arrays import Float64
from recsys.console import make_console
from recsys.evaluation.bootstrap import PairedDifference, paired_difference
from recsys.evaluation.tradeoff.bits import Bought, Found
from recsys.evaluation.tradeoff.sweep import Point
from recsys.reports.tradeoff.words import half_of

Aim = Literal["candidates", "lists"]
_AIMS: dict[Aim, str] = {"candidates": "recall", "lists": "same"}


@dataclass(frozen=True)
class MeasuredTiers:
    """Figures of tiers on users who did not take part in their choice."""

    recall: float
    """Share of exact search's first K among the candidates."""
    aimed: Float64
    """`[B]` what was aimed at: that share, or the one in the final lists."""
    funnel: Point
    """The candidates ranked by all coordinates: the tiers in memory, and the others as fp16."""


@dataclass(frozen=True)
class BitsRow:
    """The tiers of one budget, with their measured recall."""

    bought: Bought
    split: MeasuredTiers
    single: MeasuredTiers
    """The best single codec over one prefix."""
    command: str
    """The `recsys export` that makes the split."""

    @property
    def beside(self) -> PairedDifference:
        """What was aimed at: the split beside the single codec."""
        return paired_difference(self.single.aimed, self.split.aimed)


@dataclass(frozen=True)
class BitsContent:
    """The content of the report of all budgets."""

    source: str
    under: str
    """Data set and protocol in one line."""
    parts: tuple[str, str]
    """Who the splits were chosen with, and who measured."""
    aim: Aim
    """Whose recall the splits were chosen by."""
    k: int
    keep: int
    rows: tuple[BitsRow, ...]


def print_bits(content: BitsContent, console: Console | None = None) -> None:
    """Every budget: its split and the best single codec, a sentence, the export command."""
    console = console or make_console()
    chosen, measured = content.parts
    title = f"{content.source}: bytes over coordinates ({content.under})"
    table = Table(
        title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
        padding=(0, 1, 0, 0),
    )  # fmt: skip
    table.add_column("bytes", justify="right", no_wrap=True)
    table.add_column("in memory", overflow="fold")
    for name in ("chosen by", "recall", "same", "kept %"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in content.rows:
        for found, reached in ((row.bought.split, row.split), (row.bought.single, row.single)):
            style = "bold" if reached is row.split else None
            table.add_row(*_cells(found, reached), style=style)
    console.print(table)
    told = (
        f"recall: share of exact search's first {content.k} among {content.keep} candidates of "
        f"{measured}; same: in the final lists, which the tiers in memory and all other "
        "coordinates as fp16 rank; kept: share of exact search's quality in these, ±: half its "
        f"95 % interval, paired over users; chosen by: {_AIMS[content.aim]}, of {chosen}. In bold "
        "the split, beneath it the best single codec over one prefix within the same bytes"
    )
    console.print(told, style="dim", markup=False, highlight=False)
    for row in content.rows:
        console.print(sentence_of(row, content), soft_wrap=True, markup=False, highlight=False)
        console.print(row.command, soft_wrap=True, markup=False, highlight=False)


def sentence_of(row: BitsRow, content: BitsContent) -> str:
    """What a split finds more than the single codec."""
    beside, text = row.beside, f"Within {row.bought.budget:g} bytes, on {content.parts[1]}: "
    if row.bought.split == row.bought.single:
        return f"{text}no split finds more than the single codec, which is taken."
    return (
        f"{text}{content.aim} of the split hold {100 * beside.difference:+.1f} % of exact search's "
        f"first {content.k} beside those of the single codec (95 % interval "
        f"{100 * beside.difference_low:+.1f} to {100 * beside.difference_high:+.1f})."
    )


def _cells(found: Found, reached: MeasuredTiers) -> list[str]:
    tiers = " ".join(f"{tier.lo}:{tier.hi}:{tier.codec}" for tier in found.tiers)
    kept = f"{100 * reached.funnel.kept:.1f} {half_of(reached.funnel)}".strip()
    shares = (found.recall, reached.recall, reached.funnel.overlap)
    return [f"{found.nbytes:.1f}", tiers, *(f"{share:.4f}" for share in shares), kept]
