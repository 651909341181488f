"""Every model of pairs: the contract, anonymous histories, and what each adds."""

import numpy as np
import pytest
import torch

from recsys.data.batching import Batch
from recsys.data.histories import Histories
from recsys.data.negatives import NegativesConfig
from recsys.errors import ConfigError
from recsys.layers.graph import BipartiteGraph, leading_directions
from recsys.models import MODELS
from recsys.recipes.training.train import train
from recsys.runs.config import RunConfig
from recsys.runs.loading import load_run
from tests.contract import check_model, checkerboard

SOFTMAX = {"name": "softmax", "distillation": 0.0}
LEARNED = {"learned_scale": True, "initial_scale": 15.0}
SAMPLED = {"name": "sampled_softmax", "negatives": {"uniform": 20}}
CASES = {
    "mf": ({"name": "mf"}, SOFTMAX),
    "mf_bpr": ({"name": "mf"}, {"name": "bpr", "negatives": {"uniform": 20}}),
    "mf_gbce": ({"name": "mf"}, {"name": "gbce", "negatives": {"uniform": 20}}),
    "mf_of_items": ({"name": "mf", "users": "history"}, SAMPLED),
    "simplex": (
        {"name": "mf", "users": "both"},
        {"name": "cosine_contrastive", "negatives": {"uniform": 20}, "negative_weight": 5.0},
    ),
    "lightgcn": ({"name": "lightgcn", "granularities": LEARNED}, SAMPLED),
    "lightgcn_normal": ({"name": "lightgcn", "init": "normal", "layers": 2}, SOFTMAX),
    "lightgcn_popular": ({"name": "lightgcn", "popularity": 0.05}, SOFTMAX),
    "simplex_popular": ({"name": "mf", "users": "both", "popularity": 0.05}, SOFTMAX),
    "ltgnn": ({"name": "ltgnn"}, SOFTMAX),
    "ultragcn": (
        {"name": "ultragcn", "neighbours": 3, "granularities": {"normalize": False}},
        {"name": "constrained_bce", "negatives": {"uniform": 20}, "negative_weight": 10.0},
    ),
    "svd_gcn": ({"name": "svd_gcn", "directions": 10}, SOFTMAX),
    "svd_gcn_rows": ({"name": "svd_gcn", "directions": 2, "rows": True}, SAMPLED),
    "feature_towers": (
        {"name": "feature_towers"},
        {"name": "sampled_softmax", "negatives": {"uniform": 10, "in_batch": True}},
    ),
}


def settings(data, case, **trainer):
    model, loss = CASES[case]
    granularities = {"sizes": [4, 8]} | model.get("granularities", {})
    return RunConfig.model_validate(
        {
            "data": str(data),
            "threads": 1,
            "model": model | {"granularities": granularities},
            "loss": loss,
            "batching": {"batch_tokens": 64},
            "trainer": {
                "epochs": 25,
                "patience": 25,
                "validate_every": 25,
                "optimizer": {"learning_rate": 0.03, "schedule": "constant", "warmup_steps": 0},
            }
            | trainer,
        }
    )


@pytest.mark.parametrize("case", CASES)
def test_it_passes_the_checkerboard_and_folds_strangers_in(case, tmp_path):
    board, numbers = checkerboard(tmp_path / "board"), iter(range(9))

    def fit(_board, _rows):
        out = tmp_path / f"run{next(numbers)}"
        return load_run(train(settings(board.folder, case), out=out)).model

    check_model(fit, tmp_path)
    model = load_run(tmp_path / "run0").model
    items = board.items.reshape(20, -1)[:, :8]
    strangers = Histories(np.full(20, -1), items.ravel(), np.arange(0, 161, 8))
    with torch.inference_mode():
        users = model.user_vectors(strangers)
        scores = users @ model.item_vectors().T
        parity = scores[:, torch.from_numpy(np.array(board.items[:10]))].mean(1)  # items of user 0
        others = scores[:, torch.from_numpy(np.array(board.items[10:20]))].mean(1)
        tower = model.user_tower()
        vectors = model.item_vectors()[torch.from_numpy(items.astype(np.int64))]
        torch.testing.assert_close(tower(vectors, torch.full((20,), 8)), users)
    assert ((parity > others).numpy() == (np.arange(20) % 2 == 0)).all()


def test_what_the_config_leaves_open_is_what_pair_models_are_usually_trained_with():
    def read(**given):
        return RunConfig.model_validate({"data": "x", "model": {"name": "lightgcn"}} | given)

    plain = read()
    assert plain.loss.negatives.uniform == 65_536 and plain.loss.distillation == 0.5
    assert (plain.batching.batch_tokens, plain.trainer.optimizer.learning_rate) == (4096, 0.01)
    assert not plain.model.granularities.learned_scale
    assert plain.model.granularities.initial_scale == 10
    parts = read(
        loss={"negatives": {"popularity": 9}},
        trainer={"epochs": 3, "optimizer": {"warmup_steps": 1}},
    )
    assert (parts.loss.negatives.uniform, parts.loss.negatives.popularity) == (65_536, 9)
    assert parts.trainer.epochs == 3 and parts.trainer.optimizer.learning_rate == 0.01
    other = read(loss={"name": "bpr"}, batching={"batch_tokens": 100})
    assert other.loss.negatives == NegativesConfig()  # another loss: nothing is carried over
    assert other.batching.batch_tokens == 100
    as_object = read(model=MODELS.find("mf").Config())
    assert as_object.loss.negatives.uniform == 65_536
    sequences = RunConfig.model_validate({"data": "x"})
    assert sequences.loss.negatives.uniform == NegativesConfig().uniform
    assert sequences.batching.batch_tokens == 768
    # What a run folder holds is the whole config, read as it stands.
    assert RunConfig.model_validate(plain.model_dump(), context={"stored": True}) == plain


def test_an_unknown_model_is_told_as_before():
    with pytest.raises(ValueError, match="lightgnn"):
        RunConfig.model_validate({"data": "x", "model": {"name": "lightgnn"}})


def test_a_stranger_at_a_prefix_is_made_of_prefixes(tmp_path):
    board = checkerboard(tmp_path / "board")
    model = load_run(train(settings(board.folder, "lightgcn", epochs=2), out=tmp_path / "r")).model
    matrix = model.fold_matrix()
    assert (matrix[:4, 4:] == 0).all() and (matrix[4:, :4] != 0).any()


def test_a_graph_model_that_was_told_nothing_says_so():
    for name in ("lightgcn", "ltgnn", "svd_gcn"):
        kind = MODELS.find(name)
        config = kind.Config.model_validate({"name": name, "granularities": {"sizes": [2, 4]}})
        if name == "svd_gcn":
            config = config.model_copy(update={"directions": 4})
        model = kind(config, 9, num_users=8)
        with pytest.raises(ConfigError, match="note_rows"):
            model.begin(lambda most: None)


@pytest.mark.parametrize(
    "told", [{"name": "mf"}, {"name": "mf", "users": "history"}, {"name": "ultragcn"}]
)
def test_rows_begin_as_leading_directions(told):
    items = np.random.default_rng(0).integers(0, 9, 32).astype(np.int32)
    rows = Histories(np.arange(8), items, np.arange(0, 33, 4))
    model = MODELS.find(told["name"])(_config(told), 9, num_users=8)
    model.begin(lambda most: rows)
    values, left, right = leading_directions(BipartiteGraph(rows, 8, 9), 2)
    sides = [(model.table.weight, right)]
    if model.user_table is not None:
        sides.append((model.user_table.weight, left))
    for weight, directions in sides:
        first, second = weight[:, 0], weight[:, 1]
        assert torch.allclose(first, directions[:, 0] * 0.1 * len(weight) ** 0.5, atol=1e-5)
        share = (values[1] / values[0]).sqrt()
        assert torch.allclose(
            second, directions[:, 1] * share * 0.1 * len(weight) ** 0.5, atol=1e-5
        )


@pytest.mark.parametrize("name", ["mf", "lightgcn", "ltgnn", "ultragcn"])
def test_an_item_without_a_training_row_leaves_the_first_step_to_the_others(name):
    items = np.random.default_rng(0).integers(0, 8, 32).astype(np.int32)
    rows = Histories(np.arange(8), items, np.arange(0, 33, 4))
    torch.manual_seed(0)
    model = MODELS.find(name)(_config({"name": name}), 9, num_users=8)
    model.note_rows(rows)
    model.begin(lambda most: rows)
    model.loss(Batch(rows, items.astype(np.int64)), None).total.backward()
    pulls = model.table.weight.grad.norm(dim=1)
    assert 0 < pulls[8] < 10 * pulls[:8].max()


def test_normal_first_values_stay_as_they_were_drawn():
    hashed = {"name": "mf", "table": {"name": "hashed"}}
    for told in ({"name": "mf", "init": "normal"}, {"name": "ultragcn", "init": "normal"}, hashed):
        model = MODELS.find(told["name"])(_config(told), 9, num_users=8)
        before = [each.clone() for each in model.parameters()]
        assert model.begin(lambda most: None) is None
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    with pytest.raises(ValueError, match="user_table is hashed; use user_table"):
        _config({"name": "mf", "init": "spectral", "user_table": {"name": "hashed"}})


def _config(told):
    owner = MODELS.find(told["name"])
    return owner.Config.model_validate(told | {"granularities": {"sizes": [2, 4]}})
