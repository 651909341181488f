"""Splits that a source brings along, from the raw files to the figures."""

import gzip
import sys

import numpy as np
import pytest
import torch

from data_prep import PrepareOptions, one_end, prepare
from recsys.data.dataset import Dataset, SplitRule
from recsys.data.splitting import make_split
from recsys.errors import ConfigError, DataError, InstallationError, ProtocolError
from recsys.evaluation.evaluate import EvaluationOptions, evaluate
from recsys.evaluation.protocol import PROTOCOLS
from recsys.library.sources.baselines import baseline_config, fitted_baseline
from recsys.recipes.evaluating.baselines import choose, evaluate_baselines
from recsys.recipes.training.train import train
from recsys.runs.config import RunConfig

USERS, ITEMS = 30, 40


@pytest.fixture(scope="module")
def lists():
    """Of each user, items of training and of test."""
    random = np.random.default_rng(0)
    drawn = [random.permutation(ITEMS)[: random.integers(6, 20)].tolist() for _ in range(USERS)]
    cut = [max(1, len(items) // 5) for items in drawn]
    cut[3] = 0  # a user without a test item
    return {
        "train": [items[n:] for items, n in zip(drawn, cut, strict=True)],
        "test": [items[:n] for items, n in zip(drawn, cut, strict=True)],
    }


@pytest.fixture(scope="module")
def source(lists, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lists")
    for part, items in lists.items():
        lines = [" ".join(map(str, [user, *row])) for user, row in enumerate(items)]
        with gzip.open(folder / f"{part}.txt.gz", "wt") as stream:
            stream.write("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def data(source, tmp_path_factory) -> Dataset:
    return prepare("lightgcn", source=source, out=tmp_path_factory.mktemp("data") / "lists")


def parts(dataset) -> list[tuple[list[int], list[int], list[int]]]:
    """External ids of each user's training, validation and test rows."""
    split = make_split(dataset)
    ids = dataset.item_frame()["item_id"].cast(int).to_numpy()[dataset.items].tolist()
    bounds = zip(split.start, split.train_end, split.valid_end, split.end, strict=True)
    return [(ids[a:b], ids[b:c], ids[c:d]) for a, b, c, d in bounds]


def test_test_rows_are_those_of_the_file_and_validation_is_drawn_from_the_others(data, lists):
    for user, (train_rows, valid_rows, test_rows) in enumerate(parts(data)):
        given = lists["train"][user]
        assert test_rows == lists["test"][user]
        assert sorted(train_rows + valid_rows) == sorted(given)
        assert train_rows == [item for item in given if item in train_rows]
        assert len(valid_rows) == max(1, int(0.1 * len(given)))
    assert not data.manifest.ordered
    assert "0.1 of each user's other interactions" in data.manifest.split.describe()


def test_the_seed_and_the_share_decide_what_is_drawn(data, source, tmp_path):
    again = prepare("lightgcn", source=source, out=tmp_path / "again")
    assert parts(again) == parts(data)
    assert again.manifest.content_hash == data.manifest.content_hash
    changed = PrepareOptions(split=SplitRule(seed=1, valid_share=0.4))
    other = prepare("lightgcn", changed, source=source, out=tmp_path / "other")
    drawn = [row[1] for row in parts(other)]
    assert drawn != [row[1] for row in parts(data)]
    assert [len(row) for row in drawn] == [
        int(0.4 * (len(row[0]) + len(row[1]))) for row in parts(data)
    ]
    assert other.manifest.content_hash != data.manifest.content_hash


def test_a_run_is_of_neighbours_in_the_order_of_the_source(data, source, tmp_path, lists):
    def drawn(seed):
        rule = SplitRule(valid_share=0.4, valid_draw="run", seed=seed)
        out = prepare(
            "lightgcn", PrepareOptions(split=rule), source=source, out=tmp_path / f"{seed}"
        )
        assert "a run of neighbours, drawn with seed" in out.manifest.split.describe()
        return parts(out)

    starts = []
    for user, (train_rows, valid_rows, test_rows) in enumerate(drawn(0)):
        given = lists["train"][user]
        at = given.index(valid_rows[0])
        assert valid_rows == given[at : at + max(1, int(0.4 * len(given)))]
        assert train_rows == given[:at] + given[at + len(valid_rows) :]
        assert test_rows == lists["test"][user]
        starts.append(at)
    assert len(set(starts)) > 2
    assert drawn(1) != drawn(0)


def test_an_end_is_of_items_that_belong_together(tmp_path):
    """Users of two towns: an end is of one town, which rows drawn one by one are not."""
    random, half, town = np.random.default_rng(0), 10, 40
    folder = tmp_path / "towns"
    folder.mkdir()
    with (folder / "train.txt").open("w") as train, (folder / "test.txt").open("w") as test:
        for user in range(200):
            one, other = random.choice(5, 2, replace=False)
            had = [town * t + random.choice(town, half, replace=False) for t in (one, other)]
            items = random.permutation(np.concatenate(had))
            print(user, *items, file=train)
            print(user, town * one, file=test)

    def largest_share(draw, seed=0):
        """Of the held-out items of a user in one town, over users; and the parts."""
        rule = SplitRule(valid_share=0.5, valid_draw=draw, seed=seed)
        out = tmp_path / f"{draw}{seed}"
        dataset = prepare("lightgcn", PrepareOptions(split=rule), source=folder, out=out)
        found = parts(dataset)
        assert all(len(row[1]) == half for row in found)
        shares = [np.bincount(np.array(row[1]) // town).max() / half for row in found]
        return np.mean(shares), found, dataset.manifest.split.describe()

    (ends, drawn, told), (rows, _, _) = largest_share("end"), largest_share("rows")
    assert "one end of the line along which the user's items lie, drawn with seed 0" in told
    assert rows < 0.65
    assert ends > 0.75
    assert largest_share("end", seed=1)[1] != drawn
    towns = [np.bincount(np.array(row[1]) // town, minlength=5).argmax() for row in drawn]
    assert set(towns) == set(range(5))


def test_an_end_of_very_little(tmp_path):
    """One direction, or none: rows are drawn all the same."""
    path = tmp_path / "rows.csv"
    for rows in (["a,1,train", "a,2,train", "b,1,test"], ["a,1,train", "b,1,test"]):
        path.write_text("\n".join(["user_id,item_id,part", *rows]) + "\n")
        rule = SplitRule(valid_draw="end")
        options = PrepareOptions(part_column="part", split=rule)
        found = parts(prepare("csv", options, source=path, out=tmp_path / f"{len(rows)}"))
        assert [len(part) for part in found[0]] == ([1, 1, 0] if len(rows) == 3 else [1, 0, 0])
    nothing = np.empty(0, np.int64)
    assert len(one_end.places_along_lines(nothing, nothing, np.random.default_rng(0))) == 0


def test_users_of_all_blocks_have_places_of_their_own(monkeypatch):
    """Without a blur, a user's places are his ranks, in whatever block he is."""
    random = np.random.default_rng(0)
    counts = random.integers(1, 30, 50)
    counts[[3, 20]] = 0, 90  # nobody, and more than a block
    owners = np.repeat(np.arange(50), counts)
    items = random.integers(0, 60, len(owners))
    monkeypatch.setattr(one_end, "_BLOCK", 64)
    monkeypatch.setattr(one_end, "_BLUR", 0.0)
    found = one_end.places_along_lines(owners, items, np.random.default_rng(0))
    for user, count in enumerate(counts):
        ranks = (np.arange(count) + 0.5) / max(1, count)
        np.testing.assert_allclose(np.sort(found[owners == user]), ranks)


def test_an_end_without_scipy_says_what_to_install(data, source, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "data_prep.one_end", raising=False)
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    options = PrepareOptions(split=SplitRule(valid_draw="end"))
    with pytest.raises(InstallationError, match=r"drawing validation rows from one end.*train"):
        prepare("lightgcn", options, source=source, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_column_of_parts_is_taken_as_it_is(tmp_path):
    rows = [(u, i, p) for u in "ab" for i, p in enumerate(("test", "Train", "valid", "train"))]
    path = tmp_path / "rows.csv"
    path.write_text("user_id,item_id,fold\n" + "\n".join(f"{u},{i},{p}" for u, i, p in rows))
    options = PrepareOptions(part_column="fold")
    dataset = prepare("csv", options, source=path, out=tmp_path / "data")
    assert parts(dataset) == [([1, 3], [2], [0])] * 2
    assert dataset.manifest.split.valid_share is None
    path.write_text("user_id,item_id,fold\na,1,train\na,2,holdout\n")
    with pytest.raises(DataError, match=r"'holdout' where train, valid or test is expected"):
        prepare("csv", options, source=path, out=tmp_path / "other")


class Fixed:
    """Scores drawn at random, the same for an item whatever is asked with it."""

    def __init__(self) -> None:
        self.table = torch.rand(USERS, ITEMS, generator=torch.Generator().manual_seed(0))

    def scores(self, histories):
        return self.table[histories.users.tolist()]


def test_figures_are_those_of_the_formula_of_the_papers(data):
    """Recall over all test items, seen ones filtered, ideal DCG over min(k, targets)."""
    model, k = Fixed(), 5
    table = evaluate(
        model,
        data,
        make_split(data),
        protocol=PROTOCOLS["lightgcn"],
        part="test",
        fit_on="train+valid",
        ks=(k,),
        options=EvaluationOptions(extras=False),
    )
    index = {int(item): i for i, item in enumerate(data.item_frame()["item_id"])}
    recalls, gains = [], []
    for user, (train_rows, valid_rows, test_rows) in enumerate(parts(data)):
        if not test_rows:
            continue
        scores = model.table[user].clone()
        scores[[index[item] for item in train_rows + valid_rows]] = -1
        best = scores.topk(k).indices.tolist()
        hits = [item in {index[each] for each in test_rows} for item in best]
        recalls.append(sum(hits) / len(test_rows))
        ideal = sum(1 / np.log2(r + 2) for r in range(min(k, len(test_rows))))
        gains.append(sum(hit / np.log2(r + 2) for r, hit in enumerate(hits)) / ideal)
    assert table.value("recall", k) == pytest.approx(np.mean(recalls))
    assert table.value("ndcg", k) == pytest.approx(np.mean(gains))


def test_what_reads_an_order_is_refused_and_the_default_baselines_go_without_it(data, tmp_path):
    config = RunConfig.model_validate({"data": str(data.folder), "protocol": "lightgcn"})
    with pytest.raises(ConfigError, match="sasrec reads the order of histories"):
        train(config, out=tmp_path / "run")
    with pytest.raises(ConfigError, match="sequential_rules reads the order"):
        evaluate_baselines(data.folder, ["sequential_rules"], protocol="lightgcn")
    with pytest.raises(ConfigError, match="sequential_rules reads the order"):
        fitted_baseline(baseline_config("sequential_rules", ()), data, "lightgcn", "train")
    assert [config.name for config in choose((), data)] == ["popularity", "item_knn", "ease"]
    with pytest.raises(DataError, match="have no order, so they cannot be split by leave-last-out"):
        evaluate_baselines(data.folder, ["popularity"])


def test_contradictions_are_refused(source, data, tmp_path):
    def refused(error, match, name="lightgcn", place=source, **options):
        with pytest.raises(error, match=match):
            prepare(name, PrepareOptions(**options), source=place, out=tmp_path / "out")
        assert not (tmp_path / "out").exists()

    refused(ConfigError, "says which rows are test", split=SplitRule(name="global-time"))
    refused(DataError, r"has no train.txt and no test.txt", place=tmp_path)
    rows = tmp_path / "rows.csv"
    rows.write_text("user_id,item_id,part\n1,a,train\n1,b,train\n")
    refused(DataError, "does not say which", "csv", rows, split=SplitRule(name="given"))
    refused(DataError, "of the part test", "csv", rows, part_column="part")
    with pytest.raises(DataError, match="drawn when it was prepared"):
        make_split(data, SplitRule(name="given", seed=5))
    with pytest.raises(DataError, match="a fixed split"):
        Dataset.from_frame(
            data.item_frame().select(user_id="item_id", item_id="item_id"),
            order="given",
            like=data,
        )
    with pytest.raises(ProtocolError, match="s3rec needs"):
        evaluate(Fixed(), data, make_split(data), protocol=PROTOCOLS["s3rec"], part="test")
