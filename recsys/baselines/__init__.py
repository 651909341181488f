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
from recsys.baselines.item_knn import ItemKNN, ItemKNNConfig, fit_item_knn
from recsys.baselines.popularity import (
    Popularity,
    PopularityConfig,
    RecentPopularityConfig,
    fit_popularity,
    fit_recent_popularity,
)
from recsys.config import StrictModel
from recsys.data.features import ItemFeatures
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


class Entry(NamedTuple):
    """A baseline's config class and the function that fits it."""

    config: type[StrictModel]
    fit: Callable[[Any, Histories, int], Baseline]


BASELINES: dict[str, Entry] = {
    "popularity": Entry(PopularityConfig, fit_popularity),
    "recent_popularity": Entry(RecentPopularityConfig, fit_recent_popularity),
    "item_knn": Entry(ItemKNNConfig, fit_item_knn),
    "ease": Entry(EaseConfig, fit_ease),
    "als": Entry(AlsConfig, fit_als),
    "bpr": Entry(BprConfig, fit_bpr),
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


@dataclass(frozen=True)
class DefaultBaselines:
    """What is always printed beside a neural model."""

    configs: tuple[BaselineConfig, ...]
    left_out: dict[str, str]
    """Name -> why it is not among them; to be printed."""


def default_baselines(num_items: int, ease: EaseConfig | None = None) -> DefaultBaselines:
    """Popularity, recent popularity, item-kNN, and EASE where its matrix fits the memory limit."""
    ease = ease or EaseConfig()
    always = (PopularityConfig(), RecentPopularityConfig(), ItemKNNConfig())
    obstacle = ease_obstacle(ease, num_items)
    if obstacle is not None:
        return DefaultBaselines(always, {ease.name: obstacle})
    return DefaultBaselines((*always, ease), {})
