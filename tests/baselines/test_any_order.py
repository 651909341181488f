"""What a baseline reaches does not depend on what was fitted or measured before it."""

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from recsys.baselines import BASELINES, fit_baseline
from recsys.data.dataset import Dataset, load_dataset, write_dataset
from recsys.data.features.manifest import FeatureOrigin
from recsys.data.features.writing import write_categories
from recsys.data.splitting import make_split
from recsys.evaluation.evaluate import evaluate
from recsys.evaluation.held_out import fit_histories, held_out
from recsys.evaluation.protocol import PROTOCOLS
from recsys.evaluation.recommend import recommend
from recsys.granularity import Granularities
from recsys.models.sasrec import SASRec, SASRecConfig
from recsys.recipes.evaluating.baselines import (
    Figures,
    choose,
    evaluate_baselines,
    measure_baselines,
)

USERS, ITEMS, LENGTH = 40, 25, 16
SMALL = [
    "als.granularities.sizes=[4]", "als.iterations=3",
    "bpr.granularities.sizes=[4]", "bpr.iterations=3",
    "content_knn.features=[genres]",
]  # fmt: skip


@pytest.fixture(scope="module")
def repeated(tmp_path_factory) -> Dataset:
    """Users who come back to what they had: about a third of the rows are repeats."""
    random = np.random.default_rng(0)
    steps = random.integers(0, ITEMS // 2, (USERS, LENGTH)) + random.integers(0, 13, (USERS, 1))
    frame = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(USERS), LENGTH),
            "item_id": steps.ravel(),
            "timestamp": np.arange(USERS * LENGTH),
        }
    )
    folder = tmp_path_factory.mktemp("repeated") / "data"
    dataset = write_dataset(folder, frame, name="repeated")
    count = dataset.num_items
    write_categories(
        folder, "genres", random.integers(0, 4, count).astype(np.int32), np.arange(count + 1),
        ["a", "b", "c", "d"], FeatureOrigin(source="made by hand"),
    )  # fmt: skip
    return load_dataset(folder)


def settings(names):
    return [line for line in SMALL if line.split(".")[0] in names]


@pytest.mark.parametrize("protocol", ["s3rec", "fmrlrec"])
def test_every_baseline_alone_has_the_table_it_has_beside_any_others(repeated, protocol):
    def table(names):
        return evaluate_baselines(
            repeated.folder, names, settings(names), protocol=protocol, ks=(1, 5)
        ).rows

    alone = {name: table([name]) for name in BASELINES.names()}
    for order in (BASELINES.names(), BASELINES.names()[::-1], ("ease", *BASELINES.names()[:3])):
        together = table(list(order))
        for name in order:
            own = pl.col("run").str.split(" ").list.first() == name  # its settings stand behind
            assert_frame_equal(together.filter(own), alone[name])


def test_baselines_fitted_beside_each_other_leave_the_histories_they_were_fitted_on(repeated):
    split = make_split(repeated)
    rows, fresh = (fit_histories(repeated, split, "train") for _ in range(2))
    for config in choose((), repeated):
        fit_baseline(config, rows, repeated.num_items)
    np.testing.assert_array_equal(rows.items, fresh.items)
    np.testing.assert_array_equal(rows.offsets, fresh.offsets)


@pytest.mark.parametrize("name", ["popularity", "item_knn", "ease", "als", "bpr"])
def test_what_was_seen_is_filtered_from_the_lists_as_a_naive_filter_does(repeated, name):
    split = make_split(repeated)
    (config,) = choose([name], repeated, settings([name]))
    model = fit_baseline(config, fit_histories(repeated, split, "train"), repeated.num_items)
    held = held_out(repeated, split, "test")
    histories = held.histories(repeated, np.arange(len(held.users)))
    lists = recommend(model, histories, repeated.num_items, k=repeated.num_items, filter_seen=True)
    for row, listed in enumerate(lists):
        seen = repeated.items[held.start[row] : held.end[row]].tolist()
        assert sorted(listed[listed >= 0]) == sorted(set(range(repeated.num_items)) - set(seen))


def test_a_model_of_order_has_the_same_figures_before_and_after_the_baselines(repeated):
    split = make_split(repeated)
    torch.manual_seed(0)
    sizes = Granularities(sizes=(4, 8))
    model = SASRec(SASRecConfig(granularities=sizes), repeated.num_items).eval()
    options = {"protocol": PROTOCOLS["s3rec"], "part": "test", "ks": (5,)}
    rows = fit_histories(repeated, split, "train")
    with torch.inference_mode():
        vectors = model.user_vectors(rows)
    before = evaluate(model, repeated, split, **options).rows
    ease, *others = reversed(choose((), repeated))
    measure_baselines(
        [ease, *others], repeated, split, PROTOCOLS["s3rec"], "test", "train", Figures((5,))
    )
    fit_baseline(ease, rows, repeated.num_items).scores(rows)
    assert_frame_equal(evaluate(model, repeated, split, **options).rows, before)
    with torch.inference_mode():
        torch.testing.assert_close(model.user_vectors(rows), vectors, rtol=0, atol=0)
