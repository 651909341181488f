"""One opened version of a bundle, ready to answer: ids, columns, funnels, user tower.

Shape legend: B users, N items, D coordinates, K length of the lists.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import polars as pl

from recsys.arrays import Float32, Int64
from recsys.data.histories import Histories
from recsys.errors import ConfigError, DataError, GranularityError
from recsys.files.named import inside
from recsys.library.engines.bundle_engine import BundleEngine
from recsys.retrieval.bundle.loading import Bundle, load_bundle
from recsys.retrieval.bundle.tiers import Tiers
from recsys.retrieval.bundle_funnel import open_funnel
from recsys.retrieval.codecs.base import blocks_of
from recsys.retrieval.funnel import Funnel, parse_stages
from recsys.server.answering.content import Content
from recsys.server.answering.lookup import Lookup
from recsys.server.settings import Limits
from recsys.serving.item_tower import ITEM_TOWER, open_item_tower
from recsys.serving.rebundle import BEFORE, TRADEOFF

_POINT = ("granularity", "codec", "keep", "ranking", "ndcg", "kept", "hot_bytes", "multiply_adds")
_FUNNELS = 64
"""Stages that are kept ready at once."""


class Cosines:
    """The items of a bundle, compared by the cosine of their vectors whatever its metric is."""

    def __init__(self, bundle: Bundle) -> None:
        """Of an opened bundle."""
        self.bundle, self._norms = bundle, dict[int, Float32]()

    @property
    def items(self) -> Tiers:
        """Of the bundle."""
        return self.bundle.items

    @property
    def num_items(self) -> int:
        """N."""
        return self.bundle.num_items

    @property
    def sizes(self) -> tuple[int, ...]:
        """Granularities."""
        return self.bundle.sizes

    def check_size(self, size: int) -> int:
        """`size`, if it is a granularity."""
        return self.bundle.check_size(size)

    def norms(self, size: int) -> Float32:
        """`[N]` norms of the prefixes, computed once."""
        stored = self.bundle.norms(size)
        if stored is not None:
            return stored
        if size not in self._norms:
            found = np.empty(self.num_items, np.float32)
            for rows in blocks_of(self.num_items):
                found[rows] = np.linalg.norm(self.items.decode(rows, 0, size), axis=1).clip(1e-12)
            self._norms[size] = found
        return self._norms[size]


class Served:
    """A version that answers requests; its files may be removed once it is open."""

    def __init__(self, folder: Path, *, verify: bool, threads: int | None, shared: bool) -> None:
        """Opens a version.

        Args:
            folder: of the version.
            verify: compare every byte with what was written.
            threads: of searches and of the user tower; None: all cores.
            shared: map the tiers that would be read into memory, so that several processes have
                them once.

        Raises:
            DataError, ChecksumError: it is no bundle, or damaged.
            InstallationError: a package that its parts need is missing.
        """
        self.bundle = load_bundle(folder, verify=verify, mapped=shared)
        self.engine = BundleEngine(self.bundle, threads)
        self.version, self.threads = self.bundle.folder.name, threads
        manifest = self.bundle.manifest
        item_ids = self.bundle.ids("item")["item_id"]
        self.items = Lookup(item_ids)
        users = self.bundle.ids("user")["user_id"] if manifest.users else item_ids.clear()
        self.users = Lookup(users)
        known = manifest.popularity is not None or manifest.seen is not None
        self.popularity: Int64 | None = np.array(self.bundle.popularity) if known else None
        self.content = Content(self.bundle.columns, item_ids, self.popularity)
        self.popular = self.content.popular
        for size in self.bundle.sizes:  # opened while the files are there
            self.bundle.norms(size)
        if manifest.users:
            self.engine.own_histories(np.arange(min(1, len(users))))
            self.bundle.user_vectors(slice(0, 1), self.bundle.dim)
        self.tradeoff = _tradeoff(self.bundle)
        self.item_tower = (
            open_item_tower(self.bundle.folder) if ITEM_TOWER in manifest.files else None
        )
        rotation = self.bundle.rotation
        self.rotation = None if rotation is None else np.array(rotation)
        self._funnels: dict[tuple[str, bool | None], Funnel] = {}
        self._cosines = Cosines(self.bundle)
        self._ranked: Funnel | None = None
        if manifest.ranker is not None:
            self.engine.ranker  # noqa: B018  opened, or refused, before the first request
        self._lock = Lock()

    @cached_property
    def stages(self) -> str:
        """The funnel that the bundle was made for; all coordinates, where none was."""
        return self.bundle.manifest.stages or str(self.bundle.dim)

    @cached_property
    def space(self) -> str:
        """What vectors given for items are made for: the model, whatever its tiers are."""
        told = {key: value for key, value in self.bundle.manifest.model.items() if key != BEFORE}
        text = json.dumps(told, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def has_tower(self) -> bool:
        """Whether histories can be answered."""
        return self.bundle.manifest.tower is not None

    def funnel(self, k: int, size: int | None, stages: str | None, limits: Limits) -> Funnel:
        """The funnel of a request.

        Args:
            k: K.
            size: granularity to rank by alone; None: `stages`.
            stages: `32:200,256`; None: those of the bundle.
            limits: of the operator.

        Raises:
            ConfigError, GranularityError: it is no funnel, or beyond the limits.
        """
        text = self._checked(k, size, stages, limits)
        manifest = self.bundle.manifest
        # Routing was learned for lists of one length; others are searched to the end.
        own = size is None and stages is None
        routed = own and manifest.routing is not None and manifest.routing.k == k
        return self._opened((text, routed), k, own, lambda: self._funnel(text, k, routed))

    def ranked_funnel(self, k: int, limits: Limits) -> Funnel:
        """The funnel whose candidates the bundle's ranker orders.

        Raises:
            ConfigError: there is no ranker, or it is beyond the limits.
        """
        ranker = self.engine.ranker
        if k > limits.k:
            raise ConfigError(f"k is {k}; this server gives {limits.k} items at most")
        ranker.checked_k(k)
        with self._lock:
            if self._ranked is None:
                self._ranked = ranker.funnel(self.threads)
            return self._ranked

    def similar_funnel(
        self, k: int, size: int | None, stages: str | None, limits: Limits
    ) -> Funnel:
        """The same for items like an item: by cosines, and from a scan.

        Raises:
            ConfigError, GranularityError: as `funnel`.
        """
        text = self._checked(k, size, stages, limits)
        own = size is None and stages is None

        def make() -> Funnel:
            chosen = parse_stages(text, k)
            if len(chosen) > 1 and chosen[1].granularity <= chosen[0].granularity:
                chosen = chosen[1:]  # the first is an index's
            last = chosen[-1]
            stages = [type(each)(each.granularity, max(each.keep, last.keep)) for each in chosen]
            return Funnel(self._cosines, stages, threads=self.threads)

        return self._opened((text, None), k, own, make)

    @property
    def reads_time(self) -> str:
        """What its user tower reads of time: none, history or request."""
        return self.engine.reads_time

    def _checked(self, k: int, size: int | None, stages: str | None, limits: Limits) -> str:
        if k > limits.k:
            raise ConfigError(f"k is {k}; this server gives {limits.k} items at most")
        if size is None and stages is None:
            return self.stages
        if size is not None:
            _check_granularity(size, limits)
            return str(self.bundle.check_size(size))
        assert stages is not None
        if not limits.keep:
            raise ConfigError("this server takes no stages; leave them out, or give a granularity")
        chosen = parse_stages(stages, k)
        for stage in chosen:
            _check_granularity(self.bundle.check_size(stage.granularity), limits)
            if stage.keep > limits.keep:
                raise ConfigError(
                    f"a stage of {stages} keeps {stage.keep}; this server keeps {limits.keep} at "
                    "most"
                )
        return ",".join(
            [f"{each.granularity}:{each.keep}" for each in chosen[:-1]]
            + [str(chosen[-1].granularity)]
        )

    def _funnel(self, text: str, k: int, routed: bool) -> Funnel:
        stages = None if text == self.stages else text
        return open_funnel(self.bundle, stages=stages, k=k, routed=routed, threads=self.threads)

    def _opened(
        self, key: tuple[str, bool | None], k: int, own: bool, make: Callable[[], Funnel]
    ) -> Funnel:
        with self._lock:
            if key not in self._funnels:
                while len(self._funnels) >= _FUNNELS:
                    self._funnels.pop(next(iter(self._funnels)))
                self._funnels[key] = make()
            funnel = self._funnels[key]
        keeps = [stage.keep for stage in parse_stages(key[0], k)][-len(funnel.stages) :]
        # What was counted for short lists is enough for longer ones.
        return funnel.keeping([max(keep, k) if own else keep for keep in keeps])


def _check_granularity(size: int, limits: Limits) -> None:
    if limits.granularities and size not in limits.granularities:
        raise GranularityError(
            f"granularity {size} is not among {limits.granularities}, which this server allows"
        )


def histories_of(
    lists: list[Int64],
    users: Int64 | None = None,
    times: list[Int64] | None = None,
    asked_at: Int64 | None = None,
) -> Histories:
    """Histories of some lists of item indices, and of lists of their times."""
    offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)
    items = np.concatenate([np.empty(0, np.int64), *lists]).astype(np.int32)
    seconds = None if times is None else np.concatenate([np.empty(0, np.int64), *times])
    owners = np.full(len(lists), -1) if users is None else users
    return Histories(owners, items, offsets, seconds, asked_at)


def no_times(served: Served) -> DataError:
    """The error for histories without the times that the user tower reads."""
    return DataError(
        f"the user tower of {served.version} reads when each item of a history was; give `times`, "
        "in seconds since 1970, one for each item"
    )


def no_tower(served: Served) -> DataError:
    """The error for histories that a bundle cannot turn into users."""
    why = served.bundle.manifest.no_tower
    return DataError(
        f"{served.version} has no user tower{f' ({why})' if why else ''}, so histories cannot be "
        "answered; ask for a user of the bundle, or export it with its tower"
    )


def _tradeoff(bundle: Bundle) -> list[dict[str, Any]]:
    """Measured funnels that the bundle carries; empty: none."""
    if TRADEOFF not in bundle.manifest.files:
        return []
    frame = pl.read_csv(inside(bundle.folder, TRADEOFF))
    if not {*_POINT, "part"} <= set(frame.columns):
        return []
    first = frame.filter(pl.col("part") == frame["part"][0])
    return first.select(_POINT).fill_nan(None).to_dicts()
