"""Tuning by measuring: recall that is reached on other users, as little work as that takes."""

import numpy as np
import pytest

from recsys.errors import ConfigError, DataError
from recsys.retrieval.funnel import Funnel, Stage
from recsys.retrieval.index.building import MEASURED_K, build_index, tune_index, tune_keep
from recsys.retrieval.index.kinds import recall_of, tune
from tests.retrieval.bundles import vectors
from tests.retrieval.index.indexes import SIZE, N, built, catalogue

STAGES = [Stage(SIZE, 90), Stage(32, 10)]
METRIC = pytest.mark.parametrize("cosine", [False, True], ids=["dot", "cosine"])


def tuning_users(count=300):
    return vectors(count, 32, 11)


def found_of(items, index, stages, users, wanted_stages):
    """Recall of a funnel over an index, beside a funnel without one."""
    got = Funnel(items, stages, finder=index, threads=1).search(users).items
    return recall_of(got, Funnel(items, wanted_stages, threads=1).search(users).items)


@METRIC
@pytest.mark.parametrize("kind", ["ivf", "ivf,sq8", "ivf,pqx4", "opq,ivf,pqx4", "hnsw", "flat,sq8"])
def test_a_recall_is_reached_on_users_the_index_was_not_tuned_on(kind, cosine):
    items, index = catalogue(cosine), built(kind, cosine)
    tuned = tune_index(items, index, STAGES, 0.95, tuning_users())
    assert tuned.recall >= 0.95 and tuned.search == index.search
    assert found_of(items, index, tuned.stages, vectors(200, 32, 77), STAGES) > 0.93


def test_a_prefix_s_own_loss_is_not_the_index_s():
    items, users = catalogue(False), tuning_users()
    stages = [Stage(4, 40), Stage(32, 10)]
    index = build_index(items, "ivf", 4, threads=1)
    same = tune_index(items, index, stages, 1.0, users)
    assert same.recall == 1 == found_of(items, index, stages, users, stages)
    lost = found_of(items, index, stages, users, stages[-1:])
    assert lost == found_of(items, None, stages, users, stages[-1:]) < 0.95


def test_an_index_of_all_that_is_ranked_by_is_measured_beside_exact_search():
    items, users = catalogue(False), tuning_users()
    stages = [Stage(32, 300), Stage(8, 100), Stage(32, 10)]
    index = build_index(items, "ivf,pqx4", 32, threads=1)
    tuned = tune_index(items, index, stages, 0.9, users)
    assert 0.9 <= tuned.recall == found_of(items, index, stages, users, stages[-1:])
    with pytest.raises(ConfigError, match="behind an index alone"):
        Funnel(items, stages, threads=1)


def test_a_higher_target_visits_more():
    users, prefix = tuning_users(), np.ascontiguousarray(vectors(50, 32, 7)[:, :SIZE])
    works, margins = [], []
    for target in (0.5, 0.9, 0.99):
        index = built("ivf")
        margins.append(tune_index(catalogue(False), index, STAGES, target, users).search["margin"])
        works.append(index.multiply_adds(prefix, 10))
    assert margins == sorted(set(margins)) and works == sorted(set(works))
    assert works[-1] < N * SIZE


def test_the_parameter_is_the_smallest_that_reaches_the_target_within_a_sixteenth():
    index = built("ivf")
    for start in (1, 20, 900):
        index.search["margin"] = start
        reached = tune(index, lambda: min(1, index.search["margin"] / 500), 0.8)
        assert reached >= 0.8 and 400 <= index.search["margin"] <= 400 * 17 / 16


def test_tuning_stops_at_what_coarse_codes_can_reach():
    items, index, users = catalogue(False), built("ivf,pq2x4"), tuning_users()
    narrow = [Stage(SIZE, 15), Stage(32, 10)]
    tuned = tune_index(items, index, narrow, 0.999, users)
    assert 0.3 < tuned.recall < 0.9
    index.search["margin"] = index.limit
    assert found_of(items, index, narrow, users, narrow) == pytest.approx(tuned.recall, abs=0.01)


def test_more_candidates_are_ranked_where_codes_are_coarser():
    items, keeps, ranked = catalogue(True, 1500), [], 32
    for kind in ("ivf", "ivf,pqx4", "ivf,pq4x4"):
        index = build_index(items, kind, ranked, threads=1)
        tuned = tune_keep(items, index, ranked, 0.95, tuning_users(100))
        keeps.append(tuned.stages[0].keep)
        assert tuned.stages[-1] == Stage(ranked, MEASURED_K)
        assert tuned.recall >= 0.95 and tuned.search == index.search
        others = vectors(100, 32, 77)
        assert found_of(items, index, tuned.stages, others, tuned.stages[-1:]) > 0.92
    assert keeps == sorted(keeps) and keeps[0] == 50 < keeps[-1]


def test_where_nothing_reaches_the_recall_the_closest_is_given():
    items = catalogue(False, 2300)
    index = build_index(items, "ivf", 4, threads=1)
    tuned = tune_keep(items, index, 4, 1.0, tuning_users(40))
    assert tuned.stages[0] == Stage(4, 1600) and 0.9 < tuned.recall < 1


def test_a_rotation_is_not_learned_of_fewer_items_than_coordinates():
    with pytest.raises(DataError, match="leave opq out"):
        build_index(catalogue(False, 24), "opq,ivf,pq8x4", 32, threads=1)
    with pytest.raises(DataError, match="choose flat"):
        build_index(catalogue(False, 12), "ivf,pqx4", 32, threads=1)


def test_a_shorter_second_stage_needs_an_index():
    items = catalogue(False)
    for stages in ([Stage(32, 50), Stage(8, 20), Stage(32, 10)], [Stage(32, 50), Stage(32, 10)]):
        with pytest.raises(ConfigError, match="behind an index alone"):
            Funnel(items, stages, threads=1)
