"""The only importer of faiss.

Shape legend: N rows, d coordinates, M parts of d / M coordinates.
"""

from __future__ import annotations

import faiss
import numpy as np
import numpy.typing as npt

from recsys.retrieval.encoding import Float32

_BITS = 8
_SEED = 1234


def train_codebooks(vectors: Float32, num_parts: int) -> Float32:
    """k-means of every part: `[N, d]` -> `[M, 256, d / M]`; the same rows give the same."""
    dim = vectors.shape[1]
    quantizer = faiss.ProductQuantizer(dim, num_parts, _BITS)
    quantizer.cp.min_points_per_centroid = 1  # fewer rows than faiss likes are still quantized
    quantizer.cp.seed = _SEED
    quantizer.train(vectors)
    shape = (num_parts, 1 << _BITS, dim // num_parts)
    codebooks: Float32 = faiss.vector_to_array(quantizer.centroids).reshape(shape)
    return codebooks


def assign_codes(vectors: Float32, codebooks: Float32) -> npt.NDArray[np.uint8]:
    """The nearest centroid of each part: `[N, M]`."""
    num_parts, _, width = codebooks.shape
    quantizer = faiss.ProductQuantizer(num_parts * width, num_parts, _BITS)
    faiss.copy_array_to_vector(codebooks.ravel(), quantizer.centroids)
    codes: npt.NDArray[np.uint8] = quantizer.compute_codes(vectors)
    return codes
