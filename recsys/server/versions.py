"""The version that a worker serves: opened, warmed, and swapped for a newer one while it serves."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recsys.errors import DataError, RecsysError
from recsys.retrieval.bundle.manifest import MANIFEST
from recsys.retrieval.bundle.versions import find_bundle
from recsys.server.answering.answers import Answering
from recsys.server.answering.served import Served
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

    @property
    def served(self) -> Served:
        """The version that serves."""
        assert self.answering is not None
        return self.answering.served

    def open(self) -> None:
        """Opens and warms the current version; the one that was served last, if it is refused.

        Raises:
            RecsysError: neither can be served.
        """
        try:
            self._take(find_bundle(self.settings.bundle), self._ready)
        except RecsysError as error:
            last = self._last_good()
            if last is None:
                raise
            self._refuse(find_bundle(self.settings.bundle), error)
            self._take(last, self._ready)

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
            self._take(folder, self._ready)
        except Exception as error:  # whatever a damaged version does, the old one serves on
            self._refuse(folder, error)
            return False
        self.metrics.swaps.labels("swapped").inc()
        return True

    def _take(self, folder: Path, ready: Callable[[Path], Answering]) -> None:
        answering = ready(folder)
        before = None if self.answering is None else self.served.version
        self.answering = answering
        self.metrics.swapped(answering.served.version, before)
        logger.info("serving %s (before: %s)", answering.served.bundle.folder, before)
        self._keep_last_good(folder)

    def _ready(self, folder: Path) -> Answering:
        settings = self.settings
        served = Served(
            folder, verify=True, threads=settings.threads_of_worker(), shared=settings.workers > 1
        )
        answering = Answering(served, settings.limits, self.metrics.step)
        warm(Answering(served, settings.limits, lambda *_: None))
        return answering

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
    _raise(answering.recommend(more))
    for each in more[: len(people)]:  # alone
        _raise(answering.recommend([each]))
    _raise(answering.similar([SimilarRequest(item=item, k=k)]))
    if len(people) > 1:
        asked = people[-1]
        one = ScoreRequest(history=asked.history, user=asked.user, items=[item])
        _raise(answering.score([one]))


def _raise(answers: Sequence[object]) -> None:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
