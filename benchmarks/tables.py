"""Rows of measurements as tables of a terminal."""

from __future__ import annotations

from rich.table import Table

from benchmarks.measure import Row


def as_table(title: str, rows: list[Row]) -> Table:
    """Rows as a table; numbers with the decimals they deserve."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(_text(row.get(column, "")) for column in columns))
    return table


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}" if value < 10 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
