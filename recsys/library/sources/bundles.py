"""A bundle as a recommender, without torch."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from recsys.library.engines.bundle_engine import BundleEngine
from recsys.library.recommender import Recommender
from recsys.retrieval.bundle.loading import load_bundle


def recommender_of_bundle(path: str | Path) -> Recommender:
    """The face of a bundle."""
    bundle = load_bundle(path)
    users = pl.Series([], dtype=pl.String)
    if bundle.manifest.users is not None:
        users = bundle.ids("user")["user_id"]
    items = bundle.ids("item")["item_id"]
    return Recommender(BundleEngine(bundle), users, items, name=str(path), origin=bundle)
