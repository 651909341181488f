"""Lists that trade scores for diversity of categories, of any model or bundle.

Shape legend: B users, K length of the lists.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from recsys.data.histories import Histories
from recsys.errors import ConfigError
from recsys.library.engines.engine import Found, Lister
from recsys.rankers.lists.categories import ItemCategories, candidates_for, diversified


@dataclass(frozen=True)
class Diversity:
    """How much an item of another category is worth."""

    by: str
    """The column of the items with their categories: a list, or text with `|` between them."""
    strength: float = 0.05
    """What each earlier item of another category adds to a score, where the best of the candidates
    has 1 and the worst 0."""

    def __post_init__(self) -> None:
        """Refuses what is none."""
        if not isinstance(self.by, str) or not self.by:
            raise ConfigError(
                f"--diverse-by (by) is {self.by!r}; the name of a column of the items is expected"
            )
        number = isinstance(self.strength, int | float) and not isinstance(self.strength, bool)
        if not number or not 0 <= self.strength < float("inf"):
            raise ConfigError(
                f"--diversity (strength) is {self.strength!r}; a number of 0 or more is expected"
            )


@dataclass(frozen=True)
class DiverseLister:
    """Chooses lists from five times as many candidates of another lister."""

    inner: Lister
    categories: ItemCategories
    strength: float
    num_items: int

    def lists(self, histories: Histories, *, own: bool, k: int, filter_seen: bool) -> Found:
        """See `Lister`; scores are those of the model, so they need not fall."""
        wanted = candidates_for(k, self.num_items)
        items, scores = self.inner.lists(histories, own=own, k=wanted, filter_seen=filter_seen)
        return diversified(items, scores, self.categories, self.strength, k)


def column_of(frame: pl.DataFrame, name: str, where: str) -> pl.Series:
    """A column of the items.

    Raises:
        ConfigError: there is none.
    """
    known = [each for each in frame.columns if each not in ("item_index", "item_id")]
    if name not in known:
        raise ConfigError(
            f"the items of {where} have no column {name!r}; they have "
            f"{', '.join(known) or 'none (a bundle: recsys export --columns)'}"
        )
    return frame[name]
