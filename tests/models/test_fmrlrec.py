import numpy as np
import pytest
import torch

from recsys.config import parse
from recsys.data.batching import Batch
from recsys.data.features.loading import load_features
from recsys.data.features.manifest import FeatureOrigin
from recsys.data.features.writing import write_numbers, write_vectors
from recsys.errors import ConfigError, DataError
from recsys.granularity import Granularities
from recsys.layers.lru import LRUConfig
from recsys.losses.softmax import Negatives
from recsys.models import FMRLRec, FMRLRecConfig
from recsys.prefixes import truncate
from recsys.recipes.training.train import train
from recsys.runs.config import RunConfig
from recsys.runs.loading import load_run
from tests.contract import check_model, checkerboard
from tests.models.test_models import histories

SMALL = Granularities(sizes=(8, 16))
CALM = LRUConfig(dropout=0.0, recurrence_dropout=0.0)
MADE = FeatureOrigin(source="made by hand")


@pytest.fixture
def board(tmp_path):
    """The checkerboard, with random texts for all items and pictures of some."""
    board = checkerboard(tmp_path / "board")
    rng = np.random.default_rng(0)
    for name, dim, share in (("text", 24, 1.0), ("image", 40, 0.5)):
        present = rng.random(board.num_items) < share
        write_vectors(board.folder, name, rng.normal(size=(20, dim)), present, MADE)
    write_numbers(board.folder, "price", np.ones(20), np.ones(20, bool), MADE)
    return board


@pytest.mark.parametrize(
    ("features", "ids"), [((), True), (("text",), False), (("text", "image"), True)]
)
def test_every_choice_of_content_passes_the_checkerboard(features, ids, board, tmp_path):
    counter = iter(range(9))

    def fit(_board, _rows):
        config = RunConfig.model_validate(
            {
                "data": str(board.folder),
                "threads": 1,
                "model": {
                    "name": "fmrlrec",
                    "granularities": {"sizes": [8, 16]},
                    "encoder": {"dropout": 0.0, "recurrence_dropout": 0.0},
                    "features": features,
                    "ids": ids,
                    "history_length": 12,
                },
                "loss": {"name": "softmax", "distillation": 0.0},
                "batching": {"batch_tokens": 64},
                "trainer": {
                    "epochs": 60,
                    "patience": 60,
                    "validate_every": 60,
                    "optimizer": {"learning_rate": 0.01, "schedule": "constant"},
                },
            }
        )
        return load_run(train(config, out=tmp_path / f"run{next(counter)}")).model

    check_model(fit, tmp_path)


def model_of(board, **changes):
    torch.manual_seed(0)
    config = FMRLRecConfig(granularities=SMALL, encoder=CALM, history_length=6, **changes)
    features = load_features(board.folder, config.features)
    return FMRLRec(config, board.num_items, features=features)


def test_what_it_is_trained_on_is_what_it_is_scored_by(board):
    """The loss is the unweighted mean of full cross-entropies of truncated vectors (eq. 4)."""
    model = model_of(board, ids=True)
    batch = Batch(histories([1, 2, 3], [4, 5]), np.array([2, 3, 4, 5, 6]))
    output = model.loss(batch, None)
    users, items = model.encode(batch.histories), model.item_vectors()
    expected = torch.stack(
        [
            torch.nn.functional.cross_entropy(
                truncate(users, size) @ truncate(items, size).T, torch.from_numpy(batch.targets)
            )
            for size in SMALL.sizes
        ]
    )
    torch.testing.assert_close(output.per_granularity, expected)
    torch.testing.assert_close(output.total, expected.mean())


def test_sampled_negatives_that_are_all_items_give_the_full_loss(board):
    model = model_of(board)
    batch = Batch(histories([1, 2, 3], [4, 5]), np.array([2, 3, 4, 5, 6]))
    everything = Negatives(torch.arange(board.num_items), None)
    torch.testing.assert_close(
        model.loss(batch, everything).per_granularity, model.loss(batch, None).per_granularity
    )


def test_features_are_of_length_one_side_by_side_and_zeros_where_absent(board):
    model = model_of(board)
    present = load_features(board.folder).vectors["image"].present
    text, image = model.content.split([24, 40], dim=1)
    torch.testing.assert_close(text.norm(dim=1), torch.ones(20))
    torch.testing.assert_close(image.norm(dim=1), torch.tensor(present.tolist()).float())


def test_features_are_no_part_of_the_weights(board):
    assert not any("content" in name for name in model_of(board).state_dict())


@pytest.mark.parametrize("num_layers", [1, 2])
def test_user_vectors_are_the_last_of_all_positions(board, num_layers):
    encoder = LRUConfig(num_layers=num_layers, max_radius=0.9)
    config = FMRLRecConfig(granularities=SMALL, encoder=encoder, features=(), ids=True)
    model = FMRLRec(config, board.num_items).eval()
    given = histories([1, 2, 3], [4], [5, 6, 7, 8])
    torch.testing.assert_close(model.user_vectors(given), model.encode(given)[[2, 3, 7]])


def test_a_changed_future_item_leaves_earlier_positions_unchanged(board):
    model = model_of(board).eval()
    before, after = (model.encode(histories([1, 2, 3, last])) for last in (4, 9))
    torch.testing.assert_close(before[:3], after[:3])
    assert not torch.allclose(before[3], after[3])


def test_user_vectors_see_the_most_recent_items_alone(board):
    model = model_of(board).eval()
    long = model.user_vectors(histories([7, 8, 9, 1, 2, 3, 4, 5], [6]))
    torch.testing.assert_close(long, model.user_vectors(histories([9, 1, 2, 3, 4, 5], [6])))


def test_history_dropout_hides_items_in_training_alone(board):
    model = model_of(board, history_dropout=0.5)
    torch.manual_seed(0)
    rows = model.item_vectors().detach().requires_grad_()
    model._encode(histories(list(range(20))), rows).sum().backward()
    assert 4 < int((rows.grad == 0).all(1).sum()) < 16
    model.eval()
    assert torch.equal(
        model.encode(histories([1, 2])), model_of(board).eval().encode(histories([1, 2]))
    )


def test_a_feature_that_is_not_there_or_is_no_vectors_is_refused_with_what_to_do(board):
    with pytest.raises(DataError, match=r"has no feature 'audio'.*`recsys encode`"):
        model_of(board, features=("audio",))
    with pytest.raises(DataError, match=r"'price' as vectors.*model\.features"):
        model_of(board, features=("text", "price"))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"name": "sasrek"}, "no model named 'sasrek'; known: sasrec, bert4rec, comirec, fmrlrec"),
        ({"name": "fmrlrec", "encoder": {"layer": "ligr"}}, r"model\.encoder\.layer: unknown key"),
        ({"encodr": {}}, r"model\.encodr: unknown key; did you mean 'encoder'"),
        ({"name": "fmrlrec", "features": []}, "neither features nor ids"),
        ({"name": "fmrlrec", "granularities": {"sizes": [8, 9]}}, "adds 1 coordinate"),
        ({"name": "fmrlrec", "encoder": {"min_radius": 0.5}}, "must be below max_radius"),
        ({"encoder": {"nested": True, "num_heads": 3}}, "num_heads 3 does not divide the 8"),
        ({"encoder": {"nested": True, "nested_from": 24}}, "nested_from 24 is not among"),
        ({"encoder": {"nested_from": 64}}, "has no effect without encoder.nested"),
    ],
)
def test_a_config_that_cannot_be_is_refused_with_the_reason(model, message):
    with pytest.raises(ConfigError, match=message):
        parse(RunConfig, {"data": "data/x", "model": model}, "run.yaml")
