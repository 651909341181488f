"""Old and new vectors together: what the lists are worth when one side has not been exchanged yet.

An index is built anew in hours and users are read anew in seconds, or the other way round, so for a
while old item vectors meet new user vectors. Four pairs are ranked for the same users: old and new
users x old and new items.

Items that the old index does not hold cannot be listed from it. So figures are taken twice: over
`all` items, where a target that the index lacks is a miss, and over the `shared` ones, where both
indices are cut to the items of the old one and only targets among them count. The first is what
users get, the second what the vectors are worth together.

Shape legend: U users measured, M targets of them all, N items, K length of the lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recsys.arrays import Float64, Int64
from recsys.data.dataset import Dataset
from recsys.data.histories import Histories
from recsys.errors import ConfigError, DataError
from recsys.evaluation.held_out import HeldOut
from recsys.evaluation.metrics import MISS, user_values
from recsys.evaluation.ranking.allowed_items import histories_of_some
from recsys.evaluation.recommend import Recommendations
from recsys.granularity import Granularities
from recsys.model_protocols import RepeatModel
from recsys.models import Model
from recsys.progress import progress
from recsys.retrieval.interests import shape_of_users

K = 10
_AT_ONCE = 1024
Side = Literal["old", "new"]
PAIRS: tuple[tuple[Side, Side], ...] = (
    ("new", "new"), ("old", "new"), ("new", "old"), ("old", "old")
)  # fmt: skip
"""Users x items."""
SCHEMA = {
    "granularity": pl.Int64,
    "users": pl.String,
    "items": pl.String,
    "catalogue": pl.String,
    "ndcg@10": pl.Float64,
    "kept": pl.Float64,
    "same": pl.Float64,
}
"""kept: the share of what new x new has. same: of the first ten, how many the lists of old x old
hold too."""


@dataclass(frozen=True)
class Known:
    """What the old model knows, by index: the first so many."""

    items: int
    users: int


@dataclass(frozen=True)
class Crossing:
    """Figures of all pairs."""

    rows: pl.DataFrame
    """See `SCHEMA`; ndcg and kept are null where nothing is held out."""
    num_users: int
    left_out: int
    """Users of whom the old model knows nothing."""
    missing: int
    """Targets that the old index lacks ..."""
    num_targets: int
    """... of so many."""


@dataclass(frozen=True)
class Vectors:
    """A VectorModel of vectors that are there already; users by their index."""

    granularities: Granularities
    items: Tensor
    users: Tensor
    place: Int64
    repeats: RepeatModel

    @property
    def num_interests(self) -> int:
        """Vectors of each user."""
        return self.users.shape[1] if self.users.dim() == 3 else 1

    def item_vectors(self) -> Tensor:
        """`[N, D]`."""
        return self.items

    def user_vectors(self, histories: Histories) -> Tensor:
        """`[B, D]`, or `[B, K, D]`."""
        return self.users[torch.from_numpy(self.place[histories.users])]

    def score_of_repeats(self, sizes: tuple[int, ...]) -> Tensor | None:
        """As of the model of the users."""
        return self.repeats.score_of_repeats(sizes)


def cross(
    models: tuple[Model, Model],
    known: Known,
    dataset: Dataset,
    held: HeldOut,
    *,
    filter_seen: bool,
    measured: bool = True,
) -> Crossing:
    """Ranks all four pairs at every granularity.

    Args:
        models: the old and the new one, in evaluation mode.
        known: what the old one knows.
        dataset: the new data.
        held: users, histories and targets.
        filter_seen: recommend nothing of the history.
        measured: whether there are targets.

    Raises:
        ConfigError: the two have other granularities.
        DataError: the old model knows none of the users.
    """
    old, new = models
    if old.granularities.sizes != new.granularities.sizes:
        raise ConfigError(
            f"the old run has the granularities {old.granularities.sizes}, the new one "
            f"{new.granularities.sizes}; prefixes of one are not prefixes of the other"
        )
    total = len(held.users)
    held = held.rows(_known_to(old, known, dataset, held))
    if not len(held.users):
        raise DataError("the old run knows none of the users that are measured")
    everyone = held.histories(dataset, np.arange(len(held.users)))
    place = np.full(dataset.num_users, -1)
    place[held.users] = np.arange(len(held.users))
    users = {"old": _vectors(old, _of_first(everyone, known.items, dataset.num_items)),
             "new": _vectors(new, everyone)}  # fmt: skip
    with torch.inference_mode():
        items = {"old": old.item_vectors().detach(), "new": new.item_vectors().detach()}
    items["old"] = _padded(items["old"], len(items["new"]))
    found: list[dict[str, object]] = []
    with progress() as bar:
        task = bar.add_task("old x new", total=len(new.granularities) * (len(PAIRS) + 2))
        for size in new.granularities.sizes:
            lists: dict[tuple[str, str, str], Int64] = {}
            for side, index in PAIRS:
                model = Vectors(
                    new.granularities, items[index], users[side], place,
                    new if side == "new" else old,
                )  # fmt: skip
                for catalogue in ("all", "shared"):
                    if index == "old" and catalogue == "all":
                        continue  # it holds no others
                    allowed = None if catalogue == "all" else np.arange(known.items)
                    ready = Recommendations(
                        model, dataset.num_items,
                        granularities=Granularities(sizes=(size,)), allowed=allowed,
                    )  # fmt: skip
                    ranked = ready.lists(everyone, K, filter_seen=filter_seen).items
                    lists[side, index, catalogue] = ranked
                    bar.advance(task)
                if index == "old":
                    lists[side, index, "all"] = lists[side, index, "shared"]
            found += _figures(size, lists, held, known, measured=measured)
    targets = held.targets if measured else held.targets[:0]
    return Crossing(
        pl.DataFrame(found, schema=SCHEMA),
        len(held.users),
        total - len(held.users),
        int((targets >= known.items).sum()),
        len(targets),
    )


def _known_to(old: Model, known: Known, dataset: Dataset, held: HeldOut) -> Int64:
    """Places of the users of whom the old model can make a vector."""
    if old.config.pairs:
        return np.flatnonzero(held.users < known.users)
    found = []
    for rows in np.array_split(np.arange(len(held.users)), -(-len(held.users) // _AT_ONCE)):
        histories = _of_first(held.histories(dataset, rows), known.items, dataset.num_items)
        found.append(rows[histories.lengths > 0])
    return np.concatenate(found)


def _of_first(histories: Histories, count: int, num_items: int) -> Histories:
    """Histories without items that the old model does not know."""
    if count == num_items:
        return histories
    return histories_of_some(histories, np.arange(count), num_items)


def _vectors(model: Model, histories: Histories) -> Tensor:
    """`[U, D]`, or `[U, K, D]`; a model that knows users by index is asked by that."""
    order, count = np.argsort(histories.lengths, kind="stable"), model.num_interests
    shape = shape_of_users(len(histories), count, model.granularities.embedding_dim)
    found = torch.empty(shape)
    with torch.inference_mode():
        for rows in np.array_split(order, -(-len(order) // _AT_ONCE)):
            found[torch.from_numpy(rows)] = model.user_vectors(histories.rows(rows)).float().cpu()
    return found


def _padded(vectors: Tensor, count: int) -> Tensor:
    """Zeros for items that the index does not hold; they are never listed."""
    return torch.cat([vectors, vectors.new_zeros(count - len(vectors), vectors.shape[1])])


def _figures(
    size: int,
    lists: dict[tuple[str, str, str], Int64],
    held: HeldOut,
    known: Known,
    *,
    measured: bool,
) -> list[dict[str, object]]:
    """One row for each pair and catalogue."""
    owners = np.repeat(np.arange(len(held.users)), np.diff(held.offsets))
    values: dict[tuple[str, str, str], float | None] = {}
    for key, ranked in lists.items():
        values[key] = None
        chosen = np.ones(len(held.targets), np.bool_)
        if key[2] == "shared":
            chosen = held.targets < known.items
        if measured and chosen.any():
            ranks = _ranks(ranked, owners[chosen], held.targets[chosen].astype(np.int64))
            counts = np.bincount(owners[chosen], minlength=len(held.users))
            offsets = np.concatenate([[0], np.cumsum(counts[counts > 0])])
            values[key] = float(user_values("ndcg", ranks, offsets, (K,)).mean())
    rows: list[dict[str, object]] = []
    for key, ranked in lists.items():
        best, value = values["new", "new", key[2]], values[key]
        same = _same(ranked, lists["old", "old", key[2]]).mean()
        kept = value / best if value is not None and best else None
        told = dict(zip(("users", "items", "catalogue"), key, strict=True))
        rows.append({"granularity": size, **told, "ndcg@10": value, "kept": kept, "same": same})
    return rows


def _ranks(lists: Int64, owners: Int64, targets: Int64) -> Int64:
    """`[M]` from 1; `MISS` where a target is not listed."""
    hits = lists[owners] == targets[:, None]
    return np.where(hits.any(1), hits.argmax(1) + 1, MISS)


def _same(lists: Int64, others: Int64) -> Float64:
    """`[U]` how many items of two lists are the same."""
    both = (lists[:, :, None] == others[:, None, :]) & (lists[:, :, None] >= 0)
    counts: Float64 = both.sum((1, 2)).astype(np.float64)
    return counts


def everyone_of(dataset: Dataset, most: int) -> HeldOut:
    """Users with all they have had, and nothing held out; spread evenly."""
    start, end = dataset.offsets[:-1], dataset.offsets[1:]
    users = np.flatnonzero(end > start)
    none = np.zeros(len(users) + 1, np.int64)
    asked_at = dataset.timestamps_at(end[users] - 1)
    held = HeldOut(users, start[users], end[users], np.empty(0, np.int32), none, asked_at)
    return held.spread(most)
