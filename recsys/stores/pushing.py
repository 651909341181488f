"""The push: rows into a version of their own, and the alias led to it at the end.

The version's name holds the digest of its content. A second push of the same bundle finds the
version: a complete one is left as it is, and one that a kill left behind is continued. Readers
follow the alias, which leads to the old version until the new one is complete.
"""

from __future__ import annotations

from recsys.errors import StoreError
from recsys.progress import progress
from recsys.retrieval.bundle.loading import Bundle
from recsys.stores.plan import Plan, rows_of
from recsys.stores.store import Store, Version, in_order, version_pattern


def version_for(store: Store, name: str, plan: Plan) -> Version:
    """The version that holds this plan, or the next free name."""
    found = in_order(name, store.versions())
    matches = [version_pattern(name).fullmatch(each) for each in found]
    known = [(int(match[1]), match[2]) for match in matches if match]
    for each, (_, digest) in zip(found, known, strict=True):
        if digest == plan.digest:
            return Version(each, plan)
    number = max((number for number, _ in known), default=0) + 1
    return Version(f"{name}_v{number}_{plan.digest}", plan)


def write_version(store: Store, version: Version, bundle: Bundle) -> int:
    """Writes what is missing of a version.

    Returns:
        The number of rows that were written.

    Raises:
        StoreError: in the end the version has more or fewer rows than the bundle.
    """
    plan = version.plan
    first = min(store.begin(version), plan.num_items)
    with progress() as bar:
        task = bar.add_task(f"pushing {version.name}", total=plan.num_items, completed=first)
        for rows in rows_of(bundle, plan, first):
            store.add(version, rows)
            bar.advance(task, len(rows.items))
    found = store.finish(version)
    if found != plan.num_items:
        raise StoreError(
            f"{version.name} holds {found:,} rows where {plan.num_items:,} were pushed; something "
            "else writes to it or deletes from it. The alias was not moved; remove this version "
            "and push again"
        )
    return plan.num_items - first


def drop_older(store: Store, name: str, keep: int) -> list[str]:
    """Removes all versions but the newest `keep` and the current one.

    Returns:
        The names of those that were removed.
    """
    current, found = store.current(), in_order(name, store.versions())
    gone = [each for each in found[: max(0, len(found) - keep)] if each != current]
    for each in gone:
        store.drop(each)
    return gone
