"""The version that a worker serves: opened, warmed, and swapped for a newer one while it serves."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from recsys.errors import ConfigError, DataError, RecsysError
from recsys.retrieval.bundle.manifest import MANIFEST
from recsys.retrieval.bundle.versions import find_bundle
from recsys.retrieval.scan import FEW
from recsys.server.answering.added import Added
from recsys.server.answering.answers import Answering, Told
from recsys.server.answering.served import Served
from recsys.server.answering.stock import Stock
from recsys.server.items.encoding import Content
from recsys.server.items.log import ItemLog
from recsys.server.items.state import ItemState
from recsys.server.memory import give_back
from recsys.server.settings import ServerSettings
from recsys.server.web.metrics import Metrics
from recsys.server.web.schemas import RecommendRequest, ScoreRequest, SimilarRequest

SHARED = "RECSYS_SERVER_SHARED"
"""Variable with the folder that all workers of one server write to."""
logger = logging.getLogger("recsys.server")


class Versions:
    """Opens versions of one bundle; `answering` is the one that serves."""

    def __init__(self, settings: ServerSettings, metrics: Metrics) -> None:
        """Nothing is opened yet."""
        self.settings, self.metrics = settings, metrics
        self.answering: Answering | None = None
        self._refused: tuple[str, int] | None = None
        folder = settings.items.folder
        self._log = None if folder is None else ItemLog(folder)
        self._state: ItemState | None = None
        self._shown: int | None = None
        self._changing = Lock()

    @property
    def served(self) -> Served:
        """The version that serves."""
        return self.stock.served

    @property
    def stock(self) -> Stock:
        """Its items, with those put and without those deleted."""
        assert self.answering is not None
        return self.answering.stock

    @property
    def sequence(self) -> int | None:
        """The number of the last change of items that is served; None: the server takes none."""
        return self._shown

    def open(self) -> None:
        """Opens and warms the current version; the one that was served last, if it is refused.

        Raises:
            RecsysError: neither can be served.
        """
        if self._log is not None:
            self._log.rewrite()
        try:
            self._take(find_bundle(self.settings.bundle))
        except RecsysError as error:
            last = self._last_good()
            if last is None:
                raise
            self._refuse(find_bundle(self.settings.bundle), error)
            self._take(last)

    def renew(self) -> bool:
        """Swaps in what `current` names now; a version that cannot serve is refused, and the old
        one serves on. Whether there was a swap.
        """
        try:
            folder = find_bundle(self.settings.bundle)
            mark = (str(folder), (folder / MANIFEST).stat().st_mtime_ns)
        except (DataError, OSError):  # it is being moved; the next look will tell
            return False
        if folder == self.served.bundle.folder or mark == self._refused:
            return False
        try:
            self._take(folder)
        except Exception as error:  # whatever a damaged version does, the old one serves on
            self._refuse(folder, error)
            return False
        finally:  # one of the two versions that were open is gone
            give_back()
        self.metrics.swaps.labels("swapped").inc()
        return True

    def change(self, put: Mapping[str, Content], delete: Sequence[str]) -> dict[str, Any]:
        """Puts and deletes run-time items; served here when it returns, and kept for good.

        Raises:
            ConfigError: this server takes none.
            DataError, FullError, OSError: as `ItemState.change`.
        """
        if self._state is None:
            raise ConfigError("this server takes no items; start it with --items FOLDER")
        with self._changing:
            state = self._state
            try:
                told = state.change(put, delete)
            finally:  # what others have written was read, whatever became of this change
                self._serve(state)
            self.metrics.changed(len(put), len(delete))
            return {"version": self.served.version, "sequence": state.number, "items": told}

    def look(self) -> bool:
        """Serves what other workers have put and deleted; whether there was something.

        Raises:
            ChecksumError: the log is damaged; what was read before is served on.
        """
        with self._changing:
            if self._state is None or not self._state.behind():
                return False
            self._state.read()
            return self._serve(self._state)

    def why_waiting(self, item: str) -> str | None:
        """Why an item that was put is not served; None: it does not wait."""
        return None if self._state is None else self._state.why_waiting(item)

    def _take(self, folder: Path) -> None:
        served, state = self._ready(folder)
        before = None if self.answering is None else self.served.version
        with self._changing:
            if state is None:
                self.answering = self._answering(Stock(served))
            else:
                state.read()  # what came while it was made ready
                self._state, self._shown = state, None
                self._serve(state)
        self.metrics.swapped(served.version, before)
        logger.info("serving %s (before: %s)", served.bundle.folder, before)
        self._keep_last_good(folder)

    def _serve(self, state: ItemState) -> bool:
        """Answers with the items that were read, unless it does so already."""
        if state.number == self._shown:
            return False
        stock = state.stock()
        self.answering, self._shown = self._answering(stock), state.number
        self.metrics.stocked(len(stock) - stock.num_held, len(stock.deleted), stock.waiting)
        return True

    def _answering(self, stock: Stock, told: Told | None = None) -> Answering:
        return Answering(stock, self.settings.limits, told or self.metrics.step)

    def _ready(self, folder: Path) -> tuple[Served, ItemState | None]:
        settings = self.settings
        served = Served(
            folder, verify=True, threads=settings.threads_of_worker(), shared=settings.workers > 1
        )
        stocks, state = [Stock(served)], None
        if self._log is not None:
            state = ItemState(served, settings.items, self._log)
            state.read()
            stocks += [_with_one_more(served)] if len(served.items) else []
        for stock in stocks:
            warm(self._answering(stock, lambda *_: None))
        return served, state

    def _refuse(self, folder: Path, error: Exception) -> None:
        self._refused = (str(folder), (folder / MANIFEST).stat().st_mtime_ns)
        self.metrics.swaps.labels("refused").inc()
        logger.error("%s is refused, the version before serves on: %s", folder, error)

    def _last_good(self) -> Path | None:
        """The version that a worker has served before, where this one begins in the place of a
        killed one.
        """
        mark = self._mark()
        if mark is None or not mark.is_file():
            return None
        folder = Path(mark.read_text("utf-8"))
        return folder if (folder / MANIFEST).is_file() else None

    def _keep_last_good(self, folder: Path) -> None:
        mark = self._mark()
        if mark is not None:
            beside = mark.with_name(f"{mark.name}.{id(self)}")
            beside.write_text(str(folder), "utf-8")
            beside.replace(mark)

    def _mark(self) -> Path | None:
        shared = os.environ.get(SHARED)
        return Path(shared) / "last-good" if shared else None


def warm(answering: Answering) -> None:
    """Compiles all kernels and runs the user tower, as the first requests would.

    Raises:
        RecsysError: the bundle cannot answer.
    """
    served = answering.served
    if not len(served.items):
        return
    item = served.items.names[0]
    people: list[RecommendRequest] = [RecommendRequest(history=[])]
    if served.has_tower:
        people += [RecommendRequest(history=[item]), RecommendRequest(history=[item] * 3)]
    if len(served.users):
        people.append(RecommendRequest(user=served.users.names[0]))
    sizes = [
        size
        for size in served.bundle.sizes
        if size in (answering.limits.granularities or served.bundle.sizes)
    ]
    ways: list[dict[str, Any]] = [
        {},
        {"block": [item], "filter_seen": False},
        {"allow": [item]},
        *({"granularity": size} for size in sizes),
    ]
    entry = served.bundle.manifest.ranker
    k = min(10, answering.limits.k, *([entry.keep] if entry is not None else []))
    more = [each.model_copy(update={"k": k} | way) for way in ways for each in people]
    times = -(-(FEW + 1) // len(people))  # many are scanned for in another way than few
    _raise(answering.recommend(more * times))
    for each in more[: len(people)]:  # alone
        _raise(answering.recommend([each]))
    _raise(answering.similar([SimilarRequest(item=item, k=k)]))
    if len(people) > 1:
        asked = people[-1]
        one = ScoreRequest(history=asked.history, user=asked.user, items=[item])
        _raise(answering.score([one]))


def _with_one_more(served: Served) -> Stock:
    """Compiles what added items are searched by, before there are any."""
    schema = served.content.frame.schema
    one = served.bundle.items.decode(np.zeros(1, np.int64), 0, served.bundle.dim)
    added = Added(served, ["\0"], one, [dict.fromkeys(schema)])
    return Stock(served, added, np.zeros(1, np.int64))


def _raise(answers: Sequence[object]) -> None:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
