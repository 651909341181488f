"""The endpoints: limits, the key, bodies, the gate, figures."""

import asyncio
import threading
import time

import pytest
from fastapi.testclient import TestClient

from recsys.server.answering.batching import Batcher, SaturatedError
from recsys.server.app import make_app
from recsys.server.settings import ServerSettings

ASKED = {"history": ["film 3", "film 4"], "k": 3, "columns": ["title"]}


def test_a_list_tells_titles_and_the_version(client):
    found = client.post("/v1/recommend", json=ASKED).json()
    assert (found["version"], found["source"], found["unknown"]) == ("v000001", "history", [])
    assert [item["rank"] for item in found["items"]] == [1, 2, 3]
    for item in found["items"]:
        assert item["columns"] == {"title": f"The {item['item_id']}"}


def test_an_application_that_is_started_again_answers_again(shelf):
    app = make_app(ServerSettings(bundle=shelf, threads=1, logs=False, timeout=5))
    for _ in range(2):
        with TestClient(app) as opened:
            assert opened.post("/v1/recommend", json=ASKED).status_code == 200


@pytest.mark.parametrize("turns", [0, 3])
def test_one_answer_of_so_many_closes_its_connection(shelf, turns):
    settings = ServerSettings(bundle=shelf, threads=1, logs=False, turns=turns)
    with TestClient(make_app(settings)) as opened:
        told = [
            opened.post("/v1/recommend", json=ASKED).headers.get("connection") for _ in range(7)
        ]
    assert [place for place, word in enumerate(told, 1) if word == "close"] == [3, 6][: 2 * turns]


def test_batches_give_what_single_requests_give(client):
    paths = {
        "/v1/recommend": [ASKED, {"user": "u1"}, {"history": []}],
        "/v1/similar": [{"item": "film 3"}, {"item": "nothing"}],
        "/v1/score": [{"user": "u1", "items": ["film 1", "x"]}],
    }
    for path, bodies in paths.items():
        alone = [client.post(path, json=body).json() for body in bodies]
        together = client.post(f"{path}/batch", json={"requests": bodies}).json()["results"]
        for one, other in zip(alone, together, strict=True):
            assert (one["items"], one["unknown"]) == (other["items"], other["unknown"])


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("recommend", {"history": [], "user": "u1"}, "give either history"),
        ("recommend", {}, "give either history"),
        ("recommend", {"history": [], "k": 0}, "greater than or equal to 1"),
        ("recommend", {"history": [], "k": True}, "valid integer"),
        ("recommend", {"history": [1.5]}, "history"),
        ("recommend", {"history": [], "colour": 1}, "Extra inputs are not permitted"),
        ("recommend", {"history": [], "k": 101}, "this server gives 100 items at most"),
        ("recommend", {"history": ["x"] * 1001}, "send the latest"),
        ("recommend", {"history": ["film 3"], "granularity": 5}, "not among (4, 8)"),
        ("recommend", {"history": ["film 3"], "stages": "x"}, "32:200,256"),
        ("recommend", {"history": [], "granularity": 4, "stages": "8"}, "give one"),
        ("recommend", {"history": [], "block": ["x"] * 10_001}, "10000 are allowed"),
        ("recommend/batch", {"requests": []}, "at least 1 item"),
        ("recommend/batch", {"requests": [ASKED] * 65}, "64 are allowed"),
        ("recommend/batch", {"requests": [ASKED, ASKED | {"granularity": 5}]}, "request 1: "),
        ("score", {"user": "u1", "items": ["film 1"], "granularity": 3}, "not among (4, 8)"),
    ],
)
def test_what_cannot_be_is_told(client, path, body, text):
    answer = client.post(f"/v1/{path}", json=body)
    assert answer.status_code == 422
    assert text in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"history": ["\\ud800"]}', b"1e999", b"null",
     b'{"history": [' + b"9" * 5000 + b"]}", b'{"history": [NaN]}'],
)  # fmt: skip
def test_no_body_breaks_the_server(client, body):
    headers = {"content-type": "application/json"}
    answer = client.post("/v1/recommend", content=body, headers=headers)
    assert answer.status_code in (400, 422)
    assert answer.json()["detail"]


def test_a_page_elsewhere_cannot_post_a_form(client):
    answer = client.post(
        "/v1/recommend", content=b'{"history": []}', headers={"content-type": "text/plain"}
    )
    assert answer.status_code == 422


def test_large_bodies_are_refused_before_they_are_read(serving):
    client = serving(limits={"body": 2000})
    assert client.post("/v1/recommend", content=b"x" * 2001).status_code == 413

    def parts():
        for _ in range(5):
            yield b"x" * 1000

    assert client.post("/v1/recommend", content=parts()).status_code == 413
    figures = client.get("/metrics").text
    assert 'recsys_refused_total{why="body"} 2.0' in figures


def test_the_key_opens_all_but_health_and_the_page(serving, monkeypatch):
    monkeypatch.setenv("RECSYS_API_KEY", "secret")
    client = serving()
    for path in ("/healthz", "/readyz", "/"):
        assert client.get(path).status_code == 200
    for headers in ({}, {"x-api-key": "other"}, {"authorization": "Bearer secre"}):
        for path in ("/v1/bundle", "/metrics", "/openapi.json", "/v1/users"):
            assert client.get(path, headers=headers).status_code == 401
    for headers in ({"x-api-key": "secret"}, {"authorization": "Bearer secret"}):
        assert client.get("/v1/bundle", headers=headers).status_code == 200


def test_figures_count_what_happened(serving):
    client = serving()
    client.post("/v1/recommend", json=ASKED)
    client.post("/v1/recommend", json={"history": ["nothing", "no"]})
    figures = client.get("/metrics").text
    for line in (
        'recsys_requests_total{path="/v1/recommend",status="200"} 2.0',
        "recsys_unknown_ids_total 2.0",
        "recsys_fallbacks_total 1.0",
        'recsys_candidates_total{step="first"} 20.0',
        'recsys_step_seconds_count{step="8"} 1.0',
        'recsys_workers{version="v000001"} 1.0',
        "recsys_together_sum 2.0",
    ):
        assert line in figures


def test_looks_at_the_bundle(client):
    found = client.get("/v1/bundle").json()
    assert (found["items"], found["users"], found["stages"]) == (30, 100, "4:20,8")
    costs = [(each["size"], each["bytes"]) for each in found["granularities"]]
    assert costs == [(4, 16.0), (8, 32.0)]
    assert found["categories"]["genres"] == ["Comedy", "Drama", "War"]
    assert (
        client.get("/v1/items", params={"query": "film 12"}).json()["items"][0]["title"]
        == "The film 12"
    )
    assert client.get("/v1/items/film 12").json()["item_id"] == "film 12"
    assert client.get("/v1/items/x/y").status_code == 404
    assert client.get("/v1/users", params={"query": "late1", "limit": 2}).json() == {
        "users": ["late1", "late10"]
    }
    user = client.get("/v1/users/u0").json()
    assert [item["item_id"] for item in user["latest"]] == [f"film {n}" for n in range(6, -1, -1)]
    assert client.get("/v1/users/nobody").status_code == 404


class Slow:
    """Answers when it is let."""

    def __init__(self):
        self.go, self.asked = threading.Event(), []

    def recommend(self, requests):
        self.asked.append(len(requests))
        self.go.wait(20)
        return [{"n": n} for n in requests]


def test_requests_that_arrive_during_a_search_form_the_next():
    slow, batcher = Slow(), Batcher(waiting=100, together=4)

    async def all_of_them():
        first = asyncio.create_task(batcher.answer(slow, "recommend", [0]))
        while not slow.asked:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(batcher.answer(slow, "recommend", [n])) for n in range(1, 7)]
        while batcher.waiting < 6:
            await asyncio.sleep(0.001)
        slow.go.set()
        return await asyncio.gather(first, *others)

    answers = asyncio.run(all_of_them())
    batcher.stop()
    assert answers == [[{"n": n}] for n in range(7)]
    assert slow.asked == [1, 4, 2]


def test_too_many_waiting_requests_are_told_when_to_come_again():
    slow, batcher = Slow(), Batcher(waiting=2, together=8)

    async def crowd():
        first = asyncio.create_task(batcher.answer(slow, "recommend", [0]))
        while not slow.asked:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(batcher.answer(slow, "recommend", [n])) for n in (1, 2)]
        while batcher.waiting < 2:
            await asyncio.sleep(0.001)
        with pytest.raises(SaturatedError) as error:
            await batcher.answer(slow, "recommend", [3])
        slow.go.set()
        await asyncio.gather(first, *others)
        return error.value.seconds

    assert asyncio.run(crowd()) >= 1
    batcher.stop()


def test_a_bug_in_one_answer_leaves_the_thread_alive():
    class Broken:
        def recommend(self, _):
            raise ZeroDivisionError

    slow, batcher = Slow(), Batcher(waiting=2, together=8)
    slow.go.set()
    with pytest.raises(ZeroDivisionError):
        asyncio.run(batcher.answer(Broken(), "recommend", [1]))
    assert asyncio.run(batcher.answer(slow, "recommend", [1])) == [{"n": 1}]
    batcher.stop()


def test_saturation_and_timeouts_are_told_over_http(serving, monkeypatch):
    client = serving(timeout=0.3, waiting=1)
    server, slow = client.app.state.server, Slow()
    server.versions.answering, kept = slow, server.versions.answering
    slow.recommend = lambda requests: (
        slow.go.wait(20),
        [{"unknown": [], "source": "x"} for _ in requests],
    )[1]
    statuses = []

    def ask():
        statuses.append(client.post("/v1/recommend", json=ASKED))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    for thread in threads:
        thread.join()
    slow.go.set()
    found = {answer.status_code for answer in statuses}
    assert found == {429, 503}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in statuses)
    server.versions.answering = kept
