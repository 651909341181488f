"""Items that were added since, in lists that a ranker has ordered."""

import numpy as np

from recsys.retrieval.funnel import Candidates
from recsys.server.answering.stock import _placed

NONE = -np.inf


def lists(items, scores):
    items, scores = np.array(items), np.array(scores, np.float32)
    return Candidates(items, scores, np.full(len(items), 8))


def test_an_added_item_takes_the_place_that_its_score_has_among_the_candidates():
    found = lists([[1, 2, 3, 4]], [[0.9, 0.8, 0.7, 0.6]])
    best = lists([[4, 3, 2]], [[5.0, 4.0, 3.0]])
    told = _placed(found, best, lists([[90, 91, -1]], [[0.95, 0.75, NONE]]))
    assert told.items.tolist() == [[90, 4, 3]] and told.scores.tolist() == [[5.0, 5.0, 4.0]]
    told = _placed(found, best, lists([[91, -1, -1]], [[0.75, NONE, NONE]]))
    assert told.items.tolist() == [[4, 3, 91]] and told.scores.tolist() == [[5.0, 4.0, 3.0]]
    told = _placed(found, best, lists([[92, -1, -1]], [[0.65, NONE, NONE]]))
    assert told.items.tolist() == [[4, 3, 2]]


def test_they_stand_alone_where_the_funnel_found_nothing_and_end_short_lists():
    empty = lists([[-1, -1]], [[NONE, NONE]])
    own = lists([[7, 8]], [[0.2, 0.1]])
    told = _placed(empty, empty, own)
    assert told.items.tolist() == [[7, 8]]
    np.testing.assert_allclose(told.scores, own.scores)
    found, best = lists([[1, -1]], [[0.5, NONE]]), lists([[1, -1]], [[2.0, NONE]])
    told = _placed(found, best, lists([[7, -1]], [[0.2, NONE]]))
    assert told.items.tolist() == [[1, 7]] and told.scores.tolist() == [[2.0, 2.0]]
