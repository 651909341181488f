"""The comparison is only as fair as what the other side is given and how its lists are measured."""

import ast

import numpy as np
import polars as pl
import pytest
import torch

from benchmarks.rectools import SIDE, ListModel, check_interpreter, read_lists, write_side
from recsys.data.dataset import write_dataset
from recsys.data.histories import select
from recsys.data.splitting import make_split
from recsys.errors import InstallationError
from recsys.evaluation.evaluate import evaluate
from recsys.evaluation.held_out import held_out
from recsys.evaluation.protocol import find_protocol
from recsys.evaluation.recommend import recommend
from recsys.granularity import Granularities
from recsys.layers.jagged import to_indices


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 9, size=60)
    users = np.repeat(np.arange(60), lengths)
    frame = pl.DataFrame({"user_id": users, "item_id": rng.integers(0, 30, size=len(users))})
    return write_dataset(tmp_path / "data", frame, name="random")


class Vectors:
    granularities = Granularities(sizes=(4,))

    def __init__(self, data):
        generator = torch.Generator().manual_seed(0)
        self.users = torch.randn(data.num_users, 4, generator=generator)
        self.items = torch.randn(data.num_items, 4, generator=generator)

    def item_vectors(self):
        return self.items

    def user_vectors(self, histories):
        return self.users[to_indices(histories.users)]


def test_lists_are_measured_as_the_model_that_made_them(data, tmp_path):
    """recall@10 and ndcg@10 of lists of ten are those of the scores behind them."""
    model, split, protocol = Vectors(data), make_split(data), find_protocol("s3rec")
    users = held_out(data, split, "test").users
    known = select(data, users, split.start[users], split.valid_end[users])
    lists = recommend(model, known, data.num_items, k=10, filter_seen=True)
    rows, ranks = np.nonzero(lists >= 0)
    columns = {"user_id": users[rows], "item_id": lists[rows, ranks], "rank": ranks + 1}
    pl.DataFrame(columns).sample(fraction=1, shuffle=True, seed=0).write_csv(tmp_path / "lists.csv")
    listed = ListModel(read_lists(tmp_path / "lists.csv", data.num_users), data.num_items)
    tables = [
        evaluate(scored, data, split, protocol=protocol, part="test", ks=(5, 10))
        for scored in (model, listed)
    ]
    for metric in ("recall", "ndcg"):
        for k in (5, 10):
            own, other = (table.value(metric, k) for table in tables)
            assert own == pytest.approx(other, abs=1e-12) and own > 0


def test_the_other_side_never_sees_what_it_is_asked_for(data, tmp_path):
    split = make_split(data)
    write_side(data, split, tmp_path)
    for name, end in {"train.csv": split.train_end, "known.csv": split.valid_end}.items():
        frame = pl.read_csv(tmp_path / name).sort("user_id", "datetime")
        for user in range(data.num_users):
            rows = frame.filter(pl.col("user_id") == user)["item_id"].to_list()
            assert rows == data.items[split.start[user] : end[user]].tolist()
    users = pl.read_csv(tmp_path / "users.csv")["user_id"].to_list()
    assert users == np.flatnonzero(split.end > split.valid_end).tolist()


def test_an_interpreter_without_rectools_is_refused_with_the_way_to_make_one(tmp_path):
    with pytest.raises(InstallationError, match=r"No such file .*bin/pip install 'rectools"):
        check_interpreter(tmp_path / "python")


def test_the_other_side_imports_nothing_of_this_project():
    imported = [
        name
        for node in ast.walk(ast.parse(SIDE.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    ]
    assert "rectools.models" in imported
    assert not [name for name in imported if name.split(".")[0] in ("recsys", "benchmarks")]
