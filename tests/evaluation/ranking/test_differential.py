"""Figures of the evaluator beside those of two packages that know nothing of it.

`ir_measures` (trec_eval) and `implicit.evaluation` are given ordered lists that are made here from
dense scores, by sorting: what was seen is taken out, and a target stands behind all that is scored
like it. The data hold repeats, items without a training row and, split by time, many targets.
"""

import ir_measures
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from implicit.evaluation import ranking_metrics_at_k
from ir_measures import AP, RR, R, Success, nDCG

from recsys.data.splitting import make_split
from recsys.evaluation.evaluate import evaluate
from recsys.evaluation.protocol import PROTOCOLS
from recsys.evaluation.ranking import make_scorer as scoring
from tests.evaluation.ranking.naive import (
    FixedScores,
    dense_scores,
    integer_vectors,
    random_dataset,
)

KS = (1, 3, 10, 100)
"""The last is more than the catalogue holds."""
CASES = [
    ("s3rec", "test", "ties"),
    ("fmrlrec", "test", "ties"),
    ("s3rec", "valid", "ties"),
    ("global-time", "test", "no ties"),
    ("global-time", "valid", "no ties"),
]


class Case:
    """Users, their ordered lists, their targets, and the table of the evaluator."""

    def __init__(self, folder, protocol, part, ties, way):
        preset = PROTOCOLS[protocol]
        data = random_dataset(folder, 5, 50, 40, split=preset.split)
        split = make_split(data)
        model = integer_vectors(data.num_users, data.num_items)
        if ties == "no ties":  # of several targets scored alike, no list puts all of them last
            generator = torch.Generator().manual_seed(0)
            model.users, model.items = (
                torch.randn(len(side), 7, generator=generator)
                for side in (model.users, model.items)
            )
        scores = dense_scores(model, 7)
        given = FixedScores(torch.from_numpy(scores)) if way == "scores" else model
        self.table = evaluate(given, data, split, protocol=preset, part=part, ks=KS)
        self.num_items, self.lists, self.targets = data.num_items, {}, {}
        lo, hi = split.targets(part)
        for user in range(data.num_users):
            seen = set(data.items[split.start[user] : lo[user]].tolist())
            targets = set(data.items[lo[user] : hi[user]].tolist())
            if seen and targets:
                shown = set(range(data.num_items)) - (seen if preset.filter_seen else set())
                self.lists[user] = sorted(
                    shown, key=lambda item: (-scores[user, item], item in targets, item)
                )
                self.targets[user] = targets

    def value(self, metric, k):
        sizes = self.table.rows["granularity"].unique().drop_nulls()
        return self.table.value(metric, k, None if sizes.is_empty() else sizes.max())


@pytest.fixture(params=["kernels", "torch", "scores"])
def way(request, monkeypatch):
    monkeypatch.setattr(scoring, "can_compile", lambda items: request.param == "kernels")
    return request.param


@pytest.fixture(params=CASES, ids="-".join)
def case(request, tmp_path, way):
    return Case(tmp_path / "data", *request.param, way)


def test_the_table_is_that_of_ir_measures(case):
    for k in KS:
        run = [
            ir_measures.ScoredDoc(str(user), str(item), float(-place))
            for user, items in case.lists.items()
            for place, item in enumerate(items[:k])
        ]
        qrels = [
            ir_measures.Qrel(str(user), str(item), 1)
            for user, items in case.targets.items()
            for item in items
        ]
        found = ir_measures.calc_aggregate([nDCG @ k, R @ k, RR, AP, Success @ k], qrels, run)
        assert case.value("ndcg", k) == pytest.approx(found[nDCG @ k])
        assert case.value("recall", k) == pytest.approx(found[R @ k])
        assert case.value("mrr", k) == pytest.approx(found[RR])
        assert case.value("hit", k) == pytest.approx(found[Success @ k])
        if all(len(items) <= k for items in case.targets.values()):
            assert case.value("map", k) == pytest.approx(found[AP])  # trec_eval divides by targets


class Lists:
    """What `implicit.evaluation` asks of a model."""

    def __init__(self, lists):
        self.lists = lists

    def recommend(self, users, user_items, N=10, **_):
        found = np.full((len(users), N), -1, np.int32)
        for row, user in enumerate(users):
            listed = self.lists[user][:N]
            found[row, : len(listed)] = listed
        return found, np.zeros(found.shape, np.float32)


def test_the_table_is_that_of_implicit(case):
    users = list(case.targets)
    matrix = sp.lil_matrix((max(users) + 1, case.num_items), dtype=np.float32)
    for user, items in case.targets.items():
        matrix[user, sorted(items)] = 1
    test = matrix.tocsr()
    for k in KS:
        found = ranking_metrics_at_k(
            Lists(case.lists), sp.csr_matrix(test.shape), test, K=k, show_progress=False
        )
        assert case.value("ndcg", k) == pytest.approx(found["ndcg"])
        assert case.value("map", k) == pytest.approx(found["map"])
        if all(len(items) == 1 for items in case.targets.values()):
            assert case.value("recall", k) == pytest.approx(found["precision"])  # over min(k, 1)
