"""`recsys show`: what one user had last, and what is recommended, by title, on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

from recsys.console import make_console
from recsys.errors import DataError
from recsys.library.recommender import Recommender
from recsys.library.sources.loading import load


def show(
    source: str | Path,
    user: str | None = None,
    *,
    granularities: Sequence[int] = (),
    k: int = 10,
    last: int = 5,
    data: str | Path | None = None,
    console: Console | None = None,
) -> None:
    """Prints the last items of a user, and the first k of the lists at some granularities.

    Args:
        source: a run folder or a bundle.
        user: an external id; None: the first user.
        granularities: prefixes to rank by, one column each; empty: the full width alone.
        k: items of a list.
        last: items of the history.
        data: the dataset folder of a run that was moved, or of a baseline.
        console: where to print; None: standard output.

    Raises:
        DataError: the user is unknown. GranularityError: it cannot be ranked by a prefix.
    """
    model, console = load(source, data=data), console or make_console()
    chosen = str(model.users[0]) if user is None else user
    asked = model.asked([chosen], None)
    if asked.users[0] < 0:
        raise DataError(
            f"{model.name} knows no user {chosen!r}; its users are such as "
            f"{', '.join(repr(str(each)) for each in model.users.head(3))}"
        )
    titles = _titles(model)
    history = model.engine.own_histories(asked.users).items[::-1]
    had = Table("", "title", title=f"user {chosen}: the last of {len(history):,}", box=box.SIMPLE)
    for place, item in enumerate(history[:last], 1):
        had.add_row(str(place), titles[int(item)])
    console.print(had, highlight=False, markup=False)
    columns: list[int | None] = [*granularities] or [None]
    names = [f"{size or 'all'} coordinates" if model.sizes else "title" for size in columns]
    lists = [model.recommend([chosen], k=k, granularity=size)["item_id"] for size in columns]
    table = Table("", *names, title="recommended", box=box.SIMPLE)
    found = [[titles[index] for index in _places(model, each)] for each in lists]
    for place in range(max(map(len, found))):
        cells = [column[place] if place < len(column) else "" for column in found]
        table.add_row(str(place + 1), *cells)
    console.print(table, highlight=False, markup=False)


def _titles(model: Recommender) -> list[str]:
    """What each item is called; its id where nothing says a title."""
    ids = model.items.cast(pl.String)
    frame = model.engine.item_frame()
    if "title" not in frame.columns:
        return ids.to_list()
    titles = frame["title"].cast(pl.String)
    return (
        pl.DataFrame({"title": titles, "id": ids})
        .select(pl.coalesce("title", "id"))
        .to_series()
        .to_list()
    )


def _places(model: Recommender, items: pl.Series) -> list[int]:
    index = pl.Series(np.arange(len(model.items)))
    order = pl.DataFrame({"id": model.items, "place": index})
    return (
        pl.DataFrame({"id": items}).join(order, on="id", how="left", maintain_order="left")["place"]
    ).to_list()
