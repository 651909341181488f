import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from recsys.data.batching import BatchingConfig, TrainBatches
from recsys.data.dataset import write_dataset
from recsys.data.negatives import NegativeSampler, NegativesConfig
from recsys.data.splitting import make_split

COUNTS = np.array([50, 20, 10, 10, 5, 3, 1, 1, 0, 0])


@pytest.mark.parametrize(
    "config",
    [
        NegativesConfig(uniform=6),
        NegativesConfig(uniform=0, popularity=6),
        NegativesConfig(uniform=0, in_batch=True),
        NegativesConfig(uniform=3, popularity=3, in_batch=True),
    ],
)
def test_the_stated_probability_is_how_often_an_item_is_drawn(config):
    sampler, rng = NegativeSampler(config, COUNTS), np.random.default_rng(0)
    share = COUNTS / COUNTS.sum()
    drawn = np.zeros(10)
    for _ in range(4_000):
        targets = rng.choice(10, size=8, p=share)
        items, _ = sampler.draw(targets, rng)
        drawn[items] += 1
    stated = np.zeros(10)
    everything = NegativeSampler(config, COUNTS)
    stated = np.exp(everything._log_inclusion(np.arange(10), 8))
    np.testing.assert_allclose(drawn / 4_000, stated, atol=0.03)


def test_targets_of_real_batches_are_drawn_as_often_as_stated(tmp_path):
    """Every history starts with item 0, so that it is never a target."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(4, 20, size=500)
    share = 1.0 / np.arange(1, 31)
    items = rng.choice(np.arange(1, 31), p=share / share.sum(), size=lengths.sum())
    items[np.cumsum(lengths) - lengths] = 0
    frame = pl.DataFrame({"user_id": np.repeat(np.arange(500), lengths), "item_id": items})
    data = write_dataset(tmp_path / "data", frame, name="shops")
    batches = TrainBatches(
        BatchingConfig(batch_tokens=32), data, make_split(data),
        fit_on="train", history_length=10, seed=0,
    )  # fmt: skip
    sampler = NegativeSampler(NegativesConfig(uniform=0, in_batch=True), batches.target_counts())
    drawn, stated, number = np.zeros(31), np.zeros(31), 0
    for epoch in range(40):
        for index in range(batches.num_batches(epoch)):
            targets = batches.batch(epoch, index).targets
            found, _ = sampler.draw(targets, rng)
            assert found.tolist() == sorted(set(targets.tolist()))
            drawn[found] += 1
            stated += np.exp(sampler._log_inclusion(np.arange(31), len(targets)))
            number += 1
    first = data.items[0]
    assert drawn[first] == stated[first] == 0
    # Users bring their targets together, so the rate of an item is only about what it would be if
    # each target were drawn by itself.
    np.testing.assert_allclose(drawn / number, stated / number, atol=0.04)


def test_negatives_are_unique_ascending_and_repeat_with_the_seed():
    sampler = NegativeSampler(NegativesConfig(uniform=50), COUNTS)
    targets = np.array([1, 2])
    items, log_q = sampler.draw(targets, np.random.default_rng(1))
    again, _ = sampler.draw(targets, np.random.default_rng(1))
    assert items.tolist() == sorted(set(items.tolist())) == again.tolist()
    assert log_q is not None and (log_q <= 0).all()


def test_without_correction_there_are_no_probabilities():
    sampler = NegativeSampler(NegativesConfig(uniform=5, logq=False), COUNTS)
    assert sampler.draw(np.array([0]), np.random.default_rng(0))[1] is None


def test_a_mixture_of_nothing_is_refused():
    with pytest.raises(ValidationError, match="no negatives"):
        NegativesConfig(uniform=0)


def test_an_item_that_is_never_a_target_is_not_drawn_by_popularity_at_the_very_end():
    class Highest:
        def integers(self, _high, size):
            return np.zeros(size, np.int64)

        def random(self, size):
            return np.full(size, np.nextafter(1.0, 0.0))

    counts = np.array([7] * 11 + [1] * 6 + [0])
    config = NegativesConfig(uniform=1, popularity=3)
    items, log_q = NegativeSampler(config, counts).draw(np.zeros(1, np.int64), Highest())
    assert items.tolist() == [0, 16]
    assert np.isfinite(log_q).all()
