"""The user tower at serving: histories in, user vectors out, by onnxruntime and without torch.

Shape legend: B users, T items of all histories, L longest history, D embedding_dim.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys.errors import DataError, InstallationError
from recsys.retrieval.bundle import Bundle, Int32, Int64
from recsys.retrieval.encoding import Float32
from recsys.retrieval.manifest import REMEDY

_BATCH = 256


def open_session(model: str | bytes, *, threads: int = 0) -> Any:
    """An onnxruntime session on the CPU; `threads` 0: all cores.

    Raises:
        InstallationError: onnxruntime is missing.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InstallationError(
            "user towers are run by onnxruntime, which is missing; pip install 'recsys[serve]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class UserTower:
    """Turns histories into user vectors; the items' vectors come from the bundle's tiers."""

    def __init__(self, bundle: Bundle, *, threads: int = 0) -> None:
        """Opens the tower of a bundle.

        Raises:
            DataError: the bundle has none, or its tiers do not hold whole vectors.
            InstallationError: onnxruntime is missing.
        """
        entry = bundle.manifest.tower
        if entry is None:
            raise DataError(f"{bundle.folder} has no user tower; {REMEDY}, with its tower")
        self.bundle, self.history_length = bundle, entry.history_length
        self._session = open_session(str(bundle.folder / entry.file), threads=threads)

    def user_vectors(self, items: Int32, offsets: Int64) -> Float32:
        """`[B, D]` of histories: row b has had `items[offsets[b]:offsets[b + 1]]`, oldest first.

        Raises:
            DataError: a history is empty, or an item is none of the bundle's.
        """
        lengths = np.diff(offsets)
        if len(lengths) and lengths.min() < 1:
            row = int(lengths.argmin())
            raise DataError(f"the history in row {row} is empty; a user vector needs one item")
        if len(items) and not 0 <= items.min() <= items.max() < self.bundle.num_items:
            raise DataError(f"a history holds an item outside 0..{self.bundle.num_items - 1}")
        users = np.empty((len(lengths), self.bundle.dim), np.float32)
        # Neighbours in length share a batch, or the longest history would pad all others.
        order = np.argsort(lengths, kind="stable")
        for lo in range(0, len(order), _BATCH):
            rows = order[lo : lo + _BATCH]
            users[rows] = self._run(items, offsets[rows + 1], lengths[rows])
        return users

    def _run(self, items: Int32, ends: Int64, lengths: Int64) -> Float32:
        lengths = np.minimum(lengths, self.history_length)
        steps = np.arange(lengths.max())
        present = steps < lengths[:, None]
        history = items[((ends - lengths)[:, None] + steps)[present]]
        distinct, places = np.unique(history, return_inverse=True)
        vectors = np.zeros((*present.shape, self.bundle.dim), np.float32)
        vectors[present] = self.bundle.items.decode(distinct, 0, self.bundle.dim)[places]
        users: Float32 = self._session.run(None, {"vectors": vectors, "lengths": lengths})[0]
        return users
