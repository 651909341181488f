"""What is known before a part: counts of interactions, and columns of items and users.

Shape legend: N items, U users.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse as sp

from recsys.arrays import Float32, Int64
from recsys.baselines.item_knn import ItemKNNConfig, fit_item_knn
from recsys.baselines.sequential_rules import SequentialRulesConfig, fit_sequential_rules
from recsys.data.dataset import Dataset
from recsys.data.features.columns import read_numbers, stripped
from recsys.data.features.loading import ItemFeatures, load_features
from recsys.data.features.user_columns import check_user_columns
from recsys.data.histories import Histories, select
from recsys.data.splitting import Split
from recsys.errors import ConfigError, DataError
from recsys.rankers.features.config import FeaturesConfig
from recsys.rankers.features.events import make_events
from recsys.rankers.features.knowledge import Categories, Knowledge, UserColumn
from recsys.rankers.features.pairs import Pairs, top_pairs
from recsys.retrieval.codecs.base import blocks_of

_SHRINKAGE = 10.0


def knowledge_of(
    dataset: Dataset, ends: Int64, config: FeaturesConfig, *, timed: Int64 | None = None
) -> Knowledge:
    """What is known of the rows up to `ends`.

    Args:
        dataset: users, items and histories.
        ends: `[U]` positions into `Dataset.items` where the known part of each user ends.
        config: the features; what none of them reads is left out.
        timed: `[U]` where the rows end that are counted by time, each up to the moment of a request
            alone; None: `ends`.

    Raises:
        DataError: the data set lacks a feature of items, or a column of users holds what cannot be
            read as it is asked for.
        ConfigError: a feature is of another kind, or the users have no column of that name.
    """
    users, starts = np.arange(dataset.num_users), dataset.offsets[:-1]
    histories = select(dataset, users, starts, ends)
    counted = histories if timed is None else select(dataset, users, starts, timed)
    items, num_items = histories.items.astype(np.int64), dataset.num_items
    times, taken = counted.timestamps, counted.items.astype(np.int64)
    numbers, categories, vectors = _item_columns(dataset, config)
    user_numbers, user_categories = _user_columns(dataset, config)
    return Knowledge(
        counts=np.bincount(items, minlength=num_items),
        events=None if times is None else make_events(taken, times, num_items),
        rules=_rules(histories, num_items, config),
        neighbours=_neighbours(histories, num_items, config),
        item_numbers=numbers,
        item_categories=categories,
        item_vectors=vectors,
        user_numbers=user_numbers,
        user_categories=user_categories,
    )


def training_knowledge(dataset: Dataset, split: Split, config: FeaturesConfig) -> Knowledge:
    """What is known when held-out parts are ranked: the training part, as retrieval knows it.

    A split by time has one clock for all. There interactions are counted until the moment of each
    request, those of held-out parts too, as a server counts them: figures of a part that begins
    weeks after the training part would else be of old counts.

    Raises:
        DataError, ConfigError: as `knowledge_of`.
    """
    timed = split.end if split.rule.name == "global-time" else None
    return knowledge_of(dataset, split.train_end, config, timed=timed)


def _rules(histories: Histories, num_items: int, config: FeaturesConfig) -> Pairs | None:
    chosen = config.rules
    if chosen is None:
        return None
    options = SequentialRulesConfig(reach=chosen.reach, last=chosen.last)
    found = fit_sequential_rules(options, histories, num_items).transitions.tocoo()
    return _top(found, num_items, chosen.kept)


def _neighbours(histories: Histories, num_items: int, config: FeaturesConfig) -> Pairs | None:
    chosen = config.neighbours
    if chosen is None:
        return None
    options = ItemKNNConfig(neighbours=chosen.kept, shrinkage=_SHRINKAGE)
    found = fit_item_knn(options, histories, num_items).weights.tocoo()
    return _top(found, num_items, chosen.kept)


def _top(found: sp.coo_matrix, num_items: int, kept: int) -> Pairs:
    first, second = (places.astype(np.int64) for places in (found.row, found.col))
    return top_pairs(first, second, found.data.astype(np.float32), num_items, kept)


def _item_columns(
    dataset: Dataset, config: FeaturesConfig
) -> tuple[dict[str, Float32], dict[str, Categories], dict[str, np.ndarray]]:
    wanted = (*config.item_numbers, *config.item_categories, *config.item_vectors)
    if not wanted:
        return {}, {}, {}
    found = load_features(dataset.folder, wanted)
    _check_kinds(found, config, dataset.folder)
    numbers = {
        name: np.where(found.numbers[name].present, found.numbers[name].values, np.nan).astype(
            np.float32
        )
        for name in config.item_numbers
    }
    categories = {
        name: Categories(
            np.array(found.categories[name].values, np.int32),
            np.array(found.categories[name].offsets, np.int64),
            len(found.categories[name].names),
        )
        for name in config.item_categories
    }
    vectors = {name: _unit(np.asarray(found.vectors[name].vectors)) for name in config.item_vectors}
    return numbers, categories, vectors


def _check_kinds(found: ItemFeatures, config: FeaturesConfig, folder: Path) -> None:
    wanted: tuple[tuple[str, tuple[str, ...], Collection[str]], ...] = (
        ("item_numbers", config.item_numbers, found.numbers),
        ("item_categories", config.item_categories, found.categories),
        ("item_vectors", config.item_vectors, found.vectors),
    )
    for option, names, known in wanted:
        if strange := [name for name in names if name not in known]:
            kinds: dict[str, Collection[str]] = {
                "numbers": found.numbers,
                "categories": found.categories,
            }
            kind = next((k for k, of in kinds.items() if strange[0] in of), "vectors")
            asked = option.removeprefix("item_")
            other = f", or make it {asked}: `recsys columns {folder} NAME --as {asked}`"
            raise ConfigError(
                f"features.{option} names {strange[0]}, which holds {kind}; name it in "
                f"features.item_{kind}{other if {kind, asked} <= set(kinds) else ''}"
            )


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1 in half precision, block by block; those of zeros stay."""
    unit = np.empty(vectors.shape, np.float16)
    for rows in blocks_of(len(vectors)):
        block = vectors[rows].astype(np.float32)
        unit[rows] = block / np.linalg.norm(block, axis=1, keepdims=True).clip(1e-6)
    return unit


def _user_columns(
    dataset: Dataset, config: FeaturesConfig
) -> tuple[dict[str, Float32], dict[str, UserColumn]]:
    wanted = (*config.user_numbers, *config.user_categories)
    if not wanted:
        return {}, {}
    frame = dataset.user_frame()
    check_user_columns(frame, wanted, str(dataset.folder))
    whose = f"of the users of {dataset.folder}"
    numbers = {
        name: read_numbers(
            frame[name],
            f"features.user_numbers: column {name} {whose}",
            "name it in features.user_categories",
        )
        for name in config.user_numbers
    }
    categories = {
        name: _categories(frame[name], f"features.user_categories: column {name} {whose}")
        for name in config.user_categories
    }
    return numbers, categories


def _categories(values: pl.Series, what: str) -> UserColumn:
    """From 1 by the order of their texts; 0: missing."""
    if values.dtype.is_nested():
        raise DataError(f"{what} holds {values.dtype}; one category of each user is expected")
    names = stripped(values.cast(pl.String))
    known = names.drop_nulls().unique().sort()
    codes = names.cast(pl.Enum(known)).to_physical().cast(pl.Int32)
    found = (codes + 1).fill_null(0).to_numpy().astype(np.int32)
    return UserColumn(found, len(known) + 1)
