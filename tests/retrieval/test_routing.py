"""Routing by score gaps: who stops early, what that costs, what is learned."""

import numpy as np
import pytest

from recsys.errors import ConfigError
from recsys.retrieval.bundle.tiers import parse_tiers
from recsys.retrieval.bundle.unwritten_tiers import InMemory
from recsys.retrieval.filters import make_filters
from recsys.retrieval.funnel import Funnel, Stage
from recsys.retrieval.learned_routing import learn_routing
from recsys.retrieval.routing import Routing, confidence, overlaps
from tests.retrieval.bundles import vectors

N, K = 400, 5
STAGES = [Stage(4, 60), Stage(16, 30), Stage(32, K)]
ITEMS = InMemory(
    vectors(N, 32), parse_tiers("0:4:int8:ram,4:32:fp32:ram", 32), (4, 16, 32), normalize=False
)
USERS, NONE = vectors(300, 32, 8), make_filters(300, N)


def test_a_threshold_of_infinity_is_no_routing_and_one_of_zero_stops_everybody():
    plain = Funnel(ITEMS, STAGES, threads=1).search(USERS)
    never = Funnel(ITEMS, STAGES, routing=Routing((np.inf, np.inf)), threads=1).search(USERS)
    np.testing.assert_array_equal(plain.items, never.items)
    assert (plain.widths == 32).all()
    always = Funnel(ITEMS, STAGES, routing=Routing((0.0, 0.0)), threads=1).search(USERS)
    assert (always.widths == 4).all()
    first = Funnel(ITEMS, [Stage(4, K)], threads=1).search(USERS)
    np.testing.assert_array_equal(always.items, first.items)
    np.testing.assert_allclose(always.scores, first.scores, rtol=1e-6)


def test_each_user_gets_the_list_of_the_stage_it_stopped_at():
    funnel = Funnel(ITEMS, STAGES, threads=1)
    trace = funnel.trace(USERS)
    sure = [confidence(found.scores, K) for found in trace]
    routing = Routing((float(np.median(sure[0])), float(np.median(sure[1]))))
    found = Funnel(ITEMS, STAGES, routing=routing, threads=1).search(USERS)
    assert {4, 16, 32} == set(found.widths.tolist())
    for row in range(len(USERS)):
        stage = [4, 16, 32].index(found.widths[row])
        assert found.items[row].tolist() == trace[stage].items[row, :K].tolist()
        for before in range(stage):
            assert sure[before][row] < routing.thresholds[before]


def test_what_is_learned_keeps_what_was_asked_for_and_stops_as_many_as_it_can():
    funnel = Funnel(ITEMS, STAGES, threads=1)
    final = funnel.search(USERS).items
    stopped = []
    for keep in (0.8, 0.95, 1.0):
        routing = learn_routing(funnel, USERS, NONE, K, keep=keep)
        found = Funnel(ITEMS, STAGES, routing=routing, threads=1).search(USERS)
        assert overlaps(found.items, final).mean() >= keep - 1e-9
        stopped.append((found.widths < 32).mean())
    assert stopped[0] > stopped[1] >= stopped[2] and stopped[0] > 0.1


def test_it_holds_on_users_it_was_not_learned_on():
    funnel = Funnel(ITEMS, STAGES, threads=1)
    routing = learn_routing(funnel, USERS, NONE, K, keep=0.9)
    others = vectors(600, 32, 77)
    found = Funnel(ITEMS, STAGES, routing=routing, threads=1).search(others)
    assert overlaps(found.items, funnel.search(others).items).mean() > 0.85
    assert (found.widths < 32).any()


def test_a_quality_of_ones_own_decides():
    funnel = Funnel(ITEMS, STAGES, threads=1)
    nobody_cares = learn_routing(
        funnel, USERS, NONE, K, quality=lambda items, _: np.ones(len(items))
    )
    found = Funnel(ITEMS, STAGES, routing=nobody_cares, threads=1).search(USERS)
    assert (found.widths == 4).all()


def test_what_a_prefix_wins_by_chance_does_not_pay_for_what_it_loses():
    funnel = Funnel(ITEMS, STAGES, threads=1)
    final = funnel.search(USERS).items
    even = np.arange(len(USERS)) % 2 == 0

    def noisy(items, _=None):
        """1/2 each by the whole funnel; by a prefix all for every second user, nothing else."""
        return np.where((items[:, :K] == final).all(axis=1), 0.5, even.astype(float))

    routing = learn_routing(funnel, USERS, NONE, K, keep=0.9, quality=noisy)
    found = Funnel(ITEMS, STAGES, routing=routing, threads=1).search(USERS)
    lost = np.maximum(0.5 - noisy(found.items), 0).sum()
    assert lost <= 0.1 * 0.5 * len(USERS) + 1e-9
    assert 0 < (found.widths < 32).mean() < 0.5, "gains and losses cancel, so all could stop"


def test_confidence_is_a_gap_in_standard_deviations():
    scores = np.array([[9.0, 8, 4, 3], [5, 5, 5, 5], [9, 8, 4, -np.inf]], np.float32)
    spread = np.std([9, 8, 4, 3])
    assert confidence(scores, 2) == pytest.approx([5 / spread, 0, 0])
    assert confidence(scores, 4).tolist() == [0, 0, 0]


def test_routing_of_another_funnel_is_refused():
    with pytest.raises(ConfigError, match="routing of 1 stages for 2"):
        Funnel(ITEMS, STAGES, routing=Routing((1.0,)))
