"""The face of a model: lists, scores, similar items and vectors by external ids, as data frames.

Shape legend: B users, N items, K length of the lists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from recsys.arrays import Float32
from recsys.data.parsing.frames import Order, as_frame
from recsys.errors import ConfigError, DataError
from recsys.library.asked import Asked, asked_histories, asked_users
from recsys.library.diversity import Diversity
from recsys.library.engines.engine import Engine
from recsys.library.engines.similar import similar_frame
from recsys.library.ids import Ids, id_series, unknown_frame
from recsys.library.output import like
from recsys.library.plan import (
    Plan,
    Way,
    allowed_of,
    asked_now,
    checked_items,
    make_plan,
    seconds_of,
)
from recsys.library.user_table import read_users
from recsys.progress import console, progress
from recsys.retrieval.checks import checked_count

Fallback = Literal["popularity"]
BATCH = 4096
"""Users whose lists are made at once."""


class Recommender:
    """A trained run, a baseline or a bundle: the same calls, the same frames."""

    def __init__(
        self,
        engine: Engine,
        users: pl.Series,
        items: pl.Series,
        *,
        name: str,
        keep: Callable[[Path], Path] | None = None,
        go_on: Callable[..., Recommender] | None = None,
        origin: object = None,
    ) -> None:
        """Use `recsys.fit` or `recsys.load`.

        Args:
            engine: ranks items.
            users: external ids by index.
            items: external ids by index.
            name: for messages and tables.
            keep: writes what was fitted to a folder; None: it stands in one.
            go_on: trains on with new rows; None: it is nothing that is trained.
            origin: what the engine was made of: a loaded run, a fitted baseline, a bundle.
        """
        self.engine, self.name, self._keep, self.origin = engine, name, keep, origin
        self._go_on = go_on
        self._users, self._items = Ids(users, "user"), Ids(items, "item")

    def __repr__(self) -> str:
        sizes = f", granularities {self.sizes}" if self.sizes else ""
        return f"<{self.name}: {len(self._users):,} users, {len(self._items):,} items{sizes}>"

    @property
    def users(self) -> pl.Series:
        """External ids of the known users."""
        return self._users.names

    @property
    def items(self) -> pl.Series:
        """External ids of the items."""
        return self._items.names

    @property
    def sizes(self) -> tuple[int, ...]:
        """Granularities that lists can be asked at; empty: there are none."""
        return self.engine.sizes

    def recommend(
        self,
        users: Any = None,
        *,
        histories: Any = None,
        k: int = 10,
        granularity: int | None = None,
        stages: str | None = None,
        allow: Any = None,
        block: Any = None,
        filter_seen: bool = True,
        fallback: Fallback | None = None,
        ranker: bool | None = None,
        order: Order | None = None,
        at: Any = None,
        diversity: Diversity | None = None,
    ) -> Any:
        """The best k items for each user or history.

        Args:
            users: ids of known users, whose histories are known: a list, an array, a series or a
                frame with a column user_id. `model.users` are all. Each id is taken once. Of a
                model that reads columns of users: also anyone of whom they are known, by a frame
                with these columns or `{user: {column: value}}`; what is known of known users stays.
            histories: instead of users: `{user: [item, ...]}`, oldest first, or a frame with the
                columns user_id, item_id and timestamp (by which rows are sorted, stably). Anyone
                may have one. With users beside them, these tell the columns of whoever has it.
            k: items a list has at most.
            granularity: rank by this prefix; None: by the full width (a bundle: by its stages).
            stages: rank in stages, as `32:200,256`.
            allow: item ids, the only ones to be recommended; None: all.
            block: item ids that are never recommended.
            filter_seen: recommend nothing of the history.
            fallback: what those without a history get: `popularity`, the items with most
                interactions, which are then their scores. None: unknown users get no list, and
                an empty history is an error.
            ranker: order the candidates by the ranker of a bundle; None: where the bundle has one,
                and neither granularity nor stages are given.
            order: `given`: rows of a frame of histories stand in their order.
            at: when the items are asked for: seconds since 1970, a datetime or ISO text. Models
                that read the time of the request (`model.time: request`) and rankers go by it.
                None: now, to such models; a ranker behind other models is told no moment, and
                takes the end of what it knows.
            diversity: `recsys.Diversity(by="genres", strength=0.1)`: items of other categories than
                those before them are worth more; scores need not fall then.

        Returns:
            user_id, item_id, rank (from 1) and score, in the order asked for: a frame of polars,
            or of the library whose frame was given. Unknown ids are told; `unknown` names them.

        Raises:
            DataError: ids are none, or a history is empty.
            ConfigError: k, the stages or the fallback cannot be.
            GranularityError: it cannot be ranked by that prefix.
        """
        asked = self.asked(users, histories, order=order)
        plan = self.plan(
            k=k, granularity=granularity, stages=stages, allow=allow, block=block,
            filter_seen=filter_seen, fallback=fallback, ranker=ranker,
        ).at(at).diverse(diversity)  # fmt: skip
        plan.check(asked)
        tell_unknown(asked)
        frames = [plan.frame(asked.slice(0, 0))]
        with progress() as bar:
            task = bar.add_task("recommending", total=len(asked))
            for part in asked.parts(BATCH):
                frames.append(plan.frame(part))
                bar.advance(task, len(part))
        return like(pl.concat(frames), users if histories is None else histories)

    def asked(self, users: Any, histories: Any, *, order: Order | None = None) -> Asked:
        """Users or histories as indices.

        Raises:
            DataError: neither is given, or both to a model that reads no columns of users, or ids
                are none.
        """
        columns = self.engine.columns
        if (users is None) == (histories is None) and (users is None or columns is None):
            raise DataError(
                "say for whom: --users FILE or --histories FILE, and not both (users, a list of "
                "ids; `model.users` are all; or histories={'anyone': [item, ...]})"
            )
        if histories is None:
            return asked_users(users, self._users, columns)
        about = None if users is None else read_users(users, columns)
        return asked_histories(histories, order, self._users, self._items, about)

    def plan(
        self,
        *,
        k: int = 10,
        granularity: int | None = None,
        stages: str | None = None,
        allow: Any = None,
        block: Any = None,
        filter_seen: bool = True,
        fallback: str | None = None,
        ranker: bool | None = None,
    ) -> Plan:
        """Everything of `recommend` but the users, made ready for any number of batches."""
        return make_plan(
            self.engine, self._items, Way(granularity, stages, ranker), k=checked_count(k, "k"),
            allowed=allowed_of(self._items, allow, block), filter_seen=filter_seen,
            fallback=fallback,
        )  # fmt: skip

    def unknown(self, users: Any = None, *, histories: Any = None, order: Any = None) -> Any:
        """What of users or histories is not known: a frame of `kind`, `id` and `rows`."""
        found = self.asked(users, histories, order=order).unknown
        return like(found, users if histories is None else histories)

    def similar_items(self, items: Any, k: int = 10, *, granularity: int | None = None) -> Any:
        """The k items most like each of some: by the cosine of their vectors; by a model without
        vectors, what it recommends to whoever has had that one item.

        Returns:
            item_id, similar_item_id, rank and score.

        Raises:
            DataError: an id is unknown. ConfigError: the model knows no item from another.
        """
        given = items["item_id"] if hasattr(items, "columns") else items
        places = checked_items(self._items, given, "items")
        found = similar_frame(self.engine, self._items, places, checked_count(k, "k"), granularity)
        return like(found, items)

    def score(self, pairs: Any, *, granularity: int | None = None, at: Any = None) -> Any:
        """Scores of pairs of a known user and an item, as lists have them.

        Args:
            pairs: a frame with the columns user_id and item_id, or a list of (user, item).
            granularity: as of `recommend`.
            at: likewise.

        Returns:
            The frame with a column score, which is null where user or item is unknown.

        Raises:
            DataError: the pairs are none.
        """
        frame = _pair_frame(pairs)
        users = id_series(frame["user_id"], "users of the pairs")
        items = id_series(frame["item_id"], "items of the pairs")
        rows, places = self._users.find(users), self._items.find(items)
        known = (rows >= 0) & (places >= 0)
        scores = np.full(len(frame), np.nan, np.float32)
        if known.any():
            distinct, owners = np.unique(rows[known], return_inverse=True)
            histories = self.engine.own_histories(distinct)
            if self.engine.reads_time == "request":
                histories = asked_now(histories, seconds_of(at))
            scores[known] = self.engine.pair_scores(histories, owners, places[known], granularity)
        lost = [ids.filter(pl.Series(found < 0)) for ids, found in ((users, rows), (items, places))]
        _tell(unknown_frame(*lost), "have no score")
        column = pl.Series("score", scores, pl.Float32, nan_to_null=False).to_frame()
        column = column.select(pl.when(pl.Series(known)).then(pl.col("score")).alias("score"))
        return like(frame.drop("score", strict=False).hstack(column), pairs)

    def item_vectors(self, granularity: int | None = None) -> tuple[pl.Series, Float32]:
        """Ids `[N]` and vectors `[N, granularity]`: the dot product with a user's is the score (the
        cosine, where the model scores by cosines: both are of length 1).
        """
        return self.items, self.engine.item_vectors(granularity)

    def user_vectors(
        self,
        users: Any = None,
        *,
        histories: Any = None,
        granularity: int | None = None,
        order: Order | None = None,
        at: Any = None,
    ) -> tuple[pl.Series, Float32]:
        """Ids `[B]` and vectors `[B, granularity]`, of those with a history; `at`: as of
        `recommend`. Of a model of K interests `[B, K, granularity]`: user b has the K rows of
        `vectors[b]`, and a score is the best of their K products.
        """
        asked = self.asked(users, histories, order=order)
        tell_unknown(asked)
        plan = self.plan(k=1).at(at)
        plan.check_times(asked)
        groups = plan.groups(asked) or [(np.empty(0, np.int64), histories is None)]
        parts = [
            self.engine.user_vectors(
                plan.histories(asked.rows(rows), own=own), own=own, size=granularity
            )
            for rows, own in groups
        ]
        found = np.concatenate([rows for rows, _ in groups])
        ascending = np.argsort(found)
        ids = asked.ids.gather(pl.Series(found[ascending]))
        return ids, np.concatenate(parts)[ascending]

    def update(
        self,
        data: Any,
        overrides: Sequence[str] = (),
        *,
        out: str | Path | None = None,
        compatible: bool = False,
        **columns: Any,
    ) -> Recommender:
        """Goes on with new rows, users and items; this recommender stays as it is.

        Args:
            data: a frame of new rows alone, which are put behind those that it was trained on; or
                a data set with the old and the new rows, made with `like=` the old one.
            overrides: `key=value` changes: `update.replay=0.3`, `trainer.epochs=5`.
            out: a run folder to be kept; None: what is trained goes with the object.
            compatible: vectors of items that are trained stand still, so that old and new vectors
                can be used together.
            columns: of a frame, as of `Dataset.from_frame`: user, item, time (by default user_id,
                item_id and timestamp), weight, items, ...

        Raises:
            ConfigError: it is no trained run (fit a baseline again: that is quick), or a table of
                the model cannot grow.
            DataError, ProtocolError, RunError: see their messages.
        """
        if self._go_on is None:
            raise ConfigError(
                f"{self.name} is not a trained run, so it cannot go on; fit a baseline again on "
                "all rows, and update the run that a bundle was exported from"
            )
        return self._go_on(data, overrides, out=out, compatible=compatible, **columns)

    def save(self, out: str | Path) -> Path:
        """Keeps what was fitted in a folder that `recsys.load` opens; data of a frame goes along.

        Raises:
            RunError: something stands there.
            ConfigError: it is a bundle, which stands in a folder already.
        """
        if self._keep is None:
            raise ConfigError(f"{self.name} stands in a folder already; copy that")
        return self._keep(Path(out))


def tell_unknown(asked: Asked) -> None:
    """Says on stderr what was not known, and where it is named."""
    _tell(asked.unknown, "are left out")


def _tell(unknown: pl.DataFrame, what: str) -> None:
    for (kind,), ids in unknown.group_by("kind", maintain_order=True):
        shown = ", ".join(repr(name) for name in ids["id"].head(3))
        console.print(
            f"{len(ids):,} {kind}{'s' * (len(ids) > 1)} unknown ({shown}"
            f"{', ...' * (len(ids) > 3)}; {ids['rows'].sum():,} rows): {what}",
            style="yellow", markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip


def _pair_frame(pairs: Any) -> pl.DataFrame:
    if isinstance(pairs, list | tuple):
        if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
            raise DataError("pairs are a frame of user_id and item_id, or a list of (user, item)")
        columns = {"user_id": [a for a, _ in pairs], "item_id": [b for _, b in pairs]}
        pairs = pl.DataFrame({name: id_series(ids, name) for name, ids in columns.items()})
    frame = as_frame(pairs, "the pairs")
    for column in ("user_id", "item_id"):
        if column not in frame.columns:
            raise DataError(f"the pairs have no column {column}; found {frame.columns}")
    return frame
