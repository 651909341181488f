"""Codebooks of product quantization, trained by Faiss.

Shape legend: N rows, d coordinates, M parts of d / M coordinates, C centroids of each.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.arrays import Float32
from recsys.extras import extra

_SEED = 1234


@cache
def faiss() -> Any:
    """Faiss, imported when it is first used: bundles without an index are served without it.

    Raises:
        InstallationError: it is not installed.
    """
    with extra("faiss"):
        import faiss as module
    return module  # what it tells of its types is a part, and wrong in places


def use_threads(threads: int | None) -> None:
    """Sets how many threads faiss takes, None: all cores; one in a forked process.

    OpenMP's threads do not live on in a process that is forked after they were used: it would wait
    for them for ever.
    """
    process, most = _first_use()
    faiss().omp_set_num_threads((threads or most) if os.getpid() == process else 1)


@cache
def _first_use() -> tuple[int, int]:
    return os.getpid(), faiss().omp_get_max_threads()


def train_codebooks(vectors: Float32, num_parts: int, bits: int) -> Float32:
    """k-means of every part: `[N, d]` -> `[M, 2^bits, d / M]`; the same rows give the same."""
    dim = vectors.shape[1]
    quantizer = faiss().ProductQuantizer(dim, num_parts, bits)
    quantizer.cp.min_points_per_centroid = 1  # fewer rows than faiss likes are still quantized
    quantizer.cp.max_points_per_centroid = len(vectors)  # whoever calls has drawn the sample
    quantizer.cp.seed = _SEED
    use_threads(None)
    quantizer.train(vectors)
    shape = (num_parts, 1 << bits, dim // num_parts)
    codebooks: Float32 = faiss().vector_to_array(quantizer.centroids).reshape(shape)
    return codebooks


def assign_codes(vectors: Float32, codebooks: Float32) -> npt.NDArray[np.uint8]:
    """The nearest centroid of each part of `[N, d]`: bits of one code behind those of another,
    in bytes filled from the lowest bit: `[N, M]` of 256 centroids, `[N, (M + 1) // 2]` of 16.
    """
    num_parts, centroids, width = codebooks.shape
    quantizer = faiss().ProductQuantizer(num_parts * width, num_parts, centroids.bit_length() - 1)
    faiss().copy_array_to_vector(codebooks.ravel(), quantizer.centroids)
    use_threads(None)
    codes: npt.NDArray[np.uint8] = quantizer.compute_codes(vectors)
    return codes
