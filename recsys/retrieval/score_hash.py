"""The hash of all that scores of items come from: a ranker is fitted on these very scores."""

from __future__ import annotations

import hashlib

import numpy as np

from recsys.retrieval.codecs.base import blocks_of
from recsys.retrieval.funnel import Searchable


def score_hash(items: Searchable) -> str:
    """sha256 over the tiers' codecs and bytes, the granularities and the metric.

    The same for tiers in memory and for those of a bundle, in whatever form it stores them.
    """
    digest = hashlib.sha256(f"{items.sizes} {items.norms(items.sizes[-1]) is None}".encode())
    for tier in items.items.parts:
        spec = tier.spec
        digest.update(f"{spec.lo}:{spec.hi}:{spec.codec}".encode())
        for arrays in (tier.vectors.rows, tier.vectors.shared):
            for name in sorted(arrays):
                array = arrays[name]
                digest.update(f"{name} {array.dtype} {array.shape}".encode())
                for rows in blocks_of(len(array)) if array.ndim else [...]:
                    digest.update(np.ascontiguousarray(array[rows]).tobytes())
    return digest.hexdigest()
