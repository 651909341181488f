import numpy as np
import pytest
import torch
from pydantic import ValidationError

from recsys.config import parse
from recsys.data.histories import Histories
from recsys.granularity import Granularities
from recsys.layers.transformer import TransformerConfig
from recsys.losses.softmax import Negatives
from recsys.models import FMRLRecConfig, SASRecConfig, TwoTowerConfig
from recsys.models.sasrec import SASRec
from recsys.prefixes import truncate
from recsys.recipes.training.train import train
from recsys.runs.config import RunConfig, used_tree
from recsys.runs.loading import load_run
from tests.contract import check_model, checkerboard

PLAIN = {"learning_rate": 0.01, "schedule": "cosine"}
SMALL = Granularities(sizes=(8, 16), normalize=False)


def settings(name, data, **model):
    return RunConfig.model_validate(
        {
            "data": str(data),
            "threads": 1,
            "model": {
                "name": name,
                "granularities": {"sizes": [8, 16], "normalize": False},
                "encoder": {"dropout": 0.0},
                "history_length": 12,
                "history_dropout": 0.0,
                **model,
            },
            "loss": {"name": "softmax", "distillation": 0.0},
            "batching": {"batch_tokens": 64},
            # The rows that are left out cannot be forecast by validation here: fit to the end, but
            # not so long that the rows are known by heart.
            "trainer": {
                "epochs": 30,
                "patience": 30,
                "validate_every": 30,
                "optimizer": PLAIN,
            },
        }
    )


@pytest.mark.parametrize(
    ("layer", "nested"),
    [("prenorm", False), ("sasrec", False), ("ligr", False), ("sasrec", True), ("ligr", True)],
)
def test_every_kind_of_layer_passes_the_checkerboard(layer, nested, tmp_path):
    board = checkerboard(tmp_path / "board")
    counter = iter(range(9))

    def fit(_board, _rows):
        encoder = {"dropout": 0.0, "layer": layer, "nested": nested}
        config = settings("sasrec", board.folder, encoder=encoder)
        return load_run(train(config, out=tmp_path / f"run{next(counter)}")).model

    check_model(fit, tmp_path)


@pytest.fixture
def model():
    torch.manual_seed(0)
    encoder = TransformerConfig(num_layers=2)
    config = SASRecConfig(granularities=SMALL, history_length=5, encoder=encoder)
    return SASRec(config, num_items=30).eval()


def histories(*lists):
    lengths = [len(items) for items in lists]
    return Histories(
        np.arange(len(lists)),
        np.concatenate(lists).astype(np.int32),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )


def test_a_changed_future_item_leaves_earlier_positions_unchanged():
    config = SASRecConfig(granularities=SMALL, history_length=5, positions="from_start")
    model = SASRec(config, num_items=30).eval()
    before, after = (model.encode(histories([1, 2, 3, last])) for last in (4, 9))
    torch.testing.assert_close(before[:3], after[:3])
    assert not torch.allclose(before[3], after[3])


def test_user_vectors_see_the_most_recent_items_alone(model):
    long = model.user_vectors(histories([7, 8, 9, 1, 2, 3, 4, 5], [6]))
    short = model.user_vectors(histories([1, 2, 3, 4, 5], [6]))
    torch.testing.assert_close(long, short)


def test_a_batch_of_users_equals_users_one_by_one(model):
    lists = ([1, 2, 3], [4], [5, 6, 7, 8, 9])
    together = model.user_vectors(histories(*lists))
    alone = torch.cat([model.user_vectors(histories(items)) for items in lists])
    torch.testing.assert_close(together, alone)


def test_what_it_is_trained_on_is_what_it_is_scored_by(model):
    """The loss at a granularity is the cross-entropy of truncated user and item vectors."""
    from recsys.data.batching import Batch

    batch = Batch(histories([1, 2, 3], [4, 5]), np.array([2, 3, 4, 5, 6]))
    losses = model.loss(batch, None).per_granularity
    users, items = model.encode(batch.histories), model.item_vectors()
    for g, size in enumerate(SMALL.sizes):
        scores = truncate(users, size) @ truncate(items, size).T
        expected = torch.nn.functional.cross_entropy(scores, torch.from_numpy(batch.targets))
        torch.testing.assert_close(losses[g], expected)


def test_history_dropout_hides_items_in_training_alone():
    encoder = TransformerConfig(dropout=0.0)
    config = SASRecConfig(granularities=SMALL, encoder=encoder, history_dropout=0.5)
    model = SASRec(config, num_items=30)
    history = histories(list(range(20)))
    torch.manual_seed(0)
    rows = model.table(torch.arange(20)).detach().requires_grad_()
    model._encode(history, rows).sum().backward()
    hidden = (rows.grad == 0).all(1)
    assert 4 < int(hidden.sum()) < 16
    model.eval()
    plain = SASRec(SASRecConfig(granularities=SMALL, encoder=encoder), num_items=30).eval()
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(model.encode(history), plain.encode(history))


def test_sparse_gradients_of_a_sampled_step_are_those_of_a_dense_one():
    from recsys.data.batching import Batch

    batch = Batch(histories([1, 2, 3], [4, 5]), np.array([2, 3, 4, 5, 6]))
    negatives = Negatives(torch.tensor([0, 5, 9, 20]), torch.zeros(4))
    gradients = []
    for sparse in (False, True):
        torch.manual_seed(0)
        config = SASRecConfig(
            granularities=SMALL, encoder=TransformerConfig(dropout=0.0), sparse_gradients=sparse
        )
        model = SASRec(config, num_items=30)
        model.loss(batch, negatives).total.backward()
        gradients.append(model.table.weight.grad)
    assert gradients[1].is_sparse
    touched = set(gradients[1].coalesce().indices()[0].tolist())
    assert touched == {0, 1, 2, 3, 4, 5, 6, 9, 20}
    torch.testing.assert_close(gradients[1].to_dense(), gradients[0])


def test_a_config_file_that_names_sizes_alone_keeps_cosine_scores():
    named = SASRecConfig.model_validate({"granularities": {"sizes": [4, 8]}}).granularities
    assert named.sizes == (4, 8) and named.normalize and named.learned_scale
    assert named.initial_scale == SASRecConfig().granularities.initial_scale
    plain = SASRecConfig.model_validate({"granularities": {"sizes": [4, 8], "normalize": False}})
    assert plain.granularities == Granularities(sizes=(4, 8))


def test_scales_do_not_grow_unless_it_is_said_or_they_are_fixed():
    def grows(**given):
        return SASRecConfig.model_validate({"granularities": given}).granularities.scale_grows

    assert not any((grows(), grows(sizes=[4, 8]), grows(sizes=[8]), grows(initial_scale=15.0)))
    assert all((grows(scale_grows=True), grows(learned_scale=False), grows(normalize=False)))


def test_a_run_made_like_an_older_one_has_no_setting_that_it_did_not_know():
    def read(loss, **how):
        return parse(RunConfig, {"data": "x", "loss": {"name": loss}}, "a file", **how)

    fresh, old = read("sampled_softmax"), read("sampled_softmax", stored=True)
    assert (fresh.loss.focus, fresh.trainer.histories) == (0.1, 450_000)
    assert (old.loss.focus, old.trainer.histories) == (0.0, None)
    again = parse(RunConfig, used_tree(old), "a file")
    assert (again.loss.focus, again.trainer.histories) == (0.0, None)
    assert parse(RunConfig, used_tree(fresh), "a file") == fresh
    other = read("bpr", stored=True)
    assert parse(RunConfig, used_tree(other), "a file").loss == other.loss


def test_a_bias_by_distance_is_not_of_the_nested_attention():
    with pytest.raises(ValueError, match=r"encoder\.distances is an option of plain attention"):
        SASRecConfig.model_validate({"encoder": {"nested": True, "distances": 10}})


def test_short_granularities_count_more_unless_weights_are_given():
    def weights_of(**given):
        return SASRecConfig.model_validate({"granularities": given}).granularities.weights

    assert weights_of() == SASRecConfig().granularities.weights == (8, 8, 4, 2, 2, 3)
    assert weights_of(sizes=[4, 8, 64]) == (8, 4, 3)
    assert weights_of(sizes=[4]) == (3,)
    assert weights_of(sizes=[4, 8, 16], weights=[1, 3, 1]) == (1, 3, 1)
    assert weights_of(sizes=[4, 8, 16], weights=None) is None


@pytest.mark.parametrize("sizes", [[0, 8], ["a", 8], [], [None]])
def test_wrong_sizes_are_told_as_such(sizes):
    with pytest.raises(ValidationError, match=r"granularities\.sizes|granularities"):
        SASRecConfig.model_validate({"granularities": {"sizes": sizes}})


@pytest.mark.parametrize("layer", ["prenorm", "sasrec", "ligr"])
@pytest.mark.parametrize(("num_layers", "num_heads"), [(1, 1), (2, 2)])
def test_user_vectors_are_what_the_encoder_gives_at_the_last_item(layer, num_layers, num_heads):
    torch.manual_seed(1)
    encoder = TransformerConfig(layer=layer, num_layers=num_layers, num_heads=num_heads)
    config = SASRecConfig(granularities=SMALL, history_length=5, encoder=encoder)
    model = SASRec(config, num_items=30).eval()
    with torch.no_grad():
        for weights in model.parameters():  # biases as well: they are zeros or ones at first
            weights.normal_()
    some = histories([1, 2, 3], [4], [5, 6, 7, 8, 9], [2, 2])
    torch.testing.assert_close(
        model.user_vectors(some), model.encode(some)[[2, 3, 8, 10]], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("config", [SASRecConfig, TwoTowerConfig, FMRLRecConfig])
@pytest.mark.parametrize(
    "named",
    [
        {},
        {"sizes": (4, 8)},
        {"sizes": (4, 8), "normalize": False},
        {"sizes": (4, 8), "weights": None},
        {"sizes": (4, 8), "learned_scale": False},
        {"normalize": True, "initial_scale": 3.0},
    ],
)
def test_granularities_mean_the_same_as_a_mapping_and_as_an_object(config, named):
    extra = {"features": ("text",)} if config is FMRLRecConfig else {}
    mapping = config(granularities=named, **extra)
    assert mapping == config(granularities=Granularities(**named), **extra)
    assert mapping == config.model_validate(mapping.model_dump())
