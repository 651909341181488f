"""What all endpoints answer with: JSON, and problems."""

from __future__ import annotations

import json
from typing import Any

from fastapi import HTTPException, Response

from recsys.server.web.schemas import Problem

_SAID = {
    400: "The body cannot be read.",
    401: "The API key is missing or wrong.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    422: "The request asks for what cannot be, or is beyond this server's limits.",
    429: "Too many requests wait: try again after `Retry-After` seconds.",
    503: "No answer in time: try again after `Retry-After` seconds.",
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text} for status, text in _SAID.items()
}


def json_answer(value: Any) -> Response:
    """A value as JSON."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return Response(text.encode("utf-8", "replace"), media_type="application/json")


def later(status: int, detail: str, seconds: int) -> HTTPException:
    """What says when to come again."""
    return HTTPException(status, detail, {"Retry-After": str(seconds)})
