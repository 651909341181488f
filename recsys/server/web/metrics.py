"""Figures for Prometheus; those of several workers are added up."""

from __future__ import annotations

import os
from pathlib import Path

from recsys.extras import extra

with extra("serve"):
    from prometheus_client import (
        CONTENT_TYPE_LATEST,
        CollectorRegistry,
        Counter,
        Gauge,
        Histogram,
        generate_latest,
        multiprocess,
    )

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Variable with the folder that workers share; it is set before this module is imported."""
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """What one worker counts."""

    def __init__(self) -> None:
        """Empty."""
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "recsys_requests",
            "Requests by path and status.",
            ["path", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "recsys_request_seconds",
            "Seconds from a request's head to its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.steps = Histogram(
            "recsys_step_seconds",
            "Seconds of a step: wait, ids, users, first, then each granularity.",
            ["step"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.candidates = Counter(
            "recsys_candidates",
            "Candidates that each stage has looked at.",
            ["step"],
            registry=self.registry,
        )
        self.together = Histogram(
            "recsys_together",
            "Requests that were answered together.",
            buckets=_COUNTS,
            registry=self.registry,
        )
        self.unknown = Counter(
            "recsys_unknown_ids", "Ids that the bundle does not know.", registry=self.registry
        )
        self.fallbacks = Counter(
            "recsys_fallbacks",
            "Lists of the most popular items: nothing was known.",
            registry=self.registry,
        )
        self.refused = Counter(
            "recsys_refused", "Requests refused, by reason.", ["why"], registry=self.registry
        )
        self.swaps = Counter(
            "recsys_swaps",
            "New versions: swapped in, or refused.",
            ["result"],
            registry=self.registry,
        )
        self.item_changes = Counter(
            "recsys_item_changes",
            "Items that clients have put and deleted.",
            ["kind"],
            registry=self.registry,
        )
        self.items = Gauge(
            "recsys_runtime_items",
            "Run-time items: added to the bundle, deleted of it, waiting for another version.",
            ["state"],
            multiprocess_mode="livemax",
            registry=self.registry,
        )
        self.serving = Gauge(
            "recsys_workers",
            "Workers that serve a version.",
            ["version"],
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self.waiting = Gauge(
            "recsys_waiting_requests",
            "Requests that wait for a search.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )

    def step(self, name: str, seconds: float, count: int) -> None:
        """One step of answering is over."""
        if name == "together":
            self.together.observe(count)
            return
        self.steps.labels(name).observe(seconds)
        if name not in ("wait", "ids", "users"):
            self.candidates.labels(name).inc(count)

    def changed(self, put: int, deleted: int) -> None:
        """A client has put and deleted items."""
        self.item_changes.labels("put").inc(put)
        self.item_changes.labels("delete").inc(deleted)

    def stocked(self, added: int, deleted: int, waiting: int) -> None:
        """This worker serves so many run-time items."""
        for state, count in (("added", added), ("deleted", deleted), ("waiting", waiting)):
            self.items.labels(state).set(count)

    def swapped(self, version: str, before: str | None) -> None:
        """This worker serves another version."""
        if before is not None:
            self.serving.labels(before).set(0)
        self.serving.labels(version).set(1)


def page_of(metrics: Metrics) -> tuple[bytes, str]:
    """The text that Prometheus reads, of all workers, and its content type."""
    registry = metrics.registry
    folder = os.environ.get(FOLDER)
    if folder:
        _forget_dead(Path(folder))
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry), CONTENT_TYPE_LATEST


def _forget_dead(folder: Path) -> None:
    """Workers that are gone serve nothing; what they have counted stays."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdigit() and not _alive(int(pid)):
            file.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
