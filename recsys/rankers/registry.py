"""The rankers by name."""

from __future__ import annotations

from recsys.plugins.registry import Registry
from recsys.rankers.base import RankerConfig, lacks_of_ranker

_ROOM = "recsys.rankers.models"
RANKERS: Registry[type[RankerConfig]] = Registry(
    kind="ranker",
    group="recsys.rankers",
    inside={},
    lacks=lacks_of_ranker,
)
