import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from recsys.baselines import BASELINES, AnyBaselineConfig, default_baselines, fit_baseline, item_knn
from recsys.baselines.als import AlsConfig, BprConfig
from recsys.baselines.ease import EaseConfig
from recsys.baselines.item_knn import ItemKNNConfig
from recsys.baselines.popularity import PopularityConfig, RecentPopularityConfig
from recsys.data.dataset import write_dataset
from recsys.data.histories import Histories
from recsys.data.splitting import make_split
from recsys.errors import ConfigError
from recsys.evaluation.evaluate import evaluate
from recsys.evaluation.held_out import fit_histories
from recsys.evaluation.protocol import PROTOCOLS
from recsys.granularity import Granularities
from recsys.model_protocols import VectorModel

NUM_ITEMS = 7
TASTES = st.lists(st.lists(st.integers(0, NUM_ITEMS - 1), max_size=8), min_size=1, max_size=10)


def jagged(users: list[list[int]], timestamps: list[int] | None = None) -> Histories:
    offsets = np.concatenate([[0], np.cumsum([len(items) for items in users])]).astype(np.int64)
    items = np.array([item for items in users for item in items], np.int32)
    times = None if timestamps is None else np.array(timestamps, np.int64)
    return Histories(np.arange(len(users)), items, offsets, times)


def binary(users: list[list[int]]) -> np.ndarray:
    matrix = np.zeros((len(users), NUM_ITEMS))
    for row, items in enumerate(users):
        matrix[row, items] = 1
    return matrix


def order_of(model, history=(0,)) -> list[int]:
    """Items by score, equals by index."""
    scores = model.scores(jagged([list(history)]))[0].tolist()
    return sorted(range(len(scores)), key=lambda item: (-scores[item], item))


def test_popularity_orders_by_all_interactions_and_ties_stay_ties():
    model = fit_baseline(PopularityConfig(), jagged([[2, 2, 1], [1, 2], [3, 0]]), 5)
    assert order_of(model) == [2, 1, 0, 3, 4]
    scores = model.scores(jagged([[0], [1]]))
    assert scores.shape == (2, 5)
    assert scores[0, 0] == scores[0, 3] > scores[0, 4]


def test_recent_popularity_counts_the_latest_share_and_breaks_ties_by_all_of_it():
    histories = jagged([[0, 0, 0, 1], [0, 2, 3, 3, 1, 2]], [1, 2, 3, 10, 4, 5, 6, 7, 11, 12])
    config = RecentPopularityConfig(share=0.3)  # times 10, 11, 12: items 1, 1, 2
    assert order_of(fit_baseline(config, histories, 5)) == [1, 2, 0, 3, 4]


def test_recent_popularity_without_timestamps_takes_the_end_of_each_history():
    histories = jagged([[0, 0, 0, 1], [0, 2, 3, 1]])
    config = RecentPopularityConfig(last=2)  # 0, 1 and 3, 1
    assert order_of(fit_baseline(config, histories, 5)) == [1, 0, 3, 2, 4]


@settings(deadline=None)
@given(TASTES, st.integers(1, 8), st.floats(0, 20), st.integers(1, 2000))
def test_item_knn_equals_a_naive_loop_whatever_its_blocks(users, neighbours, shrinkage, block):
    config = ItemKNNConfig(neighbours=neighbours, shrinkage=shrinkage)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(item_knn, "_BLOCK_BYTES", block)
        model = fit_baseline(config, jagged(users), NUM_ITEMS)
    x = binary(users)
    expected = np.zeros((NUM_ITEMS, NUM_ITEMS))
    for i in range(NUM_ITEMS):
        similarities = {}
        for j in range(NUM_ITEMS):
            together = x[:, i] @ x[:, j]
            if i != j and together:
                norms = np.sqrt(x[:, i].sum() * x[:, j].sum())
                similarities[j] = np.float32(together / (norms + shrinkage))
        for j in sorted(similarities, key=lambda j: (-similarities[j], j))[:neighbours]:
            expected[i, j] = similarities[j]
    np.testing.assert_allclose(
        np.sort(model.weights.toarray(), axis=1), np.sort(expected, axis=1), rtol=1e-5
    )
    scores = model.scores(jagged(users)).numpy()
    np.testing.assert_allclose(scores, x @ model.weights.toarray(), rtol=1e-5)


def test_item_knn_by_hand():
    model = fit_baseline(ItemKNNConfig(shrinkage=1), jagged([[0, 1], [0, 1, 2], [2]]), 3)
    # Items 0 and 1: 2 users together of 2 and 2; items 0 and 2: 1 together of 2 and 2.
    assert model.weights.toarray() == pytest.approx(
        np.array([[0, 2 / 3, 1 / 3], [2 / 3, 0, 1 / 3], [1 / 3, 1 / 3, 0]])
    )


@settings(deadline=None)
@given(TASTES, st.floats(0.5, 200), st.sampled_from(["float32", "float64"]))
def test_ease_equals_one_ridge_regression_per_item(users, l2, precision):
    config = EaseConfig(l2=l2, precision=precision)
    model = fit_baseline(config, jagged(users), NUM_ITEMS)
    x = binary(users)
    expected = np.zeros((NUM_ITEMS, NUM_ITEMS))
    for item in range(NUM_ITEMS):
        others = [other for other in range(NUM_ITEMS) if other != item]
        gram = x[:, others].T @ x[:, others] + l2 * np.eye(len(others))
        expected[others, item] = np.linalg.solve(gram, x[:, others].T @ x[:, item])
    np.testing.assert_allclose(model.weights.numpy(), expected, atol=1e-5)
    scores = model.scores(jagged(users)).numpy()
    np.testing.assert_allclose(scores, x @ expected, atol=1e-4)


def test_ease_says_why_it_cannot_be_fitted_on_too_many_items():
    with pytest.raises(
        ConfigError, match=r"1,000,000 items takes 11175.9 GiB .* 1 GiB are allowed"
    ):
        fit_baseline(EaseConfig(memory_limit_gib=1), jagged([[0]]), 1_000_000)


def test_ease_refuses_a_regularization_that_vanishes_in_its_precision():
    same = jagged([[0, 1, 2]] * 50)
    with pytest.raises(ConfigError, match="singular in float32 with l2=1e-09"):
        fit_baseline(EaseConfig(l2=1e-9, precision="float32"), same, 3)


def test_the_default_baselines_name_what_is_left_out_and_why():
    few, many = default_baselines(1000), default_baselines(1_000_000, np.full(10, 100_000))
    assert [config.name for config in few.configs] == [
        "popularity", "recent_popularity", "item_knn", "sequential_rules", "ease",
    ]  # fmt: skip
    assert few.left_out == {}
    assert [config.name for config in many.configs] == [
        "popularity", "recent_popularity", "sequential_rules",
    ]  # fmt: skip
    assert "GiB are allowed; ask for it with more (recsys baselines" in many.left_out["ease"]
    assert "ask for it: recsys baselines DATA item_knn" in many.left_out["item_knn"]


def test_every_baseline_is_known_by_the_name_in_its_config():
    adapter = TypeAdapter(AnyBaselineConfig)
    for name in BASELINES.inside:
        assert adapter.validate_python({"name": name}).name == name


@pytest.fixture
def tastes() -> Histories:
    random = np.random.default_rng(0)
    return jagged([random.choice(30, 8, replace=False).tolist() for _ in range(40)])


def test_als_folds_in_the_user_that_minimizes_its_loss(tastes):
    config = AlsConfig(granularities=Granularities(sizes=(2, 5)), alpha=3.0, regularization=0.1)
    model = fit_baseline(config, tastes, 30)
    items = model.item_vectors().double().numpy()
    history = [3, 4, 9]
    weights = np.ones(30)
    weights[history] = config.alpha
    liked = np.zeros(30)
    liked[history] = 1
    left = (items * weights[:, None]).T @ items + config.regularization * np.eye(5)
    expected = np.linalg.solve(left, (items * weights[:, None]).T @ liked)
    np.testing.assert_allclose(model.user_vectors(jagged([history]))[0], expected, atol=1e-4)


def test_bpr_keeps_the_bias_in_every_prefix_and_serves_strangers_by_it(tastes):
    config = BprConfig(granularities=Granularities(sizes=(1, 5)), iterations=20)
    model = fit_baseline(config, tastes, 30)
    known = model.user_vectors(tastes)
    assert known.shape == (40, 5)
    assert (known[:, 0] == 1).all()
    assert known[:, 1:].abs().sum(1).min() > 0
    stranger = Histories(np.array([10_000]), np.array([3], np.int32), np.array([0, 1]))
    assert model.user_vectors(stranger).tolist() == [[1, 0, 0, 0, 0]]
    biases = model.item_vectors()[:, 0]
    assert biases.std() > 0


@pytest.mark.parametrize("config", [AlsConfig(seed=1), BprConfig(seed=1, iterations=5)])
def test_another_seed_gives_other_vectors(config, tastes):
    first = fit_baseline(config, tastes, 30)
    again = fit_baseline(config, tastes, 30)
    other = fit_baseline(config.model_copy(update={"seed": 2}), tastes, 30)
    assert torch.equal(first.item_vectors(), again.item_vectors())
    assert not torch.equal(first.item_vectors(), other.item_vectors())


@pytest.mark.parametrize("config", [AlsConfig(), BprConfig(iterations=5)])
def test_factor_models_are_measured_at_every_granularity(config, tmp_path):
    random = np.random.default_rng(0)
    frame = pl.DataFrame(
        {"user_id": np.repeat(np.arange(30), 6), "item_id": random.integers(0, 40, 180)}
    )
    dataset = write_dataset(tmp_path / "data", frame, name="random")
    split = make_split(dataset)
    model = fit_baseline(config, fit_histories(dataset, split, "train"), dataset.num_items)
    table = evaluate(model, dataset, split, protocol=PROTOCOLS["s3rec"], part="test", ks=(5,))
    assert table.rows["granularity"].unique().sort().to_list() == [8, 16, 32, 64]


def test_users_without_training_rows_are_ranked_by_what_everyone_had():
    histories = jagged([[0, 1], [], [1, 2], []])
    with_history = jagged([[0], [1], [2], [1]])
    for name in set(BASELINES.inside) - {"content_knn"}:
        model = fit_baseline(BASELINES.find(name)(), histories, 4)
        if isinstance(model, VectorModel):
            users = model.user_vectors(with_history)
            scores = users @ model.item_vectors().T
        else:
            scores = model.scores(with_history)
        assert torch.isfinite(scores).all(), name
        # Two users alike in all that the model may know of them are ranked alike.
        assert torch.equal(scores[1], scores[3]), name
