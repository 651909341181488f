"""Settings of the server: where it listens, and what a request may ask for."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from recsys.config import StrictModel


class Limits(StrictModel):
    """What one request may ask for."""

    k: int = Field(default=100, ge=1, le=10_000)
    """Longest list."""
    history: int = Field(default=1_000, ge=1)
    """Items of a history; longer ones are refused."""
    ids: int = Field(default=10_000, ge=1)
    """Items to allow, to block or to score in one request."""
    batch: int = Field(default=64, ge=1)
    """Requests in one batch."""
    body: int = Field(default=1 << 20, ge=1 << 10)
    """Bytes of a body."""
    keep: int = Field(default=10_000, ge=0)
    """Most candidates that a stage of a request may keep; 0: requests may not name stages."""
    granularities: tuple[int, ...] = ()
    """Those a request may name; empty: all of the bundle."""


class ItemSettings(StrictModel):
    """Items that are put and deleted while the server runs."""

    folder: Path | None = None
    """Where their log is kept; None: the server takes none."""
    most: int = Field(default=10_000, ge=0)
    """Items beside those of the bundle; every search scores all of them."""
    batch: int = Field(default=1_000, ge=1)
    """Items of one request."""
    bytes: int = Field(default=1 << 28, ge=1)
    """Size of the log from which on nothing more is put."""
    watch: float = Field(default=0.2, gt=0)
    """Seconds between two looks at what other workers have written."""


class ServerSettings(StrictModel):
    """Everything that `recsys serve` is told."""

    bundle: Path
    """Folder of all versions, whose `current` is served, or of one version."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0: reachable from other machines."""
    port: int = Field(default=8000, ge=0, le=65_535)
    """0: any free one."""
    workers: int = Field(default=1, ge=1, le=256)
    """Processes; mapped tiers are in memory once for all of them."""
    threads: int = Field(default=0, ge=0)
    """Of searches, in each worker; 0: the cores are shared among the workers."""
    key_file: Path | None = None
    """File with the API key that requests must carry; None: the variable RECSYS_API_KEY, if set."""
    limits: Limits = Limits()
    items: ItemSettings = ItemSettings()
    timeout: float = Field(default=10.0, gt=0)
    """Seconds until an unanswered request ends with 503, and within which a body must arrive."""
    waiting: int = Field(default=1_024, ge=1)
    """Requests that may wait for a search; further ones get 429."""
    together: int = Field(default=256, ge=1)
    """Most requests that are searched together; 1: each alone."""
    watch: float = Field(default=1.0, ge=0)
    """Seconds between two looks at `current`; 0: the first version is served for good."""
    turns: int = Field(default=100, ge=0)
    """Every so many answers of a worker, one closes its connection: clients that keep theirs open
    spread over the workers again after one was started anew. 0: never."""
    grace: float = Field(default=20.0, ge=0)
    """Seconds that running requests have when the server is stopped."""
    page: bool = True
    """Show the page at /."""
    logs: bool = True
    """Write a line of JSON for each request to standard output."""

    def threads_of_worker(self) -> int:
        """Threads of one worker's searches."""
        return self.threads or max(1, (os.cpu_count() or 1) // self.workers)
