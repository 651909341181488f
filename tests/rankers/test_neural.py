"""Neural rankers: they learn, are kept and scored without torch, and work at every width."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.errors import ConfigError, DataError
from recsys.rankers.base import Ranker
from recsys.rankers.examples import Examples, Schema
from recsys.rankers.layers.inputs import Batch
from recsys.rankers.neural.batches import Batches
from recsys.rankers.neural.fitting import fit_network
from recsys.rankers.registry import RANKERS
from tests.rankers.conftest import NESTED, NEURAL, config_of
from tests.rankers.made import SCHEMA, made


def auc(scores, labels):
    """Share of pairs of a target and another row that stand in the right order."""
    positive, negative = scores[labels > 0], scores[labels <= 0]
    return float((positive[:, None] > negative[None]).mean())


def part(examples, requests, *, histories=True):
    """Some requests of examples, one by one, in the order asked for."""
    offsets, at = examples.offsets, examples.history_offsets
    rows = np.concatenate([np.arange(offsets[q], offsets[q + 1]) for q in requests])
    sizes = [offsets[q + 1] - offsets[q] for q in requests]
    lengths = [at[q + 1] - at[q] for q in requests]
    return Examples(
        numbers=examples.numbers[rows],
        fields=examples.fields[rows],
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        items=examples.items[rows],
        history_items=np.concatenate([examples.history_items[at[q] : at[q + 1]] for q in requests]),
        history_offsets=np.concatenate([[0], np.cumsum(lengths)]),
    )


@pytest.mark.parametrize("name", NEURAL)
def test_a_ranker_learns_and_is_kept(name, fitted, tmp_path):
    ranker, test = fitted[name], fitted.test
    assert isinstance(ranker, Ranker)
    scores = ranker.scores(test)
    assert auc(scores, test.labels) > 0.87
    ranker.save(tmp_path)
    opened = type(config_of(name)).load(tmp_path, SCHEMA)
    np.testing.assert_array_equal(opened.scores(test), scores)
    requests = [7, 3, 140]
    few = np.concatenate([np.arange(6) + 6 * q for q in requests])
    np.testing.assert_allclose(ranker.scores(part(test, requests)), scores[few], atol=1e-5)
    np.testing.assert_allclose(ranker.scores(part(test, [3])), scores[18:24], atol=1e-5)


@pytest.mark.parametrize("name", NESTED)
def test_a_nested_ranker_serves_at_each_width(name, fitted, tmp_path):
    ranker, test = fitted[name], fitted.test
    narrow = ranker.at(0.5)
    scores = narrow.scores(test)
    assert auc(scores, test.labels) > 0.87
    assert not np.allclose(scores, ranker.scores(test), atol=1e-3)
    assert narrow.multiply_adds() < 0.6 * ranker.multiply_adds()
    assert narrow.nbytes < ranker.nbytes
    narrow.save(tmp_path)
    opened = type(config_of(name)).load(tmp_path, SCHEMA)
    np.testing.assert_array_equal(opened.scores(test), scores)
    np.testing.assert_array_equal(opened.at(1.0).scores(test), ranker.scores(test))


@pytest.mark.parametrize("name", NEURAL)
def test_every_width_of_a_network_trains(name, fitted):
    """Without export: each network, at a width of no round number of units."""
    config = config_of(name, widths={"shares": [0.3, 1.0]}, training={"epochs": 6})
    network = fit_network(config, SCHEMA, fitted.train, fitted.validation, 0)
    arrays = Batches(fitted.test, network.reads, 50).arrays(np.arange(900))
    batch = Batch(**{name: torch.from_numpy(array) for name, array in arrays.items()})
    for share in (0.3, 1.0):
        assert auc(network(batch, share).numpy(), fitted.test.labels) > 0.85


def test_scores_do_not_depend_on_the_order_of_the_history_of_others(fitted):
    """A DIN reads the histories of its own requests."""
    test = fitted.test
    at = test.history_offsets
    with_history = int(np.flatnonzero(np.diff(at) > 0)[0])
    changed = test.history_items.copy()
    changed[at[with_history] : at[with_history + 1]] = 29
    found = fitted["din"].scores(replace(test, history_items=changed))
    differ = np.abs(found - fitted["din"].scores(test)) > 1e-6
    assert set(np.flatnonzero(differ) // 6) == {with_history}


def scores_of(config, examples, seed=0, shown=None):
    """Scores of a network that is fitted and not exported."""
    network = fit_network(config, SCHEMA, *examples, seed)
    shown = shown or examples[1]
    arrays = Batches(shown, network.reads, 50).arrays(np.arange(shown.offsets[-1]))
    return network(Batch(**{name: torch.from_numpy(each) for name, each in arrays.items()})).numpy()


def test_fitting_is_repeated_by_its_seed():
    examples, config = (made(60, 0), made(30, 1)), config_of("dlrm", training={"epochs": 1})
    before = torch.random.get_rng_state()
    one, same, other = (scores_of(config, examples, seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


@pytest.mark.parametrize("loss", ["pairwise", "listwise", "lambdarank"])
def test_losses_within_requests_learn(loss):
    test = made(100, 2)
    config = config_of("dlrm", training={"loss": loss, "averaging": 0.9})
    scores = scores_of(config, (made(500, 0), made(100, 1)), shown=test).reshape(-1, 6)
    labels = test.labels.reshape(-1, 6)
    first = labels[np.arange(len(labels)), scores.argmax(axis=1)]
    assert first[labels.any(axis=1)].mean() > 0.8


@pytest.mark.parametrize("table", ["hashed", "low_rank"])
def test_large_fields_have_tables_of_their_own(table):
    """A list of two values, whose order says nothing, in tables of each kind."""
    examples = made(60, 0), made(30, 1)
    large = {"table": table, "from_size": 9, "share": 0.9}
    inputs = {"large": large, "embedding_dim": 32}
    config = config_of("dcn_v2", inputs=inputs, training={"epochs": 1})
    swapped = replace(examples[1], fields=examples[1].fields[:, [0, 1, 3, 2]])
    found = (scores_of(config, examples, shown=shown) for shown in (examples[1], swapped))
    np.testing.assert_allclose(*found, atol=1e-5)


def test_a_hashed_field_is_exported():
    examples = made(30, 0), made(30, 1)
    inputs = {"large": {"table": "hashed", "from_size": 9, "share": 0.9}}
    config = config_of("dlrm", inputs=inputs, training={"epochs": 1})
    ranker = config.fit(SCHEMA, *examples, 0)
    np.testing.assert_allclose(ranker.scores(examples[1]), scores_of(config, examples), atol=1e-4)


def test_doors_say_what_is_wrong(fitted, tmp_path):
    test, dlrm = fitted.test, fitted["dlrm"]
    with pytest.raises(ConfigError, match=r"width 0.3 is not among \(1.0,\)"):
        dlrm.at(0.3)
    with pytest.raises(DataError, match="shape"):
        dlrm.scores(replace(test, numbers=test.numbers[:, :1]))
    with pytest.raises(DataError, match="none"):
        fitted["din"].scores(replace(test, items=None))
    dlrm.save(tmp_path)
    with pytest.raises(DataError, match="other numbers"):
        RANKERS.find("dlrm").load(tmp_path, Schema(("score",), SCHEMA.fields, SCHEMA.num_items))
    with pytest.raises(DataError, match="learns nothing"):
        listwise = config_of("dlrm", training={"loss": "listwise"})
        ones = replace(test, labels=np.ones_like(test.labels))
        listwise.fit(SCHEMA, ones, ones, 0)
    with pytest.raises(ConfigError, match="heads 3 do not divide"):
        config_of("finalmlp", heads=3)
    with pytest.raises(ConfigError, match="ascending"):
        config_of("dlrm", widths={"shares": [1.0, 0.5]})


def test_a_kept_ranker_scores_without_torch(fitted, tmp_path):
    fitted["dlrm"].save(tmp_path)
    program = f"""
import sys
from pathlib import Path
import numpy as np
from recsys.rankers.registry import RANKERS
from tests.rankers.made import SCHEMA, made
print(RANKERS.find("dlrm").load(Path({str(tmp_path)!r}), SCHEMA).scores(made(5, 3)).sum())
assert "torch" not in sys.modules
"""
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    np.testing.assert_allclose(
        float(found.stdout), fitted["dlrm"].scores(made(5, 3)).sum(), rtol=1e-4
    )
