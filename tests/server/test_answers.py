"""Answers are those of the library, whatever they are answered together with."""

import itertools

import numpy as np
import polars as pl
import pytest

from recsys.errors import ConfigError, GranularityError
from recsys.server.answering.answers import Answering
from recsys.server.answering.content import Content
from recsys.server.answering.lookup import Lookup
from recsys.server.answering.served import Served
from recsys.server.answering.stock import Stock
from recsys.server.settings import Limits
from recsys.server.web.schemas import RecommendRequest, ScoreRequest, SimilarRequest

HISTORIES = [["film 3", "film 4"], ["film 9"], ["film 1", "film 2", "film 3"], ["film 20"] * 9]


def listed(answers, key="item_id"):
    return [[item[key] for item in answer["items"]] for answer in answers]


def grouped(frame, column="item_id", by="user_id"):
    return [part[column].to_list() for _, part in frame.group_by(by, maintain_order=True)]


WAYS = [
    {},
    {"granularity": 4},
    {"stages": "4:9,8", "k": 5},
    {"filter_seen": False},
    {"block": ["film 5", "film 6"]},
    {"allow": ["film 5", "film 6", "film 11", "film 3"]},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_lists_are_those_of_the_library(answering, model, way):
    asked = {f"h{n}": history for n, history in enumerate(HISTORIES)}
    wanted = model.recommend(histories=asked, **way)
    found = answering.recommend([RecommendRequest(history=each, **way) for each in HISTORIES])
    assert listed(found) == grouped(wanted)
    assert listed(found, "score") == grouped(wanted, "score")
    users = model.users.to_list()
    found = answering.recommend([RecommendRequest(user=user, **way) for user in users])
    assert listed(found) == grouped(model.recommend(users, **way))


def test_each_is_answered_together_with_others_as_alone(answering):
    ways = [*WAYS, {"where": {"genres": ["War"]}}, {"block": ["film 7"], "filter_seen": False}]
    requests = [
        RecommendRequest(history=history, **way)
        for history, way in itertools.product([*HISTORIES, [], ["nothing"]], ways)
    ]
    together = answering.recommend(requests)
    for request, answer in zip(requests, together, strict=True):
        (alone,) = answering.recommend([request])
        same = ("items", "unknown", "source")
        assert {key: alone[key] for key in same} == {key: answer[key] for key in same}
    assert max(answer["together"] for answer in together) == len(HISTORIES) + len(HISTORIES)


def test_items_like_an_item_are_those_of_the_library(answering, model):
    for size in (4, 8):
        wanted = model.similar_items(model.items, k=6, granularity=size)
        requests = [SimilarRequest(item=item, k=6, granularity=size) for item in model.items]
        found = answering.similar(requests)
        assert listed(found) == grouped(wanted, "similar_item_id", "item_id")
        got = np.concatenate(listed(found, "score"))
        np.testing.assert_allclose(got, wanted["score"].to_numpy(), atol=1e-6)


def test_scores_are_those_of_the_library(answering, model):
    pairs = [("u1", "film 3"), ("u1", "film 8"), ("u5", "film 8")]
    wanted = model.score(pairs, granularity=4)["score"].to_list()
    one = ScoreRequest(user="u1", items=["film 3", "nothing", "film 8"], granularity=4)
    two = ScoreRequest(user="u5", items=["film 8"], granularity=4)
    nobody = ScoreRequest(history=[], items=["film 8"])
    found = answering.score([one, two, nobody])
    assert listed(found, "score") == [[wanted[0], None, wanted[1]], [wanted[2]], [None]]
    assert [each["unknown"] for each in found] == [["nothing"], [], []]


def test_nothing_known_gets_the_most_popular_items_that_may_be_had(answering):
    ways = [{"history": []}, {"history": ["x"]}, {"user": "x"}]
    answers = answering.recommend([RecommendRequest(k=3, **way) for way in ways])
    assert [answer["items"][0] for answer in answers] == [
        {"item_id": "film 7", "rank": 1, "score": 52}
    ] * 3
    assert [answer["unknown"] for answer in answers] == [[], ["x"], ["x"]]
    (blocked,) = answering.recommend([RecommendRequest(history=[], block=["film 7"])])
    assert "film 7" not in listed([blocked])[0]
    (narrow,) = answering.recommend([RecommendRequest(history=[], where={"genres": ["War"]})])
    assert "film 7" in listed([narrow])[0]
    assert all(int(name.split()[1]) % 4 == 3 for name in listed([narrow])[0])


def test_categories_are_a_part_of_the_search(answering):
    asked = RecommendRequest(history=["film 3"], k=30, where={"genres": ["Comedy", "?"]})
    (answer,) = answering.recommend([asked])
    assert {int(name.split()[1]) % 4 for name in listed([answer])[0]} == {1, 2}
    nothing = asked.model_copy(update={"where": {"genres": ["Comedy"], "title": ["?"]}})
    assert listed(answering.recommend([nothing])) == [[]]


def test_one_wrong_request_leaves_the_others_alone(answering):
    good = RecommendRequest(history=["film 3"])
    wrong = [
        {"granularity": 5},
        {"stages": "8:9,4"},
        {"columns": ["colour"]},
        {"where": {"colour": ["red"]}},
    ]
    answers = answering.recommend([good, *(good.model_copy(update=each) for each in wrong)])
    assert listed(answers[:1]) == listed(answering.recommend([good]))
    kinds = [GranularityError, ConfigError, ConfigError, ConfigError]
    assert [type(answer) for answer in answers[1:]] == kinds


def test_the_operator_limits_stages(shelf):
    served = Served(shelf, verify=False, threads=1, shared=True)
    asked = RecommendRequest(history=["film 3"], stages="4:20,8")
    for limits, text in (
        (Limits(keep=10), "keeps 20; this server keeps 10"),
        (Limits(keep=0), "takes no stages"),
        (Limits(granularities=(8,)), "granularity 4 is not among"),
    ):
        (answer,) = Answering(Stock(served), limits, lambda *_: None).recommend([asked])
        assert text in str(answer)


def test_steps_are_told_with_what_they_looked_at(shelf):
    told = []
    served = Served(shelf, verify=False, threads=1, shared=False)
    tell = lambda step, _, count: told.append((step, count))  # noqa: E731
    asked = RecommendRequest(history=["film 3", "film 4"])
    Answering(Stock(served), Limits(), tell).recommend([asked])
    assert told == [("ids", 2), ("users", 1), ("first", 20), ("8", 20)]


@pytest.mark.parametrize("names", [["a", "b", "3"], [5, 3, 8]])
def test_ids_are_found_as_text_or_numbers(names):
    lookup = Lookup(pl.Series(names))
    assert lookup.find([3, "3", "x", names[0]]).tolist() == [
        names.index(3) if 3 in names else 2
    ] * 2 + [-1, 0]
    assert lookup.find([]).tolist() == []


def test_ids_with_equal_hashes_are_told_apart(monkeypatch):
    zeros = lambda texts: np.zeros(len(texts), np.int64)  # noqa: E731
    monkeypatch.setattr("recsys.server.answering.lookup._hashes", zeros)
    lookup = Lookup(pl.Series(["a", "b", "c"]))
    assert lookup.find(["c", "a", "x", "b"]).tolist() == [2, 0, -1, 1]


def test_titles_are_searched_by_words():
    titles = pl.DataFrame({"title": ["Alien", "Aliens", "The Alien War", None, "War"]})
    content = Content(titles, pl.Series(range(5)), np.array([1, 5, 9, 9, 2]))
    assert content.search("alien", 9).tolist() == [1, 0, 2]
    assert content.search(" WAR alien ", 9).tolist() == [2]
    assert content.search("", 2).tolist() == [2, 3]
    assert content.search("(", 2).tolist() == []
