"""The user tower at serving: user vectors from histories, by onnxruntime.

Shape legend: B users, K interests of a user, T items of all histories, L longest history, D
embedding_dim.
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from recsys.arrays import Float32, Int64
from recsys.errors import DataError
from recsys.files.named import inside
from recsys.files.onnx_sessions import open_session
from recsys.retrieval.bundle.loading import Bundle, check_bundle
from recsys.retrieval.bundle.manifest import REMEDY
from recsys.retrieval.checks import checked_count, checked_jagged
from recsys.retrieval.interests import shape_of_users

Integers = npt.NDArray[np.integer]
_BATCH = 256


def time_inputs(reads_time: str) -> tuple[str, ...]:
    """Names of the inputs that a tower has beside `vectors` and `lengths`."""
    return {"none": (), "history": ("timestamps",), "request": ("timestamps", "asked_at")}[
        reads_time
    ]


class UserTower:
    """Computes user vectors from histories; the items' vectors come from the bundle's tiers."""

    def __init__(self, bundle: Bundle, *, threads: int = 0) -> None:
        """Opens the tower of a bundle.

        Raises:
            DataError: the bundle has none, or its tiers do not hold whole vectors.
            ConfigError: `threads` is not a number of threads.
            InstallationError: onnxruntime is missing.
        """
        threads = checked_count(threads, "threads", least=0)
        entry = check_bundle(bundle).manifest.tower
        if entry is None:
            why = bundle.manifest.no_tower
            raise DataError(
                f"{bundle.folder} has no user tower{f' ({why})' if why else ''}; {REMEDY}, with "
                "its tower, or search with vectors of `bundle.user_vectors`"
            )
        self.bundle, self.history_length = bundle, entry.history_length
        self.reads_time = entry.reads_time
        self._session = open_session(str(inside(bundle.folder, entry.file)), threads=threads)

    def user_vectors(
        self,
        items: Integers,
        offsets: Integers,
        more: Float32 | None = None,
        *,
        timestamps: Integers | None = None,
        asked_at: Integers | None = None,
    ) -> Float32:
        """`[B, D]` of histories: row b has had `items[offsets[b]:offsets[b + 1]]`, oldest first;
        `[B, K, D]` where the bundle's `interests` are K above 1.

        Args:
            items: `[T]` item indices (`Catalogue.histories` gives those of external ids).
            offsets: `[B + 1]`, from 0 to T.
            more: `[A, D]` vectors of items that the bundle does not hold; their indices follow its
                own.
            timestamps: `[T]` seconds since 1970 (numbers of the data set, if it has no dates);
                looked at by a tower that `reads_time`.
            asked_at: `[B]` likewise, the time of each request; None: now.

        Raises:
            DataError: a history is empty, an item is none of the bundle's, the offsets do not fit
                the items, an array is not one of integers, or times are missing or too few.
        """
        known = self.bundle.num_items + (0 if more is None else len(more))
        items, offsets = checked_jagged(items, offsets, known, "histories")
        times = self._times(len(items), len(offsets) - 1, timestamps, asked_at)
        lengths = np.diff(offsets)
        if len(lengths) and lengths.min() < 1:
            row = int(lengths.argmin())
            raise DataError(
                f"the history in row {row} is empty; a user vector needs at least one item: give "
                "those "
                "without a history something else, the most popular items say"
            )
        shape = shape_of_users(len(lengths), self.bundle.interests, self.bundle.dim)
        users = np.empty(shape, np.float32)
        # Neighbours in length share a batch, or the longest history would pad all others.
        order = np.argsort(lengths, kind="stable")
        for lo in range(0, len(order), _BATCH):
            rows = order[lo : lo + _BATCH]
            asked = {"asked_at": times["asked_at"][rows]} if "asked_at" in times else {}
            seen = times.get("timestamps")
            users[rows] = self._run(items, offsets[rows + 1], lengths[rows], more, seen, asked)
        return users

    def _times(
        self, count: int, rows: int, timestamps: Integers | None, asked_at: Integers | None
    ) -> dict[str, Int64]:
        """What the tower reads of time, by the names of its inputs."""
        wanted = time_inputs(self.reads_time)
        given = {"timestamps": timestamps, "asked_at": asked_at}
        if "asked_at" in wanted and asked_at is None:
            given["asked_at"] = np.full(rows, int(time.time()))
        found = {}
        for name, expected in zip(wanted, (count, rows), strict=False):
            array = given[name]
            if array is None:
                raise DataError(
                    f"the user tower of {self.bundle.folder} reads when each interaction was; give "
                    "timestamps with the histories, one for each item"
                )
            found[name] = np.asarray(array)
            if found[name].shape != (expected,) or found[name].dtype.kind not in "iu":
                raise DataError(
                    f"{name} are {found[name].dtype} {list(found[name].shape)}; {expected} whole "
                    "numbers are expected, seconds since 1970"
                )
        return {name: array.astype(np.int64) for name, array in found.items()}

    def _run(
        self,
        items: Int64,
        ends: Int64,
        lengths: Int64,
        more: Float32 | None,
        timestamps: Int64 | None,
        asked: dict[str, Int64],
    ) -> Float32:
        lengths = np.minimum(lengths, self.history_length)
        steps = np.arange(lengths.max())
        present = steps < lengths[:, None]
        places = ((ends - lengths)[:, None] + steps)[present]
        if timestamps is not None:
            padded = np.zeros(present.shape, np.int64)
            padded[present] = timestamps[places]
            asked = {"timestamps": padded, **asked}
        history = items[places]
        distinct, places = np.unique(history, return_inverse=True)
        vectors = np.zeros((*present.shape, self.bundle.dim), np.float32)
        vectors[present] = self._rows(distinct, more)[places]
        inputs = {"vectors": vectors, "lengths": lengths, **asked}
        users: Float32 = self._session.run(None, inputs)[0]
        return users

    def _rows(self, items: Int64, more: Float32 | None) -> Float32:
        """`[n, D]` of ascending items."""
        if more is None:
            return self.bundle.items.decode(items, 0, self.bundle.dim)
        held = int(np.searchsorted(items, self.bundle.num_items))
        own = self.bundle.items.decode(items[:held], 0, self.bundle.dim)
        return np.concatenate([own, more[items[held:] - self.bundle.num_items]])
