import numpy as np
import pytest
from pydantic import ValidationError

from recsys.data.negatives import NegativeSampler, NegativesConfig

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
