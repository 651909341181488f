"""A new bundle from an existing one, with other tiers, codecs, index or stages.

Vectors are those the bundle holds, so what its codecs lost stays lost; the new manifest names the
tiers they come from, and states its own errors against them.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from recsys.arrays import Int64
from recsys.retrieval.bundle.loading import Bundle
from recsys.retrieval.bundle.manifest import BundleManifest
from recsys.retrieval.bundle.writing import Addition, BundleSource, UserSource
from recsys.serving.item_tower import ITEM_TOWER
from recsys.serving.user_columns import USER_COLUMNS

BEFORE = "tiers_before"
"""The entry of a manifest's `model` with the tiers that a bundle's vectors were taken from."""
TRADEOFF = "tradeoff.csv"
"""The table of `recsys tradeoff`, of the run that a bundle comes from."""


def source_of_bundle(bundle: Bundle, *, with_users: bool) -> BundleSource:
    """What a bundle holds, decoded."""
    manifest = bundle.manifest
    users = None
    if with_users and manifest.users is not None:
        items, offsets = bundle.seen
        users = UserSource(
            vectors=bundle.user_vectors(slice(None), bundle.dim),
            ids=bundle.ids("user")["user_id"],
            seen_items=items,
            seen_offsets=offsets,
            seen_times=bundle.seen_times,
            at=manifest.users_at,
        )
    return BundleSource(
        items=bundle.items.decode(slice(None), 0, bundle.dim),
        item_ids=bundle.ids("item")["item_id"],
        sizes=manifest.sizes,
        normalize=bundle.normalize,
        scales=manifest.scales,
        repeats=manifest.repeats,
        popularity=_popularity(bundle),
        columns=bundle.columns if manifest.columns is not None else None,
        users=users,
        interests=bundle.interests,
        model=manifest.model | {BEFORE: [str(tier.spec) for tier in bundle.items.parts]},
        protocol=manifest.protocol,
    )


def _popularity(bundle: Bundle) -> Int64 | None:
    known = bundle.manifest.popularity is not None or bundle.manifest.seen is not None
    return bundle.popularity if known else None


def kept_of(bundle: Bundle, no_tower: str | None) -> Addition:
    """Takes along what does not depend on the tiers: networks and the rotation.

    Args:
        bundle: the one they come from.
        no_tower: why its user tower shall not; None: it shall.
    """
    manifest = bundle.manifest
    tower = manifest.tower if no_tower is None else None
    entries = [entry.file for entry in (tower, manifest.rotation) if entry is not None]
    others = (ITEM_TOWER, USER_COLUMNS, TRADEOFF)
    files = [*entries, *(file for file in others if file in manifest.files)]

    def write(folder: Path, _: BundleManifest) -> dict[str, Any]:
        for file in files:
            shutil.copyfile(bundle.folder / file, folder / file)
        return {"tower": tower, "no_tower": no_tower, "rotation": manifest.rotation}

    return write
