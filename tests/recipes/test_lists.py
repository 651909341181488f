"""`recsys evaluate-lists`: lists of anybody are measured as our own are."""

import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import recsys
from recsys.cli import app
from recsys.data.dataset import write_dataset
from recsys.data.splitting import make_split
from recsys.errors import ConfigError, DataError, ProtocolError
from recsys.evaluation.held_out import fit_histories, held_out
from recsys.evaluation.recommend import Recommendations
from recsys.recipes.evaluating.lists import evaluate_lists
from tests.recipes.test_verbs import frame

K = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("lists") / "data", frame(), name="walks")


@pytest.fixture(scope="module")
def lists(data):
    """What item-kNN recommends to the users of the test part, by external id."""
    from recsys.baselines.item_knn import ItemKNNConfig

    split = make_split(data)
    model = ItemKNNConfig().fit(fit_histories(data, split, "train"), data.num_items)
    held = held_out(data, split, "test")
    histories = held.histories(data, np.arange(len(held.users)))
    found = Recommendations(model, data.num_items).lists(histories, K, filter_seen=True)
    rows, places = np.nonzero(found.items >= 0)
    users, items = data.user_frame()["user_id"], data.item_frame()["item_id"]
    return pl.DataFrame(
        {
            "user_id": users.gather(pl.Series(held.users[rows])),
            "item_id": items.gather(pl.Series(found.items[rows, places])),
            "score": found.scores[rows, places],
        }
    )


@pytest.fixture(scope="module")
def own(data):
    settings = ["item_knn.neighbours=100", "item_knn.shrinkage=10"]
    return recsys.evaluate_baselines(data.folder, ["item_knn"], settings, ks=(1, 5, 10))


def figures(table):
    kept = table.rows.drop("run").filter(pl.col("metric") != "precision")
    return kept.sort("segment", "metric", "k")


def test_scored_lists_of_our_own_have_our_own_figures_in_any_order(lists, own, data):
    shuffled = lists.sample(fraction=1.0, shuffle=True, seed=3)
    found = evaluate_lists(shuffled.to_pandas(), data, ks=(1, 5, 10))
    assert (
        figures(found)
        .filter(pl.col("metric") != "gini")
        .drop("value")
        .equals(figures(own).filter(pl.col("metric") != "gini").drop("value"))
    )
    accuracy = pl.col("metric").is_in(["recall", "ndcg", "mrr", "hit", "map"])
    assert figures(found).filter(accuracy).equals(figures(own).filter(accuracy))
    assert not found.card.differences(own.card)


def test_ranks_say_the_same_where_no_scores_are_equal(data):
    rows = pl.DataFrame({"user_id": [0, 0, 1], "item_id": [3, 4, 5]})
    by_rank = evaluate_lists(rows.with_columns(rank=pl.Series([1, 2, 1])), data, ks=(2,))
    by_score = evaluate_lists(rows.with_columns(score=pl.Series([9.0, 1.0, 9.0])), data, ks=(2,))
    assert figures(by_rank).equals(figures(by_score))


def test_a_list_of_two_is_worked_out_by_hand(data, capsys):
    """One user is found at place 2 behind an item it had, which is taken out: so at place 1."""
    split = make_split(data)
    held = held_out(data, split, "test")
    user, target = held.users[0], held.targets[held.offsets[0]]
    had = next(i for i in held.histories(data, np.array([0])).items if i != target)
    ids = data.item_frame()["item_id"]
    rows = pl.DataFrame(
        {
            "user_id": [data.user_frame()["user_id"][int(user)]] * 3,
            "item_id": [ids[int(had)], ids[int(target)], 999],
            "rank": [1, 2, 3],
        }
    )
    found = evaluate_lists(rows, data, ks=(1,), metrics=["precision"])
    once = 1 / len(held.users)
    assert found.value("recall", 1) == pytest.approx(once)
    assert found.value("precision", 1) == pytest.approx(once)
    told = " ".join(capsys.readouterr().err.split())
    assert "1 rows of unknown users or items" in told and "1 rows are taken out" in told
    assert f"{len(held.users) - 1} of {len(held.users)} users have no list" in told


def test_lists_stand_beside_a_run_in_one_table_on_the_command_line(lists, data, tmp_path):
    from tests.recipes.test_verbs import config

    run = recsys.train(config(data.folder, trainer={"epochs": 1}), out=tmp_path / "run")
    recsys.evaluate(run, with_baselines=False)
    path = tmp_path / "theirs.csv"
    lists.write_csv(path)
    options = ["--ks", "5,10", "--beside", str(run), "--metrics", "mrr"]
    shown = CliRunner().invoke(app, ["evaluate-lists", str(path), str(data.folder), *options])
    assert shown.exit_code == 0 and "theirs" in shown.output and "mrr@5" in shown.output.lower()
    plain = CliRunner().invoke(app, ["evaluate-lists", str(path), str(data.folder), "--json"])
    assert {row["run"] for row in json.loads(plain.stdout)["rows"]} == {"theirs"}


WRONG = {
    "no columns": (lambda x: x.drop("item_id"), {}, DataError, "no column item_id"),
    "neither rank nor score": (lambda x: x.drop("score"), {}, DataError, "neither a column rank"),
    "a score that is none": (
        lambda x: x.with_columns(score=pl.lit(float("nan"))), {}, DataError, "score has no value",
    ),
    "a rank of zero": (lambda x: x.with_columns(rank=pl.lit(0)), {}, DataError, "first place is 1"),
    "an item twice": (lambda x: pl.concat([x, x.head(1)]), {}, DataError, "stands twice"),
    "nobody": (
        lambda x: x.with_columns(user_id=pl.lit("z")), {}, DataError, "none of the .* has a list",
    ),
    "short lists": (lambda x: x, {"ks": (50,)}, ConfigError, "choose cutoffs up to 12"),
    "no such metric": (lambda x: x, {"metrics": ["auc"]}, ConfigError, "auc"),
    "fitted on all": (lambda x: x, {"fit_on": "all"}, ProtocolError, "has seen the targets"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_lists_that_cannot_be_measured_are_refused(name, lists, data):
    change, options, kind, told = WRONG[name]
    with pytest.raises(kind, match=told):
        evaluate_lists(change(lists), data, **options)
