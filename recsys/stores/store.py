"""The protocol of stores, what is asked of them, and the list of those there are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from recsys.arrays import Float32
from recsys.errors import ConfigError, RecsysError, StoreError
from recsys.plugins.registry import Registry
from recsys.stores.plan import Plan, Rows

ItemId = str | int
Hits = list[tuple[ItemId, float]]
"""Items of one list and their scores, best first."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")


@dataclass(frozen=True)
class Version:
    """One version of the items in a store: a table, a collection or a folder of its own."""

    name: str
    """`items_v3_0123456789ab`: a number that counts up, and the digest of the plan."""
    plan: Plan


@dataclass(frozen=True)
class Query:
    """One user's question."""

    user: Float32
    """`[D]`, as the bundle has it: no store needs it normalized."""
    excluded: Sequence[ItemId]
    """External ids that shall not be found."""


class Store(Protocol):
    """Where versions are written. All methods but `add` can be called twice without harm."""

    client: ClassVar[tuple[str, ...]]
    """Modules whose errors are told as errors of the store."""

    def __init__(self, location: str, name: str) -> None:
        """Connects.

        Args:
            location: what stands behind the store's name in TARGET: an address, a file, a folder.
            name: the alias that readers use.
        """
        ...

    def versions(self) -> list[str]:
        """Names of all versions, complete or not."""
        ...

    def current(self) -> str | None:
        """The version that the alias leads to."""
        ...

    def begin(self, version: Version) -> int:
        """Makes a version ready to be written.

        Returns:
            The number of rows that are there already: those before it are safe.
        """
        ...

    def add(self, version: Version, rows: Rows) -> None:
        """Writes rows. They are safe from a kill of this process when it returns."""
        ...

    def finish(self, version: Version) -> int:
        """Makes a written version ready to be searched.

        Returns:
            The number of rows that it holds.
        """
        ...

    def switch(self, version: str) -> None:
        """Leads the alias to a version, in one step."""
        ...

    def drop(self, version: str) -> None:
        """Removes a version."""
        ...

    def close(self) -> None:
        """Ends the connection."""
        ...


@runtime_checkable
class Answering(Protocol):
    """A store that can be asked from here."""

    def search(self, version: Version, query: Query, k: int) -> Hits:
        """The two-stage query: candidates by the prefix, ranked by the full vectors."""
        ...

    def rank(self, version: Version, query: Query, items: Sequence[ItemId]) -> Hits:
        """The second stage alone: scores of given items."""
        ...


_ROOM = "recsys.stores"
STORES: Registry[type[Store]] = Registry(
    kind="store",
    group="recsys.stores",
    inside={
        "qdrant": f"{_ROOM}.databases.qdrant_store:QdrantStore",
        "pgvector": f"{_ROOM}.databases.pgvector_store:PgvectorStore",
        "milvus": f"{_ROOM}.databases.milvus_store:MilvusStore",
        "lancedb": f"{_ROOM}.databases.lancedb_store:LanceStore",
        "duckdb": f"{_ROOM}.databases.duckdb_store:DuckStore",
        "sqlite-vec": f"{_ROOM}.databases.sqlite_store:SqliteStore",
        "usearch": f"{_ROOM}.files.usearch_store:UsearchStore",
        "faiss": f"{_ROOM}.files.faiss_store:FaissStore",
        "vespa": f"{_ROOM}.feeds.vespa_feed:VespaFeed",
        "opensearch": f"{_ROOM}.feeds.search_engine_feeds:OpenSearchFeed",
        "elasticsearch": f"{_ROOM}.feeds.search_engine_feeds:ElasticsearchFeed",
        "redis": f"{_ROOM}.feeds.redis_feed:RedisFeed",
    },
    lacks=lambda found: [
        f"a method {name}"
        for name in ("versions", "current", "begin", "add", "finish", "switch", "drop", "close")
        if not callable(getattr(found, name, None))
    ],
)


def open_store(target: str, name: str, *, asked: bool = False) -> Store:
    """Connects to `STORE:LOCATION`, as `qdrant:http://localhost:6333` or `duckdb:stores`.

    Args:
        target: the store, and where it is.
        name: the alias that readers use.
        asked: it is to be `Answering`; one that is not is refused before anything is made there.

    Raises:
        ConfigError: the target or the name is not of the right form, or there is no such store, or
            it cannot be asked and should be.
        InstallationError: its client is not installed.
        StoreError: it does not answer.
    """
    kind, colon, location = target.partition(":")
    if not colon or not location:
        raise ConfigError(
            f"target {target!r} is not of the form STORE:LOCATION, as duckdb:stores or "
            f"qdrant:http://localhost:6333; stores: {', '.join(STORES.names())}"
        )
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"name {name!r} does not fit every store: use at most 31 of a-z, 0-9 and _, "
            "beginning with a letter"
        )
    found = STORES.find(kind)
    if asked and not issubclass(found, Answering):
        raise ConfigError(
            f"{target} is written as files, so there is nothing to ask yet; push without "
            "--check, load the files as LOAD.txt beside them says, and ask the store itself"
        )
    with told(found, f"{kind} at {without_password(location)}"):
        return found(location, name)


@contextmanager
def told(store: type[Store] | Store, what: str) -> Iterator[None]:
    """Tells errors of a store's client as errors of that store.

    Raises:
        StoreError: the client raised one.
    """
    try:
        yield
    except RecsysError:
        raise
    except Exception as error:
        names = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
        if not names & {*store.client, "httpx", "grpc"}:
            raise
        text = " ".join(str(error).split())[:500]
        raise StoreError(
            f"{what} answers: {text or type(error).__name__}. What was acknowledged is kept: mend "
            "the cause and push again"
        ) from error


def without_password(location: str) -> str:
    """An address as it may be shown."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", location)


def version_pattern(name: str) -> re.Pattern[str]:
    """Matches names of versions; group 1 is the number, group 2 the digest."""
    return re.compile(rf"{re.escape(name)}_v(\d+)_([0-9a-f]{{12}})")


def in_order(name: str, found: Sequence[str]) -> list[str]:
    """Those names that are versions of `name`, oldest first."""
    matches = [match for each in found if (match := version_pattern(name).fullmatch(each))]
    return [match[0] for match in sorted(matches, key=lambda match: int(match[1]))]
