"""`recsys evaluate-lists`: anybody's recommendations under our protocols, cards and tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from recsys.arrays import Int64
from recsys.data.dataset import Dataset, load_dataset
from recsys.data.histories import item_counts
from recsys.data.parsing.files import read_table
from recsys.data.parsing.frames import FrameLike, as_frame, check_present
from recsys.data.parsing.ids import read_ids
from recsys.data.splitting import Split
from recsys.errors import ConfigError, DataError, ProtocolError
from recsys.evaluation.evaluate import EvaluationOptions, Ranking, tabulate
from recsys.evaluation.given_lists import GivenLists, given_lists
from recsys.evaluation.held_out import HeldOut, describe_untrained, held_out
from recsys.evaluation.metric_table import MetricTable, join_tables
from recsys.evaluation.metrics import checked_cutoffs, checked_metrics
from recsys.evaluation.protocol import FitOn, Part, Protocol, ProtocolCard, find_protocol, make_card
from recsys.evaluation.seen_targets import describe_seen
from recsys.progress import console
from recsys.recipes.evaluating.baselines import split_of
from recsys.recipes.evaluating.evaluate import run_table


def evaluate_lists(
    lists: FrameLike | str | Path,
    data: Dataset | str | Path,
    *,
    protocol: str = "s3rec",
    part: Part = "test",
    fit_on: FitOn = "train",
    ks: Sequence[int] = (10,),
    metrics: Sequence[str] = (),
    name: str | None = None,
    beside: Sequence[str | Path] = (),
) -> MetricTable:
    """Scores recommendations that were made elsewhere.

    What a user had before the held-out part is taken out of its list where the protocol filters
    seen items; whoever has no list has found nothing. Equal scores count against the target, as
    everywhere here.

    Args:
        lists: user_id, item_id, and rank (from 1) or score (higher is better): a frame, or a
            .parquet, .csv or .jsonl file.
        data: a data set, or its folder.
        protocol: a preset.
        part: `valid` or `test`.
        fit_on: what their model was fitted on; goes on the card.
        ks: cutoffs, none beyond the longest list.
        metrics: more than the usual ones, by name: precision, say.
        name: in the table; None: that of the file.
        beside: evaluated run folders whose tables are joined.

    Raises:
        DataError: the lists hold no such columns or values, or nobody who is measured.
        ConfigError: a metric or a cutoff cannot be.
        ProtocolError: there is no such protocol, or the cards of `beside` differ.
    """
    more = checked_metrics(metrics)
    if fit_on == "all" or (part, fit_on) == ("valid", "train+valid"):
        raise ProtocolError(f"a model fitted on {fit_on} has seen the targets of the {part} part")
    cutoffs, preset = checked_cutoffs(ks), find_protocol(protocol)
    dataset = data if isinstance(data, Dataset) else load_dataset(data)
    split = split_of(dataset, protocol)
    held = held_out(dataset, split, part)
    given = _read(lists, held, dataset, filter_seen=preset.filter_seen)
    _check_length(given, cutoffs)
    popularity = item_counts(dataset, split.start, split.fit_end(fit_on))
    ranks = given.target_ranks(held, dataset.num_items, cutoffs[-1])
    ranking = Ranking(held, (None,), cutoffs, ranks[None], given.counts(cutoffs, dataset.num_items))
    label = name or (Path(lists).stem if isinstance(lists, str | Path) else "lists")
    card = _card(dataset, preset, part, fit_on, split, held, popularity)
    table = tabulate(ranking, card, popularity, EvaluationOptions(run=label, metrics=more))
    return join_tables([table, *(run_table(run, part, protocol) for run in beside)])


def _card(
    dataset: Dataset,
    preset: Protocol,
    part: Part,
    fit_on: FitOn,
    split: Split,
    held: HeldOut,
    popularity: Int64,
) -> ProtocolCard:
    """As of any evaluation."""
    trained = split.fit_end(fit_on) > split.start
    told = {
        "filtered_targets": describe_seen(dataset, held, preset),
        "untrained": describe_untrained(held, trained, popularity),
    }
    return make_card(dataset.manifest, preset, part, fit_on, split.rule).model_copy(update=told)


def _read(
    lists: FrameLike | str | Path, held: HeldOut, dataset: Dataset, *, filter_seen: bool
) -> GivenLists:
    """The lists of those who are measured; tells what of the rest is left out."""
    table = read_table(lists) if isinstance(lists, str | Path) else lists
    frame = as_frame(table, "the lists")
    users, items = (
        _indices(frame, column, ids)
        for column, ids in (
            ("user_id", dataset.user_frame()["user_id"]),
            ("item_id", dataset.item_frame()["item_id"]),
        )
    )
    scores = _scores(frame)
    known = (users >= 0) & (items >= 0)
    pairs = users[known] * dataset.num_items + items[known]
    if len(np.unique(pairs)) != len(pairs):
        raise DataError("an item stands twice in a user's list; keep the better place of the two")
    kept = scores.filter(pl.Series(known))
    given = given_lists(users[known], items[known], kept, held, dataset, seen=filter_seen)
    having = len(np.unique(given.rows))
    if not having:
        raise DataError(
            f"none of the {len(held.users):,} users that are measured has a list; are these lists "
            f"for {dataset.manifest.name}? Its users are such as "
            f"{', '.join(repr(each) for each in dataset.user_frame()['user_id'].head(3))}"
        )
    remarks = {
        "rows of unknown users or items are left out": int((~known).sum()),
        "rows are taken out, as their user had the item before": given.num_seen,
        f"of {len(held.users):,} users have no list and find nothing": len(held.users) - having,
    }
    for text, count in remarks.items():
        if count:
            console.print(f"{count:,} {text}", style="yellow", highlight=False, soft_wrap=True)
    return given


def _indices(frame: pl.DataFrame, column: str, ids: pl.Series) -> Int64:
    """`[R]` indices of a column of ids; -1 where one is unknown."""
    if column not in frame.columns:
        raise DataError(f"the lists have no column {column}; found {frame.columns}")
    text = read_ids(frame[column], f"column {column}").text
    check_present(text, frame[column])
    known = pl.DataFrame({"id": ids.cast(pl.String)}).with_row_index("index")
    asked = pl.DataFrame({"id": text}).join(known, on="id", how="left", maintain_order="left")
    return asked["index"].cast(pl.Int64).fill_null(-1).to_numpy()


def _scores(frame: pl.DataFrame) -> pl.Series:
    """`[R]` higher is better: of ranks the negatives."""
    column = next((name for name in ("rank", "score") if name in frame.columns), None)
    if column is None:
        raise DataError(f"the lists have neither a column rank nor score; found {frame.columns}")
    try:
        numbers = frame[column].cast(pl.Float64, strict=False)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"column {column} of the lists holds no numbers ({error})") from error
    check_present(numbers.fill_nan(None), frame[column])
    if column == "score":
        return numbers
    if low := numbers.filter(numbers < 1).to_list():
        raise DataError(f"column rank holds {low[0]:g}; the first place is 1")
    return -numbers


def _check_length(given: GivenLists, cutoffs: tuple[int, ...]) -> None:
    if cutoffs[-1] > given.longest:
        raise ConfigError(
            f"the longest list holds {given.longest} items, and a cutoff is {cutoffs[-1]}; choose "
            f"cutoffs up to {given.longest}, or give longer lists"
        )
