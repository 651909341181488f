"""Sparse codes: each item is k of many atoms with weights.

Sparse codes rival nested vectors at equal bytes (Wen et al., Beyond Matryoshka: Revisiting Sparse
Coding for Adaptive Representation, ICML 2025). Departures: their codes come from a trained encoder
that keeps its k largest outputs; here each item's atoms are sought by matching pursuit (Mallat and
Zhang, 1993) and the atoms are fitted in closed form (Engan et al., MOD, 1999), which reconstructs
the given items better; and users stay dense, so nothing is lost on their side.

Items are centred: what all items share moves a user's scores by one number and ranks nothing
(unless a user has several vectors, each of whose scores would be moved otherwise).

Shape legend: N items, D coordinates, H atoms, k atoms of an item, B items of a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recsys.progress import progress

BYTES_PER_ENTRY = 4
"""An index of 16 bits and a value of 16 bits."""
MAX_ATOMS = 1 << 16
_ROUNDS = 8
_BLOCK_FLOATS = 1 << 22
_RIDGE = 1e-4


@dataclass(frozen=True)
class SparseCodes:
    """Sparse codes: k atoms with weights for each item."""

    indices: Tensor
    """`[N, k]` int32, distinct within a row, below `MAX_ATOMS`."""
    values: Tensor
    """`[N, k]` float16."""
    atoms: Tensor
    """`[H, D]` float32, each of unit length; shared by all items."""

    @property
    def bytes_per_row(self) -> int:
        """Bytes of one item."""
        return BYTES_PER_ENTRY * self.indices.shape[1]

    def decode(self) -> Tensor:
        """`[N, D]` float32: the items (centred, if they were), as the codes have them."""
        return _combine(self.indices, self.values.float(), self.atoms)


def fit_sparse_codes(
    items: Tensor, k: int, num_atoms: int, seed: int, *, centred: bool = True
) -> SparseCodes:
    """Learns atoms for `items [N, D]` and codes each item with k of them.

    Args:
        items: float32, N >= num_atoms.
        k: atoms of an item, at most `num_atoms`.
        num_atoms: H, at most `MAX_ATOMS`.
        seed: which items the atoms start from.
        centred: whether items may be centred.
    """
    if not 1 <= k <= num_atoms <= min(MAX_ATOMS, len(items)):
        raise ValueError(
            f"k {k} of {num_atoms} atoms for {len(items)} items: must ascend, up to {MAX_ATOMS}"
        )
    coded = items.float() - items.float().mean(0) if centred else items.float()
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed))
    atoms = torch.nn.functional.normalize(coded[order[:num_atoms]], dim=1)
    with progress() as bar:
        for _ in bar.track(range(_ROUNDS), description=f"atoms, {k} of {num_atoms}"):
            indices, values = _pursue(coded, atoms, k)
            atoms = _fit_atoms(coded, indices, values, atoms)
    indices, values = _pursue(coded, atoms, k)
    return SparseCodes(indices.int(), values.half(), atoms)


def _pursue(items: Tensor, atoms: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The atoms `[N, k]` matching pursuit chooses, and their least-squares values."""
    gram = atoms @ atoms.T
    block = max(1, _BLOCK_FLOATS // max(len(atoms), k * k))
    parts = [_pursue_block(rows @ atoms.T, gram, k) for rows in items.split(block)]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _pursue_block(products: Tensor, gram: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """From `products [B, H]` of items and atoms; an atom is chosen once at most."""
    residual, chosen = products.clone(), []
    free = torch.ones_like(products)
    for _ in range(k):
        best = (residual.abs() * free + free).argmax(1, keepdim=True)  # + free: never one again
        chosen.append(best)
        free.scatter_(1, best, 0.0)
        residual -= residual.gather(1, best) * gram[best[:, 0]]
    indices = torch.cat(chosen, 1)
    own = gram[indices[:, :, None], indices[:, None, :]]
    own = own + _RIDGE * torch.eye(k)  # atoms may be alike; exact values matter less than finite
    values = torch.cholesky_solve(
        products.gather(1, indices)[:, :, None], torch.linalg.cholesky(own)
    )
    return indices, values[:, :, 0]


def _fit_atoms(items: Tensor, indices: Tensor, values: Tensor, atoms: Tensor) -> Tensor:
    """MOD: the atoms that reconstruct best with these codes; unused ones become worst items."""
    codes = torch.zeros(len(items), len(atoms)).scatter_(1, indices, values)
    moments = codes.T @ codes
    used = moments.diagonal() > 0
    ridge = _RIDGE * moments.diagonal().mean() * torch.eye(len(atoms))
    fitted = torch.linalg.solve(moments + ridge, codes.T @ items)
    errors = (items - _combine(indices, values, atoms)).square().sum(1)
    worst = errors.topk(int((~used).sum())).indices
    fitted[~used] = items[worst]
    return torch.nn.functional.normalize(fitted, dim=1)


def _combine(indices: Tensor, values: Tensor, atoms: Tensor) -> Tensor:
    """Sums of atoms: `[N, k]` codes -> `[N, D]`."""
    sums: Tensor = torch.nn.functional.embedding_bag(
        indices.long(), atoms, per_sample_weights=values, mode="sum"
    )
    return sums
