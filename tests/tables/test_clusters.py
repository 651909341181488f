"""Clusters that are known by thought."""

import builtins
from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.data.dataset import load_dataset
from recsys.data.splitting import make_split
from recsys.errors import ConfigError, InstallationError, RunError
from recsys.models import SASRec, SASRecConfig
from recsys.recipes.training.clusters import assign_clusters
from recsys.tables import ClusteredTable
from recsys.tables.shared_rows.clusters import graph_clusters, vector_clusters
from tests.contract import checkerboard
from tests.tables.kinds import config_of, make


def groups(num_groups=4, size=6):
    """Every user of a group had every item of it: users, items."""
    pairs = [
        (g * size + u, g * size + i)
        for g in range(num_groups)
        for u in range(size)
        for i in range(size)
    ]
    return np.array(pairs).T


def same(clusters):
    return clusters[:, None] == clusters


@pytest.mark.parametrize("of", ["items", "users"])
def test_groups_that_never_meet_are_clusters(of):
    users, items = groups()
    found = graph_clusters(users, items, 24, 24, num_clusters=4, of=of)
    wanted = torch.arange(24) // 6
    assert torch.equal(same(found), same(wanted))


@pytest.mark.parametrize("num_clusters", [1, 3, 7, 12])
def test_there_are_never_more_clusters_than_fit(num_clusters):
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 50, 400), rng.integers(0, 40, 400)
    found = graph_clusters(users, items, 50, 45, num_clusters=num_clusters)
    assert len(found) == 45 and found.min() == 0 and found.max() < num_clusters
    again = graph_clusters(users, items, 50, 45, num_clusters=num_clusters)
    assert torch.equal(found, again)


def test_clusters_come_from_the_training_rows_alone(tmp_path):
    board = load_dataset(checkerboard(tmp_path / "board").folder)
    split = make_split(board)
    config = SASRecConfig(table=config_of("graph_alone", share=0.3))
    first, other = (SASRec(config, board.num_items) for _ in range(2))
    assign_clusters(first, board, split, "train")
    items = board.items.copy()
    items[split.train_end[3] :][:2] = 0  # held-out rows of a user
    assign_clusters(other, replace(board, items=items), split, "train")
    assert torch.equal(first.table.clusters, other.table.clusters)


def test_a_table_without_clusters_says_so():
    table = ClusteredTable(config_of("graph"), 20, 16, init_std=0.1)
    with pytest.raises(RunError, match="no clusters yet"):
        table(torch.tensor([1]))
    with pytest.raises(RunError, match="20 indices and"):
        table.assign(torch.full((20,), 1000))


def test_members_of_a_cluster_are_alike_unless_a_hashed_row_is_added():
    alone, added = make("graph_alone"), make("graph")
    rows = torch.tensor([0, alone.num_clusters])  # both in cluster 0
    assert torch.equal(*alone(rows))
    rows = torch.tensor([0, added.num_clusters])
    assert not torch.equal(*added(rows))


def test_the_extra_is_named_where_igraph_is_missing(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "igraph":
            raise ModuleNotFoundError(name, name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InstallationError, match=r"recsys\[cluster\]"):
        graph_clusters(*groups(), 24, 24, num_clusters=4)


def test_vectors_of_one_direction_are_a_cluster_whatever_their_length():
    torch.manual_seed(0)
    directions = torch.randn(5, 16)
    wanted = torch.arange(60) % 5
    vectors = directions[wanted] * (0.1 + torch.rand(60, 1)) + 0.001 * torch.randn(60, 16)
    found = vector_clusters(vectors, 5)
    assert torch.equal(same(found), same(wanted))


def test_no_cluster_of_vectors_stays_empty():
    torch.manual_seed(0)
    vectors = torch.randn(300, 8)
    vectors[:200] = vectors[0]
    found = vector_clusters(vectors, 40)
    assert len(found.unique()) >= 38 and found.max() < 40


def test_features_of_users_and_features_without_a_name_are_refused(tmp_path):
    board = load_dataset(checkerboard(tmp_path / "board").folder)
    model = SASRec(SASRecConfig(table=config_of("graph", by="features")), board.num_items)
    with pytest.raises(ConfigError, match=r"table\.feature"):
        assign_clusters(model, board, make_split(board), "train")
