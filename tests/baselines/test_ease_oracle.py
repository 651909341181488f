"""EASE on Amazon Beauty against figures measured independently of this code (four decimals)."""

import polars as pl
import pytest

from recsys.baselines.ease import EaseConfig, fit_ease
from recsys.data.dataset import write_dataset
from recsys.data.splitting import make_split
from recsys.evaluation.evaluate import EvaluationOptions, evaluate
from recsys.evaluation.held_out import fit_histories
from recsys.evaluation.protocol import PROTOCOLS

ORACLE = {"s3rec": (0.0782, 0.0445), "fmrlrec": (0.0526, 0.0257)}
"""Protocol -> recall@10, ndcg@10, fitted on train and valid."""


@pytest.fixture(scope="module")
def beauty(real_data, tmp_path_factory):
    """The S3-Rec file: one user a line, then the items in order."""
    lines = (real_data("amazon-beauty-2014") / "Beauty.txt").read_text().splitlines()
    frame = (
        pl.DataFrame({"line": lines})
        .select(pl.col("line").str.split(" "))
        .select(pl.col("line").list.first().alias("user_id"), pl.col("line").list.slice(1))
        .explode("line")
        .rename({"line": "item_id"})
    )
    dataset = write_dataset(tmp_path_factory.mktemp("beauty") / "data", frame, name="beauty")
    assert (dataset.num_users, dataset.num_items) == (22_363, 12_101)
    assert dataset.manifest.num_interactions == 198_502
    return dataset


@pytest.mark.slow
def test_ease_on_beauty_gives_the_known_figures(beauty):
    split = make_split(beauty)
    rows = fit_histories(beauty, split, "train+valid")
    # float32 halves the minutes; float64 differs by less than .0001 in each figure.
    model = fit_ease(EaseConfig(l2=50, precision="float32"), rows, beauty.num_items)
    for protocol, (recall, ndcg) in ORACLE.items():
        table = evaluate(
            model,
            beauty,
            split,
            protocol=PROTOCOLS[protocol],
            part="test",
            fit_on="train+valid",
            ks=(10,),
            options=EvaluationOptions(extras=False),
        )
        assert table.value("recall", 10) == pytest.approx(recall, abs=0.0005)
        assert table.value("ndcg", 10) == pytest.approx(ndcg, abs=0.0005)
        assert table.rows["num_users"].unique().to_list() == [22_363]
