"""The endpoints: each checks the operator's limits, waits for its answer and sends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, HTTPException, Query, Response

from recsys.errors import RecsysError
from recsys.server.answering.batching import Batcher, SaturatedError
from recsys.server.settings import Limits, ServerSettings
from recsys.server.versions import Versions
from recsys.server.web.description import describe, describe_item, describe_items, describe_user
from recsys.server.web.item_routes import ItemChanger, add_changes
from recsys.server.web.metrics import Metrics, page_of
from recsys.server.web.replies import PROBLEMS, json_answer, later
from recsys.server.web.schemas import (
    Bundle,
    Item,
    Items,
    ListAnswer,
    ListBatchAnswer,
    Problem,
    RecommendBatch,
    RecommendRequest,
    ScoreAnswer,
    ScoreBatch,
    ScoreBatchAnswer,
    ScoreRequest,
    SimilarBatch,
    SimilarRequest,
    State,
    User,
    Users,
)

F = TypeVar("F", bound=Callable[..., Any])
Text = Annotated[
    str, Query(max_length=200, description="Words of a title, or the beginning of an id.")
]
Most = Annotated[int, Query(ge=1, le=100, description="Most that are given.")]
_MISSING: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "The bundle does not know this id."}
}


@dataclass
class Server:
    """What the endpoints of one worker share."""

    settings: ServerSettings
    metrics: Metrics
    versions: Versions
    batcher: Batcher

    async def answer(self, kind: str, requests: Sequence[Any]) -> list[dict[str, Any]]:
        """Answers of requests that are searched together.

        Raises:
            HTTPException: one cannot be answered.
        """
        answering = self.versions.answering
        if answering is None:
            raise later(503, "the bundle is being opened", 1)
        for number, request in enumerate(requests):
            if wrong := beyond(request, self.settings.limits):
                raise HTTPException(422, _of(number, requests, wrong))
        try:
            async with asyncio.timeout(self.settings.timeout):
                answers = await self.batcher.answer(answering, kind, requests)
        except SaturatedError as error:
            self.metrics.refused.labels("saturated").inc()
            raise later(429, "too many requests wait; try again later", error.seconds) from error
        except TimeoutError as error:
            self.metrics.refused.labels("timeout").inc()
            seconds = f"{self.settings.timeout:g}"
            raise later(503, f"no answer within {seconds} s; ask for less", 1) from error
        found = []
        for number, answer in enumerate(answers):
            if isinstance(answer, RecsysError):
                raise HTTPException(422, _of(number, requests, str(answer)))
            self.metrics.unknown.inc(len(answer["unknown"]))
            self.metrics.fallbacks.inc(answer["source"] == "popularity")
            found.append(answer)
        return found


def beyond(request: Any, limits: Limits) -> str | None:
    """What of a request is beyond the limits, in words; None: nothing is."""
    if (k := getattr(request, "k", 1)) > limits.k:
        return f"k is {k}; this server gives {limits.k} items at most"
    if (length := len(getattr(request, "history", None) or ())) > limits.history:
        return f"the history has {length} items; {limits.history} are allowed: send the latest"
    for name in ("allow", "block", "items"):
        if (count := len(getattr(request, name, None) or ())) > limits.ids:
            return f"{name} has {count} ids; {limits.ids} are allowed"
    size = getattr(request, "granularity", None)
    if size is not None and limits.granularities and size not in limits.granularities:
        return f"granularity {size} is not among {limits.granularities}, which this server allows"
    return None


def routes_of(server: Server) -> APIRouter:
    """All endpoints but the page."""
    router = APIRouter()
    _add_lists(router, server)
    _add_looks(router, server)
    add_changes(router, ItemChanger(server.settings, server.versions, server.metrics))
    _add_health(router, server)
    return router


def _add_lists(router: APIRouter, server: Server) -> None:
    async def one(kind: str, body: Any) -> Response:
        return json_answer((await server.answer(kind, [body]))[0])

    async def many(kind: str, requests: Sequence[Any]) -> Response:
        most = server.settings.limits.batch
        if len(requests) > most:
            raise HTTPException(422, f"{len(requests)} requests in one batch; {most} are allowed")
        return json_answer({"results": await server.answer(kind, requests)})

    def post(path: str, model: type) -> Callable[[F], F]:
        return router.post(path, response_model=model, responses=PROBLEMS, tags=["lists"])

    @post("/v1/recommend", ListAnswer)
    async def recommend(body: RecommendRequest) -> Response:
        """Items for a history of external ids, or for a user of the bundle."""
        return await one("recommend", body)

    @post("/v1/recommend/batch", ListBatchAnswer)
    async def recommend_batch(body: RecommendBatch) -> Response:
        """The same for many, each with its own options."""
        return await many("recommend", body.requests)

    @post("/v1/similar", ListAnswer)
    async def similar(body: SimilarRequest) -> Response:
        """Items like an item, by the cosine of their vectors."""
        return await one("similar", body)

    @post("/v1/similar/batch", ListBatchAnswer)
    async def similar_batch(body: SimilarBatch) -> Response:
        """The same for many items."""
        return await many("similar", body.requests)

    @post("/v1/score", ScoreAnswer)
    async def score(body: ScoreRequest) -> Response:
        """Scores of given items for a history or a user."""
        return await one("score", body)

    @post("/v1/score/batch", ScoreBatchAnswer)
    async def score_batch(body: ScoreBatch) -> Response:
        """The same for many."""
        return await many("score", body.requests)


def _add_looks(router: APIRouter, server: Server) -> None:
    def get(
        path: str, model: type, more: Mapping[int | str, Any] | None = None
    ) -> Callable[[F], F]:
        responses = {**PROBLEMS, **(more or {})}
        return router.get(path, response_model=model, responses=responses, tags=["bundle"])

    @get("/v1/bundle", Bundle)
    def bundle() -> Response:
        """The version that is served: granularities, costs, columns, limits."""
        return json_answer(describe(server.versions.stock, server.settings))

    @get("/v1/items", Items)
    def items(query: Text = "", limit: Most = 10) -> Response:
        """Items by the words of their titles; the most popular ones, without any."""
        stock = server.versions.stock
        return json_answer({"items": describe_items(stock, stock.titled(query, limit))})

    @get("/v1/items/{item_id:path}", Item, _MISSING)
    def item(item_id: str) -> Response:
        """What the bundle tells of an item."""
        stock = server.versions.stock
        place = int(stock.find([item_id])[0])
        if place < 0:
            why = server.versions.why_waiting(item_id)
            text = f"{stock.served.version} has no item {item_id!r}"
            more = f"; it was put and waits for another version: {why}" if why else ""
            raise HTTPException(404, text + more)
        return json_answer(describe_item(stock, place))

    @get("/v1/users", Users)
    def users(query: Text = "", limit: Most = 10) -> Response:
        """Users whose id begins with a text."""
        return json_answer({"users": server.versions.served.users.beginning(query, limit)})

    @get("/v1/users/{user_id:path}", User, _MISSING)
    def user(user_id: str) -> Response:
        """What a user had last."""
        stock = server.versions.stock
        place = int(stock.served.users.find([user_id])[0])
        if place < 0:
            raise HTTPException(404, f"{stock.served.version} has no user {user_id!r}")
        return json_answer(describe_user(stock, place))


def _add_health(router: APIRouter, server: Server) -> None:
    @router.get("/healthz", response_model=State, tags=["health"])
    async def healthz() -> Response:
        """The process runs."""
        return json_answer({"state": "alive"})

    @router.get("/readyz", response_model=State, responses={503: PROBLEMS[503]}, tags=["health"])
    async def readyz() -> Response:
        """A version is open and everything compiled is warm."""
        if server.versions.answering is None:
            raise later(503, "the bundle is being opened", 1)
        told = {"state": "ready", "version": server.versions.served.version}
        return json_answer(told | {"sequence": server.versions.sequence})

    @router.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, tags=["health"])
    def metrics() -> Response:
        """Figures for Prometheus, of all workers."""
        server.metrics.waiting.set(server.batcher.waiting)
        text, kind = page_of(server.metrics)
        return Response(text, headers={"content-type": kind})


def _of(number: int, requests: Sequence[Any], text: str) -> str:
    return text if len(requests) == 1 else f"request {number}: {text}"
