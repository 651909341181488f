"""`recsys push`: a bundle's vectors into a vector store, with a check of the lists it gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recsys.errors import ConfigError
from recsys.retrieval.bundle.loading import load_bundle
from recsys.stores.checking import Checked, check_store
from recsys.stores.plan import make_plan
from recsys.stores.pushing import drop_older, version_for, write_version
from recsys.stores.store import Answering, open_store, told, without_password


@dataclass(frozen=True)
class Pushed:
    """What a push did."""

    version: str
    """The name of the version in the store."""
    written: int
    """Rows that were written now; 0: all were there."""
    num_items: int
    """Rows of the version."""
    switched: bool
    """Whether the alias leads to it."""
    dropped: tuple[str, ...]
    """Older versions that were removed."""
    checked: Checked | None
    """What the check found; None: none was asked for."""


def push(
    bundle: str | Path,
    target: str,
    *,
    name: str = "items",
    stages: str | None = None,
    index: str = "exact",
    check: int = 0,
    k: int = 10,
    keep: int | None = None,
) -> Pushed:
    """Writes the items of a bundle into a vector store, and leads the alias to them at the end.

    The rows go into a version of their own, beside the one that is read. A push that was killed
    goes on where it was; one that is complete writes nothing. The alias moves when every row is
    there and, with `check`, when the store's lists agree with the funnel's.

    Args:
        bundle: a version's folder, or the one with `current` in it.
        target: `STORE:LOCATION`: qdrant, pgvector, milvus, lancedb, duckdb, sqlite-vec, usearch,
            faiss; or vespa, opensearch, elasticsearch, redis, for which files are written.
        name: the alias that readers use.
        stages: `32:200,256`: the prefix, how many candidates, the full length; None: the first and
            the last stage of the bundle's own.
        index: how the store finds candidates: exact, or hnsw (a graph, which may miss some).
        check: how many users' lists to compare with the funnel's; 0: none.
        k: the length of these lists.
        keep: how many versions stay, newest first; None: all.

    Raises:
        ConfigError: the target, the name, the stages or a number is not allowed, or the store
            cannot be asked.
        DataError: it is not a bundle, or one without users is to be checked.
        InstallationError: the store's client is not installed.
        BusyError: another push writes there.
        StoreError: the store refuses, or does not answer.
    """
    for option, number, least in (("check", check, 0), ("k", k, 1), ("keep", keep or 1, 1)):
        if number < least:
            raise ConfigError(f"{option} is {number}; {least} or more is expected")
    opened = load_bundle(bundle)
    plan = make_plan(opened, stages, index)
    store = open_store(target, name, asked=check > 0)
    with told(store, without_password(target)):
        try:
            version = version_for(store, name, plan)
            written = write_version(store, version, opened)
            checked = None
            if check and isinstance(store, Answering):
                checked = check_store(store, version, opened, check, k)
            good = checked is None or checked.holds
            if good:
                store.switch(version.name)
            gone = drop_older(store, name, keep) if good and keep is not None else []
            return Pushed(version.name, written, plan.num_items, good, tuple(gone), checked)
        finally:
            store.close()
