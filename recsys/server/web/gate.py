"""The door of the server: the key, the size and the time of a body, a line of log, figures."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from recsys.server.settings import ServerSettings
from recsys.server.web.metrics import Metrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
logger = logging.getLogger("recsys.server.requests")
OPEN = ("/", "/healthz", "/readyz")
"""Paths that need no key."""
_PAGE = "/page/"
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class RefusedError(Exception):
    """A request that does not come in."""

    def __init__(self, status: int, why: str, detail: str) -> None:
        """With its status, a word for the figures and what to tell."""
        super().__init__(detail)
        self.status, self.why, self.detail = status, why, detail


class Gate:
    """ASGI middleware; it reads the whole body before the application sees any of it."""

    def __init__(
        self, app: App, settings: ServerSettings, key: str | None, metrics: Metrics
    ) -> None:
        """Args:
        app: what is behind.
        settings: limits.
        key: that requests must carry; None: none.
        metrics: of this worker.
        """
        self.app, self.settings, self.metrics = app, settings, metrics
        self._key = None if key is None else key.encode()
        self._answered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, name = time.perf_counter(), 500, uuid.uuid4().hex[:16]
        headers = dict(scope["headers"])

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [*_HEADERS, (b"x-request-id", name.encode()), *self._ending()]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        try:
            self._check_key(scope["path"], headers)
            body = await self._body(headers, receive)
            await self.app(scope, _once(body, receive), sending)
        except RefusedError as refused:
            self.metrics.refused.labels(refused.why).inc()
            await _refuse(refused, sending)
        finally:
            self._tell(scope, status, time.perf_counter() - start, name)

    def _ending(self) -> list[tuple[bytes, bytes]]:
        """What closes the connection after an answer; of many, one does (`turns`)."""
        self._answered += 1
        turns = self.settings.turns
        return [(b"connection", b"close")] if turns and not self._answered % turns else []

    def _check_key(self, path: str, headers: dict[bytes, bytes]) -> None:
        if self._key is None or path in OPEN or path.startswith(_PAGE):
            return
        given = headers.get(b"x-api-key") or headers.get(b"authorization", b"").removeprefix(
            b"Bearer "
        )
        if not hmac.compare_digest(given, self._key):
            raise RefusedError(
                401, "key", "send the API key as `X-API-Key: KEY` or `Authorization: Bearer KEY`"
            )

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        most = self.settings.limits.body
        told = headers.get(b"content-length", b"0")
        if told.isdigit() and int(told) > most:
            raise RefusedError(413, "body", f"the body has {int(told)} bytes; {most} are allowed")
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.settings.timeout):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RefusedError(400, "gone", "the connection was closed")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > most:
                        raise RefusedError(413, "body", f"the body has more than {most} bytes")
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError as error:
            seconds = f"{self.settings.timeout:g}"
            raise RefusedError(408, "slow", f"the body did not arrive in {seconds} s") from error

    def _tell(self, scope: Scope, status: int, seconds: float, name: str) -> None:
        path = getattr(scope.get("route"), "path", "other")
        self.metrics.requests.labels(path, str(status)).inc()
        self.metrics.seconds.labels(path).observe(seconds)
        if self.settings.logs:
            line = {
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "request": name,
                "method": scope["method"],
                "path": path if path != "other" else scope["path"][:200],
                "status": status,
                "ms": round(seconds * 1e3, 3),
            }
            logger.info(json.dumps(line))


def _once(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read, then what follows."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(refused: RefusedError, send: Send) -> None:
    body = json.dumps({"detail": refused.detail}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        # What is left of the body is not read.
        (b"connection", b"close"),
    ]
    if refused.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
