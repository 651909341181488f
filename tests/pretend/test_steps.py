"""Every model, loss and table that a device can hold takes the steps that it takes on the CPU."""

import numpy as np
import polars as pl
import pytest
import torch

from recsys.data.dataset import write_dataset
from recsys.errors import ConfigError
from recsys.losses import LOSSES
from recsys.runs.config import RunConfig
from recsys.tables.plain.lookup import lookup
from recsys.training.optimizers import build_optimizer
from tests.pretend.device import NAME, install, waits
from tests.pretend.steps import check_alike, check_checkpoints_cross, figures, ready, step
from tests.recipes.training.test_content import write_features
from tests.tables.kinds import KINDS

install()
MODELS = ("sasrec", "fmrlrec", "two_tower")
PAIRS = ("mf", "lightgcn", "ltgnn", "ultragcn", "svd_gcn", "feature_towers")
ANY_MODEL = [name for name in LOSSES.names() if name != "constrained_bce"]
"""Losses that fit every model."""
RANKED = ("sampled_softmax", "cosine_contrastive")
"""Losses of dot products, and of cosines."""
TABLES = [kind for kind in KINDS if not kind.startswith("mapped")]
SAMPLED = {"negatives": {"uniform": 40, "popularity": 5, "in_batch": True}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Walks on a circle of 70 items: more than a codebook of 16 words."""
    rng = np.random.default_rng(0)
    starts, lengths = rng.integers(0, 70, size=60), rng.integers(4, 9, size=60)
    users = np.repeat(np.arange(60), lengths)
    walks = zip(starts, lengths, strict=True)
    items = np.concatenate([(start + np.arange(length)) % 70 for start, length in walks])
    frame = pl.DataFrame({"user_id": users, "item_id": items})
    return write_dataset(tmp_path_factory.mktemp("circle") / "data", frame, name="circle").folder


def settings(data, name, loss="sampled_softmax", **model):
    sizes = {"sizes": [4, 16]} | ({"normalize": True} if loss == "cosine_contrastive" else {})
    tree = {
        "data": str(data),
        "protocol": "request-time" if model.get("time") == "request" else "s3rec",
        "model": {"name": name, "granularities": sizes, "history_length": 6, **model},
        "loss": {"name": loss, **({} if loss == "softmax" else SAMPLED)},
        "batching": {"batch_tokens": 96},
        "trainer": {"optimizer": {"learning_rate": 0.01}},
    }
    return RunConfig.model_validate(tree)


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("loss", ANY_MODEL)
@pytest.mark.parametrize("name", MODELS)
def test_steps_and_ranks_are_those_of_the_cpu(name, loss, kind, data):
    ids = {"ids": True, "features": []} if name == "fmrlrec" else {}
    config = settings(data, name, loss, table=KINDS[kind], **ids)
    # What is ranked and exported is a matter of weights, which are compared, and of no loss.
    whole = loss in RANKED
    check_alike(figures(config, "cpu", whole=whole), figures(config, NAME, whole=whole))


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """Items with features."""
    walks = pl.DataFrame({"user_id": np.repeat(np.arange(50), 6), "item_id": _walks(50, 6)})
    folder = write_dataset(tmp_path_factory.mktemp("content") / "data", walks, name="walks").folder
    write_features(folder)
    return folder


@pytest.mark.parametrize("loss", ANY_MODEL)
def test_items_made_of_content_take_the_steps_of_the_cpu(loss, content):
    # Without dropout: a device draws for every item that is named, the CPU once for each.
    still = {"encoder": {"dropout": 0.0}, "history_dropout": 0.0}
    items = {"features": ["text", "genres", "year"], "modality_dropout": 0.0, "id_dropout": 0.0}
    config = settings(content, "sasrec", loss, items=items, **still)
    check_alike(figures(config, "cpu"), figures(config, NAME))
    lru = settings(content, "fmrlrec", loss, features=["text"])
    check_alike(figures(lru, "cpu"), figures(lru, NAME))


def test_views_of_items_take_the_steps_of_the_cpu(content):
    items = {"features": ["text", "genres", "year"], "modality_dropout": 0.0, "id_dropout": 0.0}
    config = settings(content, "feature_towers", items=items, views={"items": 9})
    check_alike(figures(config, "cpu"), figures(config, NAME))


def of_pairs(data, name):
    """The config of a model of pairs."""
    more = {"directions": 8} if name == "svd_gcn" else {}
    loss = "constrained_bce" if name == "ultragcn" else "sampled_softmax"
    return settings(data, name, loss, **more)


@pytest.mark.parametrize("name", PAIRS)
def test_models_of_pairs_take_the_steps_of_the_cpu(name, data):
    config = of_pairs(data, name)
    check_alike(figures(config, "cpu"), figures(config, NAME))


def _walks(users, length):
    starts = np.random.default_rng(1).integers(0, 25, size=(users, 1))
    starts[:25, 0] = np.arange(25)
    return ((starts + np.arange(length)) % 25).ravel()


@pytest.mark.parametrize("kind", ["seen_negatives", "repeat_bias", "sparse_gradients", "nested"])
def test_options_of_a_model_change_nothing_about_that(kind, data):
    encoder = {"nested": True, "num_heads": 1} if kind == "nested" else {"distances": 6}
    option = {} if kind == "nested" else {kind: True}
    config = settings(data, "sasrec", history_length=4, encoder=encoder, **option)
    check_alike(figures(config, "cpu"), figures(config, NAME))


@pytest.mark.parametrize("kind", TABLES)
def test_a_checkpoint_goes_on_on_another_device(kind, data, tmp_path):
    check_checkpoints_cross(settings(data, "sasrec", table=KINDS[kind]), tmp_path)


def test_users_and_items_of_one_space_are_on_one_device(data):
    config = settings(data, "two_tower", shared_table=True, table=KINDS["multi_probe"])
    check_alike(figures(config, "cpu"), figures(config, NAME))


def test_a_table_that_only_the_cpu_can_hold_is_refused(data):
    config = settings(data, "sasrec", table={"name": "mapped"})
    with pytest.raises(ConfigError, match="table is a table in files or in several processes"):
        ready(config, NAME)
    assert ready(config, "auto")[2].device.type == "cpu"


def test_a_tensor_that_was_left_on_the_cpu_stops_the_step(data, monkeypatch):
    planted = lambda weight, rows, size, **how: lookup(weight, rows.cpu(), size, **how)  # noqa: E731
    monkeypatch.setattr("recsys.tables.plain.dense.lookup", planted)
    with pytest.raises(RuntimeError, match="expected all tensors to be on pretend:0"):
        figures(settings(data, "sasrec"), NAME)
    figures(settings(data, "sasrec"), "cpu")


@pytest.mark.parametrize("loss", ANY_MODEL)
@pytest.mark.parametrize("name", MODELS)
def test_no_step_makes_the_host_wait(name, loss, data):
    ids = {"ids": True, "features": []} if name == "fmrlrec" else {}
    check_no_waits(settings(data, name, loss, **ids))


@pytest.mark.parametrize("kind", [kind for kind in TABLES if kind != "dynamic"])
def test_no_table_makes_the_host_wait(kind, data):
    check_no_waits(settings(data, "sasrec", table=KINDS[kind]))


def test_features_that_the_device_holds_make_no_host_wait(content, monkeypatch):
    items = {"features": ["text", "genres", "year"]}
    check_no_waits(settings(content, "sasrec", items=items))
    monkeypatch.setattr("recsys.towers.items._HELD", 0.0)
    with pytest.raises(AssertionError, match="_to_copy"):
        check_no_waits(settings(content, "sasrec", items=items))
    figures(settings(content, "sasrec", items=items), NAME)


def check_no_waits(config):
    """A step after the first, which alone may wait."""
    _, _, model, feed = ready(config, NAME)
    optimizer = build_optimizer(model, config.trainer.optimizer)
    feeds = feed.epoch(0, 0, 0)
    step(model.train(), next(feeds), optimizer, 0)
    with waits() as found:
        step(model, next(feeds), optimizer, 1)
    assert found == []


def test_a_step_that_waits_is_noticed(data, monkeypatch):
    _, _, model, feed = ready(settings(data, "sasrec"), NAME)
    real = model.objective

    def waiting(users, *args, **how):
        assert torch.isfinite(users).all()
        return real(users, *args, **how)

    monkeypatch.setattr(model, "objective", waiting)
    optimizer = build_optimizer(model, settings(data, "sasrec").trainer.optimizer)
    with waits() as found:
        step(model.train(), next(feed.epoch(0, 0, 0)), optimizer, 0)
    assert "_local_scalar_dense" in found
