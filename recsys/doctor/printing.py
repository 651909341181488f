"""Printing of the doctor's findings on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recsys.doctor.finding import Finding


def print_findings(
    findings: Sequence[Finding], console: Console, extras: Sequence[Finding] = ()
) -> None:
    """Tables of everything and of the extras, then each remedy on a line of its own to copy."""
    console.print(_table(("what", "found", "wanted", ""), findings))
    if extras:
        console.print()
        console.print(_table(("extra", "found", "for", ""), extras))
    _print_lines("to fix it:", [each for each in (*findings, *extras) if not each.ok], console)
    _print_lines("to add an extra:", [each for each in extras if each.absent], console)


def _table(names: Sequence[str], findings: Sequence[Finding]) -> Table:
    table = Table(*names, box=None, pad_edge=False, header_style="dim")
    for finding in findings:
        mark = Text("ok", "green") if finding.ok else Text("wrong", "bold red")
        if finding.absent:
            mark = Text("-", "dim")
        table.add_row(finding.name, finding.found, finding.wanted, mark)
    return table


def _print_lines(title: str, findings: Sequence[Finding], console: Console) -> None:
    remedies = dict.fromkeys(finding.remedy for finding in findings if finding.remedy)
    if remedies:
        console.print(f"\n{title}", style="bold")
        for remedy in remedies:
            console.print(Text(f"  {remedy}"), soft_wrap=True)
