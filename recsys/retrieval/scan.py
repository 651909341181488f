"""The first stage without an index: every item is scored, in chunks that stay in the cache.

Shape legend: B users, N items, C items of a chunk, d coordinates of the prefix.
"""

from __future__ import annotations

import os
from functools import cached_property

import numpy as np
import numpy.typing as npt

from recsys.kernels.threads import in_parts
from recsys.retrieval.amx import have_tiles
from recsys.retrieval.encoding import Encoded, Float32, blocks_of
from recsys.retrieval.filters import Filters, Int64
from recsys.retrieval.gather import padded
from recsys.retrieval.listing import USERS_AT_ONCE, Lists, make_lists, taken_of
from recsys.retrieval.tiers import Tiers
from recsys.retrieval.tile_scan import TileScan
from recsys.retrieval.tiles import depth_of

_CHUNK = 4096
_FLOAT_CHUNK = 2048
_ITEMS_AT_ONCE = 64
_SUM_LIMIT = 2**31 - 1
_LEVELS = 127 * 256 + 127  # the nearest multiple of 256 is that of a signed byte


class Scan:
    """Scores the prefix of every item."""

    def __init__(self, tiers: Tiers, size: int, norms: Float32 | None, threads: int | None) -> None:
        """Prepares the items' factors.

        Args:
            tiers: of the items.
            size: d.
            norms: `[N]` of the prefixes, where scores are cosines.
            threads: None: all cores.
        """
        self.tiers, self.size = tiers, size
        self.threads = threads or os.cpu_count() or 1
        first = tiers.parts[0].vectors
        self.codes = first if _is_int8(first) and size <= first.dim else None
        self.tiled = self.codes is not None and depth_of(size) > 0 and have_tiles()
        self._norms = norms

    @cached_property
    def factors(self) -> Float32 | None:
        """`[N]`; made when they are needed: a funnel over an index seldom scans."""
        factors = None if self.codes is None else self.codes.rows.get("scales")
        if self._norms is not None:
            factors = np.float32(1) / self._norms if factors is None else factors / self._norms
        return None if factors is None else np.asarray(factors)

    @property
    def extra_bytes(self) -> int:
        """Bytes in memory beside the tiers."""
        borrowed = self.codes is not None and self.factors is self.codes.rows.get("scales")
        return 0 if self.factors is None or borrowed else self.factors.nbytes

    @property
    def multiply_adds(self) -> int:
        """For one user."""
        return len(self.tiers) * self.size

    @cached_property
    def longest(self) -> float:
        """The largest norm of a prefix, or of its codes, times its factor."""
        largest = 0.0
        for rows in blocks_of(len(self.tiers)):
            if self.codes is None:
                stored = self.tiers.decode(rows, 0, self.size).astype(np.float64)
            else:
                stored = self.codes.rows["codes"][rows, : self.size].astype(np.float32)
            norms = np.linalg.norm(stored, axis=1)
            norms *= 1 if self.factors is None else self.factors[rows]
            largest = max(largest, float(norms.max()))
        return largest

    def slack_of(self, users: Float32) -> Float32:
        """`[B]` how far two sums of the same products may be from each other, whatever their order.

        Each is off by d 2^-24 of the sum of the products' sizes at most, which the norms bound
        (Cauchy and Schwarz); a little more for factors, and for what is too small for float32.
        """
        lengths = np.linalg.norm(users.astype(np.float64), axis=1)
        slack = (2 * self.size + 8) * 2.0**-24 * 1.001 * self.longest * lengths
        rounded: Float32 = (slack + self.size * 2.0**-148).astype(np.float32)
        return rounded

    def find(self, users: Float32, keep: int, filters: Filters) -> Int64:
        """`[B, <= keep]` the best items, in no order, -1 behind the end of a list.

        Args:
            users: `[B, d]`.
            keep: how many.
            filters: of these users.
        """
        if self.codes is None:
            return taken_of(self._scan_floats(users, keep, filters), self.threads)
        whole = self._whole(users, self.codes)
        if self.tiled:
            codes = np.asarray(self.codes.rows["codes"])
            scan = TileScan(codes, self.size, self.factors, self.longest, self.threads)
            return scan.find(whole, keep, filters)
        return taken_of(self._scan_codes(whole, keep, filters, self.codes), self.threads)

    def _factors(self, rows: slice, room: int) -> Float32:
        """The factors of a chunk, padded to `room`."""
        factors = np.zeros(room, np.float32)
        count = rows.stop - rows.start
        factors[:count] = 1 if self.factors is None else self.factors[rows]
        return factors

    def _whole(self, users: Float32, codes: Encoded) -> npt.NDArray[np.int16]:
        """`[B, d]` users in whole numbers, with what coordinates of codes are multiplied by."""
        if "scales" in codes.shared:
            users = users * codes.shared["scales"][: self.size]
        return _rounded(users)

    def _scan_codes(
        self, users: npt.NDArray[np.int16], keep: int, filters: Filters, codes: Encoded
    ) -> Lists:
        from recsys.retrieval.kernel import pack, scan_codes

        lists, pairs = make_lists(len(users), keep), (self.size + 1) // 2
        wide = np.zeros((len(lists.floors), 2 * pairs), np.int16)
        wide[: len(users), : self.size] = users
        for rows in _chunks(len(self.tiers), _CHUNK):
            count = rows.stop - rows.start
            blocks = -(-count // _ITEMS_AT_ONCE)
            packed = np.empty((blocks, pairs, _ITEMS_AT_ONCE, 2), np.int16)
            pack(np.asarray(codes.rows["codes"][rows]), self.size, packed)
            factors = self._factors(rows, blocks * _ITEMS_AT_ONCE)
            chunk = (rows.start, count, packed.ravel(), pairs, wide.ravel(), factors)
            listed = lists.arguments(filters)
            in_parts(scan_codes, len(users), self.threads, *chunk, *listed, unit=USERS_AT_ONCE)
        return lists

    def _scan_floats(self, users: Float32, keep: int, filters: Filters) -> Lists:
        from recsys.retrieval.kernel import scan_scores

        lists, slack, own = make_lists(len(users), keep), self.slack_of(users), padded(users)
        for rows in _chunks(len(self.tiers), _FLOAT_CHUNK):
            vectors = self.tiers.decode(rows, 0, self.size)
            near = users @ vectors.T
            factors = self._factors(rows, rows.stop - rows.start)
            norms = np.array(self._norms[rows]) if self._norms is not None else factors[:0]
            chunk = (rows.start, near, slack, factors, norms, padded(vectors).ravel(), own.ravel())
            listed = lists.arguments(filters)
            in_parts(scan_scores, len(users), self.threads, *chunk, *listed)
        return lists


def _is_int8(vectors: Encoded) -> bool:
    return vectors.codec.name in ("int8", "int8-coordinate")


def _rounded(users: Float32) -> npt.NDArray[np.int16]:
    """Each row as int16 of its own step, small enough that no sum of products overflows."""
    levels = min(_LEVELS, _SUM_LIMIT // (128 * users.shape[1]))
    peaks = np.abs(users).max(axis=1, keepdims=True).clip(np.finfo(np.float32).tiny)
    rounded: npt.NDArray[np.int16] = np.rint(users / peaks * levels).astype(np.int16)
    return rounded


def _chunks(num_rows: int, size: int) -> list[slice]:
    return [slice(lo, min(lo + size, num_rows)) for lo in range(0, num_rows, size)]
