"""The user tower at serving: user vectors from histories, by onnxruntime.

Shape legend: B users, T items of all histories, L longest history, D embedding_dim.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recsys.arrays import Float32, Int64
from recsys.errors import DataError
from recsys.files.named import inside
from recsys.onnx_sessions import open_session
from recsys.retrieval.bundle.loading import Bundle, check_bundle
from recsys.retrieval.bundle.manifest import REMEDY
from recsys.retrieval.checks import checked_count, checked_jagged

Integers = npt.NDArray[np.integer]
_BATCH = 256


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
                "its tower, or search with vectors of `bundle.users`"
            )
        self.bundle, self.history_length = bundle, entry.history_length
        self._session = open_session(str(inside(bundle.folder, entry.file)), threads=threads)

    def user_vectors(
        self, items: Integers, offsets: Integers, more: Float32 | None = None
    ) -> Float32:
        """`[B, D]` of histories: row b has had `items[offsets[b]:offsets[b + 1]]`, oldest first.

        Args:
            items: `[T]` item indices (`Catalogue.histories` gives those of external ids).
            offsets: `[B + 1]`, from 0 to T.
            more: `[A, D]` vectors of items that the bundle does not hold; their indices follow its
                own.

        Raises:
            DataError: a history is empty, an item is none of the bundle's, the offsets do not fit
                the items, or either is not an array of integers.
        """
        known = self.bundle.num_items + (0 if more is None else len(more))
        items, offsets = checked_jagged(items, offsets, known, "histories")
        lengths = np.diff(offsets)
        if len(lengths) and lengths.min() < 1:
            row = int(lengths.argmin())
            raise DataError(
                f"the history in row {row} is empty; a user vector needs at least one item: give "
                "those "
                "without a history something else, the most popular items say"
            )
        users = np.empty((len(lengths), self.bundle.dim), np.float32)
        # Neighbours in length share a batch, or the longest history would pad all others.
        order = np.argsort(lengths, kind="stable")
        for lo in range(0, len(order), _BATCH):
            rows = order[lo : lo + _BATCH]
            users[rows] = self._run(items, offsets[rows + 1], lengths[rows], more)
        return users

    def _run(self, items: Int64, ends: Int64, lengths: Int64, more: Float32 | None) -> Float32:
        lengths = np.minimum(lengths, self.history_length)
        steps = np.arange(lengths.max())
        present = steps < lengths[:, None]
        history = items[((ends - lengths)[:, None] + steps)[present]]
        distinct, places = np.unique(history, return_inverse=True)
        vectors = np.zeros((*present.shape, self.bundle.dim), np.float32)
        vectors[present] = self._rows(distinct, more)[places]
        users: Float32 = self._session.run(None, {"vectors": vectors, "lengths": lengths})[0]
        return users

    def _rows(self, items: Int64, more: Float32 | None) -> Float32:
        """`[n, D]` of ascending items."""
        if more is None:
            return self.bundle.items.decode(items, 0, self.bundle.dim)
        held = int(np.searchsorted(items, self.bundle.num_items))
        own = self.bundle.items.decode(items[:held], 0, self.bundle.dim)
        return np.concatenate([own, more[items[held:] - self.bundle.num_items]])
