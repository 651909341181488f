"""Baselines: simple models that a trained model must beat, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from recsys.arrays import Int64
from recsys.baselines.base import Baseline, BaselineConfig, lacks_of_baseline
from recsys.baselines.ease import EaseConfig, ease_obstacle
from recsys.baselines.item_knn import ItemKNNConfig, item_knn_obstacle
from recsys.baselines.popularity import PopularityConfig, RecentPopularityConfig
from recsys.baselines.sequential_rules import SequentialRulesConfig, sequential_rules_obstacle
from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.data.manifest import DatasetManifest
from recsys.errors import ConfigError, DataError
from recsys.model_protocols import ScoreModel, VectorModel
from recsys.plugins.named_section import NamedSection
from recsys.plugins.registry import Registry

BASELINES: Registry[type[BaselineConfig]] = Registry(
    "baseline",
    "recsys.baselines",
    {
        "popularity": "recsys.baselines.popularity:PopularityConfig",
        "recent_popularity": "recsys.baselines.popularity:RecentPopularityConfig",
        "item_knn": "recsys.baselines.item_knn:ItemKNNConfig",
        "sequential_rules": "recsys.baselines.sequential_rules:SequentialRulesConfig",
        "ease": "recsys.baselines.ease:EaseConfig",
        "slim": "recsys.baselines.slim:SlimConfig",
        "gf_cf": "recsys.baselines.gf_cf:GfCfConfig",
        "als": "recsys.baselines.als:AlsConfig",
        "bpr": "recsys.baselines.als:BprConfig",
        "content_knn": "recsys.baselines.content_knn:ContentKNNConfig",
    },
    lacks_of_baseline,
)
"""The configs of all baselines by name."""

AnyBaselineConfig = Annotated[BaselineConfig, NamedSection(BASELINES.find)]
"""The config of any baseline; `name` tells which."""


def fit_baseline(
    config: BaselineConfig,
    histories: Histories,
    num_items: int,
    features: ItemFeatures | None = None,
) -> Baseline:
    """Fits the baseline of a config.

    Raises:
        ConfigError: it cannot be fitted on so many items, or what it gives cannot be ranked.
        DataError: it reads item features, and none are given.
    """
    if config.item_features and features is None:
        raise DataError(f"{config.name} needs item features, and none were given")
    fitted = config.fit(histories, num_items, features)
    if not isinstance(fitted, VectorModel | ScoreModel):
        raise ConfigError(
            f"fitting {config.name} gave a {type(fitted).__name__}, which has neither "
            "scores(histories) nor granularities, item_vectors() and user_vectors(histories)"
        )
    return fitted


def label_of(config: BaselineConfig, *, timed: bool) -> str:
    """Its name in tables, with the settings that are worth choosing: `ease l2=50`."""
    settings = [f"{key}={getattr(config, key):g}" for key in config.open_choices(timed=timed)]
    return " ".join([config.name, *settings])


@dataclass(frozen=True)
class DefaultBaselines:
    """The baselines that are always printed beside a neural model."""

    configs: tuple[BaselineConfig, ...]
    left_out: dict[str, str]
    """Name -> why it is not among them; to be printed."""


def order_obstacle(config: BaselineConfig, manifest: DatasetManifest) -> str | None:
    """Why a baseline cannot be fitted on histories without an order, or None."""
    if manifest.ordered or config.order_free:
        return None
    return f"{config.name} reads the order of histories, and those of {manifest.name} have none"


def default_baselines(num_items: int, lengths: Int64 | None = None) -> DefaultBaselines:
    """Popularity, recent popularity, item-kNN, rules and EASE, but for what would take too much.

    Args:
        num_items: N.
        lengths: `[U]` of the histories to be fitted on; None: they are short enough.
    """
    obstacles = {
        "item_knn": None if lengths is None else item_knn_obstacle(lengths),
        "sequential_rules": None if lengths is None else sequential_rules_obstacle(lengths),
        "ease": ease_obstacle(EaseConfig(), num_items),
    }
    configs = (
        PopularityConfig(),
        RecentPopularityConfig(),
        ItemKNNConfig(),
        SequentialRulesConfig(),
        EaseConfig(),
    )
    return DefaultBaselines(
        tuple(config for config in configs if obstacles.get(config.name) is None),
        {name: reason for name, reason in obstacles.items() if reason is not None},
    )
