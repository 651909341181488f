"""Columns of items and users, and the context of the request.

Shape legend: Q requests, K candidates, N items, L last items, C categories.
"""

from __future__ import annotations

import numpy as np

from recsys.arrays import Float32, Int64
from recsys.data.histories import jagged_positions
from recsys.rankers.examples import Field
from recsys.rankers.features.columns import Block, Columns, mean_of
from recsys.rankers.features.knowledge import Categories


def add_items(block: Block, columns: Columns) -> None:
    """`year`, `year_step`; `genres_1`, ..., `genres_shared`; `text_like_recent`, `..._last`."""
    known, recent = block.knowledge, block.recent(block.config.recent)
    for name, numbers in known.item_numbers.items():
        own = numbers[block.candidates]
        columns.add(name, own)
        columns.add(f"{name}_step", own - mean_of(numbers, recent)[:, None])
    for name, categories in known.item_categories.items():
        _add_categories(name, categories, block, columns)
        columns.add(f"{name}_shared", _shared(categories, recent, block.candidates))
    for name, vectors in known.item_vectors.items():
        whole, last = _likeness(vectors, recent, block.candidates)
        columns.add(f"{name}_like_recent", whole)
        columns.add(f"{name}_like_last", last)


def add_users(block: Block, columns: Columns) -> None:
    """Columns of the users table; missing for unknown users."""
    users = block.requests.histories.users
    for name, numbers in block.knowledge.user_numbers.items():
        columns.add(name, np.where(users >= 0, numbers[users.clip(0)], np.nan))
    for name, column in block.knowledge.user_categories.items():
        found = np.where(users >= 0, column.values[users.clip(0)], 0)
        columns.add_category(Field(name, column.size), found)


def add_context(block: Block, columns: Columns) -> None:
    """`hour` (1 to 24) and `weekday` (1: Monday), UTC; 0: the moment is not known."""
    moments = block.requests.moments
    for name in block.config.context:
        size, values = (25 if name == "hour" else 8), np.zeros(len(block.requests), np.int64)
        if moments is not None:
            hours = moments // 3600
            # 1 January 1970 was a Thursday.
            values = hours % 24 + 1 if name == "hour" else (hours // 24 + 3) % 7 + 1
        columns.add_category(Field(name, size), values)


def _add_categories(name: str, categories: Categories, block: Block, columns: Columns) -> None:
    """The categories of each candidate, each in a column: `kind`, if no item has several, else
    `genres_1`, `genres_2`, ..., one feature of several values (`Field.group`).
    """
    width = min(max(1, categories.most), block.config.most_categories)
    codes, several = categories.codes(block.candidates, width), width > 1
    for place in range(width):
        field = Field(
            f"{name}_{place + 1}" if several else name,
            categories.size + 1,
            name if several else "",
        )
        columns.add_category(field, codes[..., place])


def _shared(categories: Categories, recent: Int64, candidates: Int64) -> Float32:
    """`[Q, K]` mean over the item's categories of the share of the last items that have it."""
    num_requests, size = len(recent), categories.size
    rows, places = np.nonzero(recent >= 0)
    values, owners = _of_items(categories, recent[rows, places])
    taken = np.bincount(rows[owners] * size + values, minlength=num_requests * size)
    lengths = np.bincount(rows, minlength=num_requests)
    shares = taken.reshape(num_requests, size) / np.maximum(lengths, 1)[:, None]
    flat = candidates.ravel()
    values, owners = _of_items(categories, flat)
    of_request = np.repeat(np.arange(num_requests), candidates.shape[1])
    sums = np.bincount(owners, shares[of_request[owners], values], len(flat))
    counts = np.bincount(owners, minlength=len(flat))
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    means = means.reshape(candidates.shape)
    means[lengths == 0] = np.nan
    return means.astype(np.float32)


def _of_items(categories: Categories, items: Int64) -> tuple[Int64, Int64]:
    """Categories of items, and the place in `items` that each belongs to."""
    lo, hi = categories.offsets[items], categories.offsets[items + 1]
    positions, _ = jagged_positions(lo, hi)
    return categories.values[positions].astype(np.int64), np.repeat(np.arange(len(items)), hi - lo)


def _likeness(vectors: np.ndarray, recent: Int64, candidates: Int64) -> tuple[Float32, Float32]:
    """`[Q, K]` cosines with the mean of the last items, and with the last; NaN: one is missing."""
    distinct, places = np.unique(candidates, return_inverse=True)
    own = vectors[distinct].astype(np.float32)[places.reshape(candidates.shape)]
    absent = ~own.any(axis=2)
    if not recent.shape[1]:
        nothing = np.full(candidates.shape, np.nan, np.float32)
        return nothing, nothing
    had = vectors[recent.clip(0)].astype(np.float32) * (recent >= 0)[:, :, None]
    found = []
    for user in (had.sum(axis=1), had[:, 0]):
        lengths = np.linalg.norm(user, axis=1)
        cosines = np.einsum("qd,qkd->qk", user, own) / np.maximum(lengths, 1e-12)[:, None]
        cosines[absent | (lengths == 0)[:, None]] = np.nan
        found.append(cosines)
    return found[0], found[1]
