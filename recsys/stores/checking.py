"""The check of a store: its lists for users of the bundle, beside the funnel's, score by score.

Both search the same two stages. The funnel's lists are the reference.

A user of several vectors is asked for by as many queries, whose lists are merged.

Shape legend: B users, I interests of a user, K length of the lists, D coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from recsys.arrays import Float32, Float64, Int64
from recsys.data.histories import jagged_positions
from recsys.errors import DataError, StoreError
from recsys.progress import progress
from recsys.retrieval.bundle.loading import Bundle
from recsys.retrieval.codecs.base import blocks_of
from recsys.retrieval.filters import Filters, make_filters
from recsys.retrieval.funnel import Candidates, Funnel, Stage
from recsys.stores.interests import ask, asked_vectors, scores_for, searched_apart
from recsys.stores.plan import Plan
from recsys.stores.store import Answering, Hits, Version

TOLERANCE = 1e-5
"""How far two scores may be apart, as a share of the user vector's length times that of the longest
item vector. Sums of 256 float32 products in another order differ by about a tenth of it."""

_USERS = 256


@dataclass(frozen=True)
class Checked:
    """What a check found."""

    num_users: int
    k: int
    index: str
    identical: int
    """Lists with the same items in the same order."""
    agreeing: int
    """Lists whose scores agree with the funnel's, place by place. They are identical but for items
    whose scores cannot be told apart."""
    num_scores: int
    agreeing_scores: int
    """Scores that agree with the funnel's at the same place."""
    wrong_scores: int
    """Scores that differ from the dot product of the user's and this item's vectors."""
    found: float
    """Share of the funnel's items that the store's lists hold."""
    largest: float
    """The largest difference of a score from that dot product, in the unit of `TOLERANCE`."""

    @property
    def holds(self) -> bool:
        """Every score is right; and without a graph, which may miss items, every list agrees."""
        lists = self.agreeing == self.num_users or self.index != "exact"
        return lists and not self.wrong_scores

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"lists of {self.k} for {self.num_users:,} users: {self.identical:,} identical to the "
            f"funnel's, {self.agreeing:,} with the same scores at every place",
            f"scores: {self.agreeing_scores:,} of {self.num_scores:,} agree with the funnel's at "
            f"the same place; {self.wrong_scores:,} are not the dot product of their vectors",
            f"the largest difference is {self.largest:.1e} of the vectors' lengths, "
            f"{TOLERANCE:.0e} is allowed; the store finds {self.found:.2%} of the funnel's items",
        ]


class _Block(NamedTuple):
    users: Float32
    told: list[Hits]
    wanted: Candidates


def check_store(
    store: Answering, version: Version, bundle: Bundle, num_users: int, k: int = 10
) -> Checked:
    """Asks a store for users of the bundle, and compares.

    Users are drawn from those with a history (seed 0). They get nothing they have had, unless the
    protocol of the bundle's run leaves it in.

    Raises:
        DataError: the bundle has no user vectors, no histories, or no user with a history.
        StoreError: the store names an item that the bundle does not have.
    """
    plan = version.plan
    if k > plan.keep:
        raise DataError(f"lists of {k} cannot come of {plan.keep} candidates; keep more of them")
    funnel = Funnel(bundle, (plan.candidates, Stage(plan.full, k)))
    names = plan.items["item_id"].to_list()
    index = {name: place for place, name in enumerate(names)}
    blocks = []
    chosen = _draw(bundle, num_users)
    with progress() as bar:
        task = bar.add_task(f"asking {version.name}", total=len(chosen))
        for part in blocks_of(len(chosen), _USERS):
            rows = chosen[part]
            users = bundle.user_vectors(rows, plan.full)
            filters = _filters(bundle, rows)
            wanted = searched_apart(funnel, users, filters, plan.metric)
            told = []
            for row, user in enumerate(users):
                seen = filters.seen[filters.offsets[row] : filters.offsets[row + 1]]
                had = [names[item] for item in seen]
                hits = ask(store, version, user, had, k)
                if filters.repeats is not None and len(seen):
                    again = scores_for(store, version, user, had)
                    gain = _gain(user, plan, filters)
                    hits = _best([*hits, *((item, score + gain) for item, score in again)], k)
                told.append(hits)
                bar.advance(task)
            blocks.append(_compared(bundle, plan, index, filters, _Block(users, told, wanted)))
    sums = np.sum([block[:5] for block in blocks], axis=0)
    identical, agreeing, agreeing_scores, wrong, common = (int(each) for each in sums)
    total = int(sum(block[5] for block in blocks))
    return Checked(
        num_users=len(chosen),
        k=k,
        index=plan.index,
        identical=identical,
        agreeing=agreeing,
        num_scores=total,
        agreeing_scores=agreeing_scores,
        wrong_scores=wrong,
        found=common / max(1, total),
        largest=max(block[6] for block in blocks),
    )


def _draw(bundle: Bundle, num_users: int) -> Int64:
    """`[<= num_users]` users with a history, ascending."""
    possible = np.flatnonzero(np.diff(bundle.seen[1]) > 0)
    if not len(possible):
        raise DataError(f"no user of {bundle.folder} has a history; there is nobody to ask for")
    drawn = np.random.default_rng(0).permutation(possible)[:num_users]
    return np.sort(drawn).astype(np.int64)


def _filters(bundle: Bundle, users: Int64) -> Filters:
    items, offsets = bundle.seen
    positions, edges = jagged_positions(offsets[users], offsets[users + 1])
    manifest = bundle.manifest
    hidden = bool(manifest.protocol.get("filter_seen", True))
    repeats = None if hidden else manifest.repeats
    seen = (items[positions], edges)
    return make_filters(len(users), bundle.num_items, seen=seen, repeats=repeats)


def _gain(user: Float32, plan: Plan, filters: Filters) -> float:
    """By how much the model raises the score of what a user has had."""
    gain = filters.added(plan.full)
    if plan.metric == "cosine" and user.ndim == 1:
        gain *= float(np.linalg.norm(user[: plan.full]))
    return gain


def _best(hits: Hits, k: int) -> Hits:
    return sorted(hits, key=lambda hit: -hit[1])[:k]


def _compared(
    bundle: Bundle, plan: Plan, index: dict[object, int], filters: Filters, block: _Block
) -> tuple[float, ...]:
    """Identical lists, agreeing lists, agreeing scores, wrong scores, items in both; how many
    scores; the largest difference.
    """
    wanted = block.wanted
    items, scores = np.full(wanted.items.shape, -1), np.full(wanted.items.shape, -np.inf)
    for row, hits in enumerate(block.told):
        if strange := [item for item, _ in hits if item not in index]:
            raise StoreError(f"the store names {strange[0]!r}, which is no item of the bundle")
        items[row, : len(hits)] = [index[item] for item, _ in hits]
        scores[row, : len(hits)] = [score for _, score in hits]
    there, due = items >= 0, wanted.items >= 0
    asked = np.stack([asked_vectors(user, plan.full, plan.metric) for user in block.users])
    unit = np.linalg.norm(asked, axis=2).max(axis=1)[:, None] * plan.lengths[1]
    unit = np.broadcast_to(np.maximum(unit, 1e-30), items.shape)
    true = _true_scores(bundle, plan, asked, items, filters)
    off = np.where(there, np.abs(np.where(there, scores, 0) - true) / unit, 0)
    with np.errstate(invalid="ignore"):
        near = np.abs(scores - wanted.scores) <= TOLERANCE * unit
    same = (there & due & near) | (~there & ~due)
    wrong = off > TOLERANCE
    agreeing = (same & ~wrong).all(axis=1)
    pairs = zip(items, wanted.items, strict=True)
    both = sum(len(np.intersect1d(ours[ours >= 0], theirs)) for ours, theirs in pairs)
    return (
        int((items == wanted.items).all(axis=1).sum()),
        int(agreeing.sum()),
        int((same & due).sum()),
        int(wrong.sum()),
        both,
        int(due.sum()),
        float(off.max(initial=0)),
    )


def _true_scores(
    bundle: Bundle, plan: Plan, users: Float32, items: Int64, filters: Filters
) -> Float64:
    """`[B, K]` scores of what the store found, by the bundle's vectors in float64.

    Args:
        bundle: of the items.
        plan: of the push.
        users: `[B, I, D]` as the store was asked.
        items: `[B, K]`.
        filters: of the users.
    """
    flat = items.clip(0).reshape(-1)
    vectors = bundle.items.decode(flat, 0, plan.full).astype(np.float64)
    norms = bundle.norms(plan.full)
    if norms is not None:
        vectors /= np.asarray(norms[flat], np.float64)[:, None]
    vectors = vectors.reshape(*items.shape, plan.full)
    scores: Float64 = np.einsum("bid,bkd->bik", users.astype(np.float64), vectors).max(axis=1)
    if filters.repeats is not None:
        one = users[:, 0] if users.shape[1] == 1 else users
        gain = [_gain(user, plan, filters) for user in one]
        for row, listed in enumerate(items):
            had = filters.seen[filters.offsets[row] : filters.offsets[row + 1]]
            scores[row] += gain[row] * np.isin(listed, had)
    return scores
