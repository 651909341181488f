"""Settings of baselines, chosen on the validation part.

A setting goes up or down its values as long as validation says it gets better, one setting after
the other: a few fits instead of all combinations. EASE is fitted anew for each of about five
values: one eigendecomposition of the items' matrix, from which all values follow, takes as long as
five inverses by Cholesky, and then a product as dear as an inverse for every value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from recsys.baselines import fit_baseline, label_of
from recsys.baselines.base import Baseline, BaselineConfig
from recsys.data.dataset import Dataset
from recsys.data.splitting import Split
from recsys.errors import ConfigError, DataError
from recsys.evaluation.evaluate import RankingOptions, rank_held_out
from recsys.evaluation.held_out import fit_histories
from recsys.evaluation.protocol import Protocol
from recsys.progress import console

METRIC, K = "ndcg", 10
SCORES = 500_000_000
"""Users times items that are ranked for one value of a setting."""
USERS = 2000
"""Users that are ranked however many items there are."""


def tune(
    config: BaselineConfig, dataset: Dataset, split: Split, protocol: Protocol
) -> BaselineConfig:
    """The config with those settings chosen that were not given.

    Every candidate is fitted on the training part and measured by ndcg@10 on users of the
    validation part, under the protocol; of many users, evenly spread ones.

    Raises:
        ConfigError: what was tried can be fitted with none of the values.
    """
    choices = config.open_choices(timed=dataset.timestamps is not None)
    open_ones = {key: of for key, of in choices.items() if key not in config.model_fields_set}
    if not open_ones:
        return config
    rows = fit_histories(dataset, split, "train")
    tried: dict[str, float | ConfigError] = {}

    def value_of(candidate: BaselineConfig) -> float:
        name = label_of(candidate, timed=dataset.timestamps is not None)
        if name not in tried:
            try:
                model = fit_baseline(candidate, rows, dataset.num_items)
            except ConfigError as error:  # singular with so little regularization, or too large
                tried[name] = error
            else:
                tried[name] = _measured(model, config.name, dataset, split, protocol)
        found = tried[name]
        return 0.0 if isinstance(found, ConfigError) else found

    try:
        chosen = _climb(config, open_ones, value_of)
    except DataError:
        console.print(f"{config.name}: nobody to choose its settings on, so they are the default's")
        return config
    refused = [found for found in tried.values() if isinstance(found, ConfigError)]
    if len(refused) == len(tried):
        raise refused[0]
    told = ", ".join(f"{name.partition(' ')[2]}: {_told(value)}" for name, value in tried.items())
    console.print(f"{config.name}: chosen by {METRIC}@{K} on validation of {told}", style="dim")
    return chosen


def _measured(
    model: Baseline, name: str, dataset: Dataset, split: Split, protocol: Protocol
) -> float:
    """ndcg@10 on validation."""
    ranking = rank_held_out(
        model,
        dataset,
        split,
        part="valid",
        filter_seen=protocol.filter_seen,
        ks=(K,),
        options=RankingOptions(
            most_users=max(USERS, SCORES // dataset.num_items), label=f"choosing {name}"
        ),
    )
    return float(ranking.per_user(METRIC, K).mean())


def _told(found: float | ConfigError) -> str:
    return "cannot be fitted" if isinstance(found, ConfigError) else f"{found:.4f}"


def _climb(
    config: BaselineConfig,
    choices: Mapping[str, tuple[float, ...]],
    value_of: Callable[[BaselineConfig], float],
) -> BaselineConfig:
    """The best that steps to neighbouring values lead to."""
    for key, values in choices.items():
        config = _climb_one(config, key, values, value_of)
    return config


def _climb_one(
    config: BaselineConfig,
    key: str,
    values: tuple[float, ...],
    value_of: Callable[[BaselineConfig], float],
) -> BaselineConfig:
    """Steps along one setting, upwards first, until two in a row are no better."""
    start = values.index(getattr(config, key))
    best = config
    for step in (1, -1):
        worse, place = 0, start + step
        while 0 <= place < len(values) and worse < 2:
            candidate = config.model_copy(update={key: values[place]})
            if value_of(candidate) > value_of(best):
                best, worse = candidate, 0
            else:
                worse += 1
            place += step
        if best != config:
            break
    return best
