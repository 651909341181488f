"""Users and items by index: a model of tastes, not of order."""

import numpy as np
import polars as pl
import pytest
import torch

from recsys.config import parse
from recsys.data.batching import Batch
from recsys.data.dataset import write_dataset
from recsys.data.histories import Histories
from recsys.errors import ConfigError
from recsys.granularity import Granularities
from recsys.losses.softmax import Negatives
from recsys.models.two_tower import TwoTower, TwoTowerConfig
from recsys.prefixes import truncate
from recsys.recipes.evaluating.evaluate import evaluate
from recsys.recipes.training.train import train
from recsys.runs.config import RunConfig
from recsys.runs.loading import build_model, load_run
from tests.contract import check_model, checkerboard
from tests.tables.kinds import KINDS
from tests.tables.test_mapped import losses_of

SIZES = (4, 8)
IN_BATCH = {"uniform": 0, "in_batch": True}
LOSSES = {
    "bpr": {"name": "bpr", "negatives": {"uniform": 20}},
    "in_batch": {"name": "sampled_softmax", "distillation": 0.0, "negatives": IN_BATCH},
    "softmax": {"name": "softmax", "distillation": 0.0},
}


def settings(data, loss, epochs=30, **model):
    sizes = {"sizes": list(SIZES)}
    return RunConfig.model_validate(
        {
            "data": str(data),
            "threads": 1,
            "model": {"name": "two_tower", "granularities": sizes, **model},
            "loss": LOSSES[loss],
            "batching": {"batch_tokens": 64},
            "trainer": {
                "epochs": epochs,
                "patience": epochs,
                "validate_every": epochs,
                "optimizer": {"learning_rate": 0.01, "schedule": "constant"},
            },
        }
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_it_passes_the_checkerboard(loss, tmp_path):
    board = checkerboard(tmp_path / "board")
    counter = iter(range(9))

    def fit(_board, _rows):
        out = tmp_path / f"run{next(counter)}"
        return load_run(train(settings(board.folder, loss), out=out)).model

    check_model(fit, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_on_every_table_of_users_and_items(kind, tmp_path):
    board = checkerboard(tmp_path / "board", size=60)
    config = settings(
        board.folder, "in_batch", epochs=4, table=KINDS[kind], user_table=KINDS[kind],
        granularities={"sizes": [8, 16]},
    )  # fmt: skip
    run = train(config, out=tmp_path / "run")
    losses = losses_of(run)
    assert losses[-1] < losses[0] - 0.02
    model = load_run(run).model
    users = Histories(np.arange(60), np.arange(60, dtype=np.int32), np.arange(61))
    for vectors in (model.user_vectors(users), model.item_vectors()):
        assert vectors.shape == (60, 16) and torch.isfinite(vectors).all()


def batch_of(*lists):
    offsets = np.concatenate([[0], np.cumsum([len(items) for items in lists])]).astype(np.int64)
    items = np.concatenate(lists).astype(np.int32)
    return Batch(Histories(np.arange(len(lists)), items, offsets), items.astype(np.int64))


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = TwoTowerConfig(granularities=Granularities(sizes=SIZES, normalize=False))
    return TwoTower(config, num_items=12, num_users=3)


def test_every_interaction_is_a_pair_a_single_one_too(model):
    batch = batch_of([1, 2, 3], [7], [4, 4])
    losses = model.loss(batch, None).per_granularity
    users, items = torch.tensor([0, 0, 0, 1, 2, 2]), torch.tensor([1, 2, 3, 7, 4, 4])
    for g, size in enumerate(SIZES):
        scores = truncate(model.user_table.vectors(), size)[users] @ (
            truncate(model.item_vectors(), size).T
        )
        expected = torch.nn.functional.cross_entropy(scores, items)
        torch.testing.assert_close(losses[g], expected)


def test_sampled_and_full_softmax_agree_where_everything_is_drawn(model):
    batch = batch_of([1, 2, 3], [7, 5])
    everything = Negatives(torch.arange(12), None)
    full, sampled = model.loss(batch, None), model.loss(batch, everything)
    torch.testing.assert_close(full.per_granularity, sampled.per_granularity)


def test_a_user_is_known_by_index_and_not_by_history(model):
    one = Histories(np.array([2]), np.array([1, 2], np.int32), np.array([0, 2]))
    other = Histories(np.array([2]), np.array([9], np.int32), np.array([0, 1]))
    assert torch.equal(model.user_vectors(one), model.user_vectors(other))
    assert torch.equal(model.user_vectors(one)[0], model.user_table.vectors()[2])


def test_a_shared_space_holds_users_and_items_in_one_pool():
    table = {"name": "hashed", "method": "double", "share": 0.25}
    tree = {"granularities": {"sizes": [4, 8]}, "shared_table": True, "table": table}
    model = TwoTower(parse(TwoTowerConfig, tree, "here"), num_items=60, num_users=40)
    assert [tuple(p.shape) for p in model.parameters() if p.ndim > 1] == [(25, 8)]
    assert model.item_vectors().shape == (60, 8)
    assert model.user_table.vectors().shape == (40, 8)
    assert model.table.nbytes + model.user_table.nbytes == model.shared.nbytes == 25 * 32
    # The same number is another key for a user than for an item.
    assert not torch.equal(model.user_table(torch.tensor([5])), model.table(torch.tensor([5])))
    with pytest.raises(ConfigError, match="not both of them"):
        parse(TwoTowerConfig, {"shared_table": True, "table": {"name": "dynamic"}}, "here")


def test_a_shared_space_is_trained_and_evaluated(tmp_path):
    board = checkerboard(tmp_path / "board")
    table = {"name": "hashed", "method": "bloom", "share": 1.0}
    config = settings(board.folder, "softmax", shared_table=True, table=table)
    run = train(config, out=tmp_path / "run")
    value = evaluate(run, ks=(1,), with_baselines=False).value("recall", 1)
    assert value > 0.5


def short_histories(folder):
    """Half of the users have one training row: an item of their own group of four."""
    rows = [(user, 4 * (user % 5) + place) for user in range(40) for place in (0, 1, 2, 3)]
    few = [(user, item) for user, item in rows if user < 20 or item % 4 < 3]
    frame = pl.DataFrame(few, schema=["user_id", "item_id"], orient="row")
    return write_dataset(folder, frame, name="short")


def test_users_with_one_training_interaction_are_trained_on_it(tmp_path):
    data = short_histories(tmp_path / "data")
    run = train(settings(data.folder, "softmax", epochs=120), out=tmp_path / "run")
    loaded = load_run(run)
    lengths = loaded.split.train_end - loaded.split.start
    assert (lengths == 1).sum() == 20
    untrained = build_model(loaded.config, loaded.dataset)
    moved = loaded.model.user_table.vectors() - untrained.user_table.vectors()
    assert (moved.norm(dim=1) > 0.05).all()
    best = (loaded.model.user_table.vectors() @ loaded.model.item_vectors().T).argmax(1)
    assert best[20:].tolist() == [4 * (user % 5) for user in range(20, 40)]  # what they had


def test_users_that_training_has_not_seen_get_the_mean_of_those_it_has(model):
    model.note_users(np.array([True, False, True]))
    everyone = Histories(np.arange(3), np.array([1, 2, 3], np.int32), np.arange(4))
    model.eval()
    rows, found = model.user_table.vectors(), model.user_vectors(everyone)
    torch.testing.assert_close(found[[0, 2]], rows[[0, 2]])
    torch.testing.assert_close(found[1], (rows[0] + rows[2]) / 2)
    model.train()
    with torch.no_grad():
        model.user_table.weight.mul_(2.0)
    torch.testing.assert_close(model.eval().user_vectors(everyone)[1], (rows[0] + rows[2]) / 2)


def test_the_same_rows_are_looked_up_whoever_is_asked_for(model):
    """Processes that share a table look up together, each for users of its own."""
    model.note_users(np.array([True, False, True]))
    asked = []
    model.user_table.register_forward_hook(lambda *_: asked.append(1))
    for user in (0, 1):
        asked.clear()
        model.eval().user_vectors(
            Histories(np.array([user]), np.array([3], np.int32), np.arange(2))
        )
        assert len(asked) == 2, f"user {user}"  # the user's row, and those of the mean
