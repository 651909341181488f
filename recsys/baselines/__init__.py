"""The simple models that must be beaten: one contract, one dict.

`fit(config, histories, num_items)` takes the training rows of all users (some may be empty) and
gives a model the evaluator can rank: with `scores(histories) -> [B, N]`, or with nested vectors.
`content_knn` alone is made of the items' features, and of no histories.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from recsys.baselines.als import Als, AlsConfig, Bpr, BprConfig, fit_als, fit_bpr
from recsys.baselines.content_knn import ContentKNN, ContentKNNConfig, fit_content_knn
from recsys.baselines.ease import Ease, EaseConfig, ease_obstacle, fit_ease
from recsys.baselines.item_knn import (
    ItemKNN,
    ItemKNNConfig,
    fit_item_knn,
    item_knn_obstacle,
    pairs_of,
)
from recsys.baselines.popularity import (
    Popularity,
    PopularityConfig,
    RecentPopularityConfig,
    fit_popularity,
    fit_recent_popularity,
)
from recsys.config import StrictModel
from recsys.data.dataset import Int64
from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.errors import DataError

Baseline = Popularity | ItemKNN | Ease | Als | Bpr | ContentKNN

BaselineConfig = Annotated[
    PopularityConfig
    | RecentPopularityConfig
    | ItemKNNConfig
    | EaseConfig
    | AlsConfig
    | BprConfig
    | ContentKNNConfig,
    Field(discriminator="name"),
]


_DEAR_ITEMS, _DEAR_PAIRS = 15_000, 1_000_000_000
Choices = dict[str, tuple[float, ...]]
"""Setting -> values worth a try, ascending."""


class Entry(NamedTuple):
    """A baseline's config class, the function that fits it, and what to choose on validation."""

    config: type[StrictModel]
    fit: Callable[[Any, Histories, int], Baseline]
    choices: Choices
    """Those of settings that decide nothing on the histories at hand are passed over."""


BASELINES: dict[str, Entry] = {
    "popularity": Entry(PopularityConfig, fit_popularity, {}),
    "recent_popularity": Entry(
        RecentPopularityConfig,
        fit_recent_popularity,
        {"share": (0.01, 0.02, 0.05, 0.1, 0.2, 0.5), "last": (1, 2, 3, 5, 10)},
    ),
    "item_knn": Entry(
        ItemKNNConfig,
        fit_item_knn,
        {"neighbours": (20, 50, 100, 200, 500), "shrinkage": (0, 2, 5, 10, 20, 50, 100)},
    ),
    "ease": Entry(EaseConfig, fit_ease, {"l2": (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)}),
    "als": Entry(AlsConfig, fit_als, {}),
    "bpr": Entry(BprConfig, fit_bpr, {}),
}
NAMES = (*BASELINES, "content_knn")
"""All that can be asked for by name."""


def fit_baseline(
    config: BaselineConfig,
    histories: Histories,
    num_items: int,
    features: ItemFeatures | None = None,
) -> Baseline:
    """Fits the baseline that `config` names.

    Raises:
        ConfigError: it cannot be fitted on so many items.
        DataError: content_knn without features.
    """
    if isinstance(config, ContentKNNConfig):
        if features is None:
            raise DataError("content_knn is made of item features, and none were given")
        return fit_content_knn(config, features)
    return BASELINES[config.name].fit(config, histories, num_items)


def choices_of(config: BaselineConfig, *, timed: bool) -> Choices:
    """What may be chosen for a baseline, on histories with times or without."""
    choices = BASELINES[config.name].choices if config.name in BASELINES else {}
    unread = {"recent_popularity": {"last" if timed else "share"}}.get(config.name, set())
    return {key: values for key, values in choices.items() if key not in unread}


def label_of(config: BaselineConfig, *, timed: bool) -> str:
    """Its name in tables, with the settings that are worth choosing: `ease l2=50`."""
    settings = [f"{key}={getattr(config, key):g}" for key in choices_of(config, timed=timed)]
    return " ".join([config.name, *settings])


def is_dear(config: BaselineConfig, num_items: int, lengths: Int64) -> bool:
    """Whether to fit it several times, to choose its settings, takes minutes.

    Args:
        config: of the baseline.
        num_items: N.
        lengths: `[U]` of the histories to be fitted on.
    """
    if config.name == "ease":
        return num_items > _DEAR_ITEMS
    return config.name == "item_knn" and pairs_of(lengths) > _DEAR_PAIRS


@dataclass(frozen=True)
class DefaultBaselines:
    """What is always printed beside a neural model."""

    configs: tuple[BaselineConfig, ...]
    left_out: dict[str, str]
    """Name -> why it is not among them; to be printed."""


def default_baselines(num_items: int, lengths: Int64 | None = None) -> DefaultBaselines:
    """Popularity, recent popularity, item-kNN and EASE, but for those that would take too much.

    Args:
        num_items: N.
        lengths: `[U]` of the histories to be fitted on; None: they are short enough.
    """
    obstacles = {
        "item_knn": None if lengths is None else item_knn_obstacle(lengths),
        "ease": ease_obstacle(EaseConfig(), num_items),
    }
    configs = (PopularityConfig(), RecentPopularityConfig(), ItemKNNConfig(), EaseConfig())
    return DefaultBaselines(
        tuple(config for config in configs if obstacles.get(config.name) is None),
        {name: reason for name, reason in obstacles.items() if reason is not None},
    )
