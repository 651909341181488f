"""Clusters of items for tables with shared rows, found before training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from recsys.data.dataset import Dataset
from recsys.data.features.loading import load_features
from recsys.data.histories import select
from recsys.data.splitting import Split
from recsys.errors import ConfigError
from recsys.tables import ClusteredTable, clustered_tables, is_of_users
from recsys.tables.shared_rows.clusters import graph_clusters, vector_clusters


def assign_clusters(model: nn.Module, dataset: Dataset, split: Split, fit_on: str) -> None:
    """Gives every clustered table of the model its clusters; held-out rows are not looked at.

    Raises:
        ConfigError: clusters by features of a table of users, or without a feature's name.
        DataError: the data set lacks the feature.
        InstallationError: the graph library is missing.
    """
    for name, table in clustered_tables(model):
        if table.config.by == "graph":
            table.assign(_of_graph(table, dataset, split, fit_on, of_users=is_of_users(name)))
        else:
            table.assign(_of_feature(table, dataset, of_users=is_of_users(name)))


def _of_graph(
    table: ClusteredTable, dataset: Dataset, split: Split, fit_on: str, *, of_users: bool
) -> Tensor:
    everyone = np.arange(dataset.num_users)
    rows = select(dataset, everyone, split.start, split.fit_end(fit_on))
    return graph_clusters(
        np.repeat(rows.users, rows.lengths),
        rows.items.astype(np.int64),
        dataset.num_users,
        dataset.num_items,
        num_clusters=table.num_clusters,
        of="users" if of_users else "items",
        seed=table.config.seed,
    )


def _of_feature(table: ClusteredTable, dataset: Dataset, *, of_users: bool) -> Tensor:
    name = table.config.feature
    if of_users:
        raise ConfigError("features belong to items; cluster a table of users with by: graph")
    if name is None:
        raise ConfigError("table.by: features needs the name of one: set table.feature")
    features = load_features(dataset.folder, [name])
    if name not in features.vectors:
        raise ConfigError(
            f"feature {name!r} holds no vectors, so it has no clusters; choose another"
        )
    vectors = torch.from_numpy(features.vectors[name].rows(np.arange(dataset.num_items)))
    return vector_clusters(vectors, table.num_clusters, seed=table.config.seed)
