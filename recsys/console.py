"""Consoles for all printed text: text is printed as it is, without markup.

rich reads square brackets as markup and `:100:` as an emoji. Names of runs, tiers and files, and
what an error quotes, may hold either, so both are off everywhere; colours are given as styles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def make_console(**options: Any) -> Console:
    """A console that changes nothing of what it prints; `options` are those of rich's `Console`."""
    from rich.console import Console  # `recsys --help` needs none

    return Console(markup=False, emoji=False, **options)
