"""What the server tells of a bundle, its items and its users."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys.errors import ConfigError
from recsys.retrieval.bundle.tiers import Tier
from recsys.server.answering.served import Served
from recsys.server.answering.stock import Stock
from recsys.server.settings import ServerSettings

_MOST_VALUES = 200
_LATEST = 20


def describe(stock: Stock, settings: ServerSettings) -> dict[str, Any]:
    """The schema `Bundle`."""
    served = stock.served
    bundle, manifest = served.bundle, served.bundle.manifest
    allowed = settings.limits.granularities or bundle.sizes
    funnel = served.funnel(min(10, settings.limits.k), None, None, settings.limits)
    last = funnel.stages[-1].granularity
    return {
        "version": served.version,
        "created_at": manifest.created_at,
        "parent": manifest.parent,
        "model": manifest.model.get("name"),
        "metric": manifest.metric,
        "items": bundle.num_items,
        "added": len(stock) - stock.num_held,
        "deleted": len(stock.deleted),
        "waiting": stock.waiting,
        "users": len(served.users),
        "interests": bundle.interests,
        "histories": served.has_tower,
        "reads_time": served.reads_time,
        "user_columns": [] if served.engine.columns is None else list(served.engine.columns.names),
        "stages": served.stages,
        "cost": {
            "size": last,
            "bytes": round((funnel.hot_bytes + funnel.cold_bytes) / max(1, bundle.num_items), 1),
            "hot_bytes": round(funnel.hot_bytes / max(1, bundle.num_items), 1),
            "multiply_adds": funnel.multiply_adds(interests=bundle.interests),
            "allowed": True,
        },
        "granularities": [
            {
                "size": size,
                "bytes": prefix_bytes(served, size),
                "hot_bytes": prefix_bytes(served, size, ("ram",)),
                "multiply_adds": float(bundle.interests * bundle.num_items * size),
                "allowed": size in allowed,
            }
            for size in bundle.sizes
        ],
        "columns": served.content.frame.columns,
        "title": served.content.title,
        "categories": {
            name: values
            for name, values in served.content.categories.items()
            if len(values) <= _MOST_VALUES
        },
        "limits": settings.limits.model_dump(mode="json"),
        "tradeoff": served.tradeoff,
    }


def prefix_bytes(served: Served, size: int, residences: tuple[str, ...] = ("ram", "mmap")) -> float:
    """Bytes of one item's first `size` coordinates, as the tiers store them."""
    tiers = [tier for tier in served.bundle.items.parts if tier.spec.residence in residences]
    return round(sum(_bytes(tier, size) for tier in tiers), 1)


def _bytes(tier: Tier, size: int) -> float:
    spec, codec = tier.spec, tier.vectors.codec
    if size <= spec.lo:
        return 0.0
    dim = min(size, spec.hi) - spec.lo
    try:
        return float(codec.bytes_per_row(dim))
    except ConfigError:  # a product code has parts of one length
        return codec.bytes_per_row(spec.hi - spec.lo) * dim / (spec.hi - spec.lo)


def describe_item(stock: Stock, place: int) -> dict[str, Any]:
    """The schema `Item`."""
    return describe_items(stock, np.array([place]))[0]


def describe_items(stock: Stock, places: Any) -> list[dict[str, Any]]:
    """The schema `Item`, of several."""
    content = stock.served.content
    rows = stock.rows(places, content.frame.columns)
    names = stock.ids(places)
    return [
        {
            "item_id": name,
            "title": str(row.get(content.title or "") or name),
            "columns": row,
        }
        for name, row in zip(names, rows, strict=True)
    ]


def describe_user(stock: Stock, place: int) -> dict[str, Any]:
    """The schema `User`."""
    served = stock.served
    history = served.engine.own_histories(np.array([place])).items
    left = stock.left(history.astype(np.int64))
    return {
        "user_id": served.users.ids(np.array([place]))[0],
        "length": len(history),
        "latest": describe_items(stock, left[::-1][:_LATEST]),
    }
