"""The server against its own OpenAPI, and against ten thousand bodies that are none."""

import asyncio
import json
import random

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from recsys.server.app import make_app
from recsys.server.settings import ServerSettings

PATHS = ("/v1/recommend", "/v1/similar", "/v1/score", "/v1/recommend/batch", "/v1/score/batch")
GOOD = {"history": ["film 3", "film 4"], "k": 3, "where": {"genres": ["War"]}, "columns": ["title"]}
MALFORMED, SWEEP = 10_000, 50


CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_answers_are_as_the_openapi_says(shelf, mode, tmp_path):
    # Of its own: schemathesis starts and stops it.
    items = {"folder": tmp_path / "items", "most": 50}
    app = make_app(ServerSettings(bundle=shelf, threads=1, logs=False, items=items))
    api, checked = schemathesis.openapi.from_asgi("/openapi.json", app), []
    for found in api.get_all_operations():
        operation = found.ok()
        if operation.path == "/metrics" or not can_be(operation, mode):
            continue

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        def check(case):
            case.validate_response(case.call(), checks=CHECKS)

        check()
        checked.append(operation.path)
    assert {*PATHS, "/v1/items/batch", "/v1/items/{item_id}"} <= set(checked)


def can_be(operation, mode):
    """Whether there is anything to be wrong with: any text is an id, and a word of a title."""
    return mode is schemathesis.GenerationMode.POSITIVE or operation.method in ("post", "put")


def damaged(rng):
    """A good body with some of it gone, doubled, flipped, nested or of another type."""
    values = [
        None,
        True,
        -1,
        1e308,
        10**30,
        "",
        "\x00",
        "😀" * 50,
        [],
        {},
        [[]],
        {"a": {}},
        "32:200",
    ]
    body = {
        **GOOD,
        rng.choice([*GOOD, "user", "stages", "allow", "granularity"]): rng.choice(values),
    }
    text = bytearray(json.dumps(body).encode())
    for _ in range(rng.randrange(3)):
        place, way = rng.randrange(len(text)), rng.randrange(4)
        if way == 0:
            text[place] = rng.randrange(256)
        elif way == 1:
            del text[place : place + rng.randrange(1, 20)]
        elif way == 2:
            text[place:place] = text[: rng.randrange(len(text))]
        else:
            text[place:place] = rng.choice(
                [b"[", b"{", b'"', b"\\u", b"\xff", b"1e9"]
            ) * rng.randrange(40)
        if not text:
            return b""
    return bytes(text)


def resident():
    with open("/proc/self/statm") as stream:  # noqa: PTH123
        return int(stream.read().split()[1]) * 4096


async def answered(app, path, body):
    """Status and text of the answer to a body, sent to the application itself."""
    parts = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        parts.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "",
        "query_string": b"", "headers": [(b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    await app(scope, receive, send)
    return parts[0]["status"], b"".join(part.get("body", b"") for part in parts[1:])


async def swept(app, bodies):
    """Answers to bodies that arrive at once."""
    return await asyncio.gather(*(answered(app, *body) for body in bodies))


@pytest.mark.slow
def test_ten_thousand_malformed_bodies_end_in_no_error_of_the_server(shelf):
    from fastapi.testclient import TestClient

    rng, statuses = random.Random(0), set()
    app = make_app(ServerSettings(bundle=shelf, threads=1, logs=False))
    with TestClient(app) as client:
        before = 0
        for number in range(0, MALFORMED, SWEEP):
            bodies = [(rng.choice(PATHS), damaged(rng)) for _ in range(SWEEP)]
            answers = client.portal.call(swept, app, bodies)
            statuses |= {status for status, _ in answers}
            wrong = [answer for answer in answers if answer[0] not in (200, 400, 422)]
            assert not wrong, wrong[0]
            if number == MALFORMED // 5:
                before = resident()
        assert client.post("/v1/recommend", json=GOOD).status_code == 200
        assert resident() - before < 100 << 20
    assert statuses >= {200, 422}
