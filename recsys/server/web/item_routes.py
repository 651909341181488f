"""Endpoints that put and delete items."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Response

from recsys.errors import ChecksumError, RecsysError
from recsys.server.items.state import FullError
from recsys.server.settings import ServerSettings
from recsys.server.versions import Versions
from recsys.server.web.item_schemas import ItemBatch, ItemChanges, NewItem
from recsys.server.web.metrics import Metrics
from recsys.server.web.replies import PROBLEMS, json_answer, later
from recsys.server.web.schemas import Problem

_WAITING = 64
"""Changes that may wait for the disk."""
_MORE: dict[int | str, dict[str, Any]] = {
    403: {"model": Problem, "description": "This server takes no run-time items."},
    404: {
        "model": Problem,
        "description": "No path holds a line break; put or delete such an id in a batch.",
    },
    409: {"model": Problem, "description": "There are as many as the operator allows."},
}
Name = Annotated[str, Path(min_length=1, max_length=1_000, description="External id of the item.")]


class ItemChanger:
    """Makes the changes of one worker, one after the other."""

    def __init__(self, settings: ServerSettings, versions: Versions, metrics: Metrics) -> None:
        """Args:
        settings: of the server.
        versions: that serve the items.
        metrics: of this worker.
        """
        self.settings, self.versions, self.metrics = settings, versions, metrics
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recsys-items")
        self._waiting = 0

    async def change(
        self, put: Mapping[str, Mapping[str, Any]], delete: Sequence[str]
    ) -> dict[str, Any]:
        """Puts and deletes items.

        Raises:
            HTTPException: it cannot be done, and was not; at a timeout it may still be done.
        """
        items, seconds = self.settings.items, self.settings.timeout
        if items.folder is None:
            raise HTTPException(403, "this server takes no items; start it with --items FOLDER")
        if len(put) + len(delete) > items.batch:
            raise HTTPException(
                422, f"{len(put) + len(delete)} items in one request; {items.batch} are allowed"
            )
        if self.versions.answering is None:
            raise later(503, "the bundle is being opened", 1)
        if self._waiting >= _WAITING:
            self.metrics.refused.labels("saturated").inc()
            raise later(429, "too many changes of items wait; send several in one batch", 1)
        self._waiting += 1
        try:
            work = self._thread.submit(self.versions.change, put, delete)
            running = asyncio.wrap_future(work)
            running.add_done_callback(self._over)
            async with asyncio.timeout(seconds):
                return await asyncio.shield(running)
        except TimeoutError as error:
            self.metrics.refused.labels("timeout").inc()
            text = f"not done within {seconds:g} s; send it again: twice does no harm"
            raise later(503, text, 1) from error
        except FullError as error:
            raise HTTPException(409, str(error)) from error
        except ChecksumError as error:
            raise later(503, str(error), 10) from error
        except RecsysError as error:
            raise HTTPException(422, str(error)) from error
        except OSError as error:
            text = f"the log of items cannot be written: {error.strerror}"
            raise later(503, text, 10) from error

    def _over(self, _: Any) -> None:
        self._waiting -= 1


def add_changes(router: APIRouter, changer: ItemChanger) -> None:
    """Adds the endpoints."""
    told: dict[str, Any] = {
        "response_model": ItemChanges,
        "responses": {**PROBLEMS, **_MORE},
        "tags": ["items"],
    }

    @router.post("/v1/items/batch", **told)
    async def change_items(body: ItemBatch) -> Response:
        """Puts and deletes several items: all of them, or none."""
        put = {str(item.item_id): item.content() for item in body.put}
        return json_answer(await changer.change(put, [str(name) for name in body.delete]))

    @router.put("/v1/items/{item_id:path}", **told)
    async def put_item(item_id: Name, body: NewItem) -> Response:
        """Adds an item, or takes its deletion back; twice is as once."""
        return json_answer(await changer.change({item_id: body.content()}, ()))

    @router.delete("/v1/items/{item_id:path}", **told)
    async def delete_item(item_id: Name) -> Response:
        """Takes an item out of all answers, whether it is known or not; twice is as once."""
        return json_answer(await changer.change({}, (item_id,)))
