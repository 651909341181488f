"""Hash map from ids to slots: open addressing, linear probing, deletion.

Knuth, The Art of Computer Programming, vol. 3, section 6.4: algorithms L and R. Deletion moves
later entries of the probe back instead of leaving marks, so years of coming and going slow nothing
down.

All arrays are the caller's, of fixed length: `keys [M]` int64 (`EMPTY`: free) and `slots [M]`
int32, M a power of two that is never filled by more than half.
"""

import numpy as np

from recsys.kernels.compiling import kernel

EMPTY = np.int64(-(2**63))
"""No id may have this value."""


@kernel
def _home(key, mask):
    """Where the probe of a key starts: the finalizer of splitmix64."""
    mixed = np.uint64(key) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64((mixed ^ (mixed >> np.uint64(31))) & np.uint64(mask))


@kernel
def find(keys, key):
    """The place of a key, or the free place where it would go."""
    mask = len(keys) - 1
    place = _home(key, mask)
    while keys[place] != EMPTY and keys[place] != key:
        place = (place + 1) & mask
    return place


@kernel
def delete(keys, slots, place):
    """Frees a place; entries behind it that probed past it move back."""
    mask = len(keys) - 1
    hole = place
    place = (place + 1) & mask
    while keys[place] != EMPTY:
        home = _home(keys[place], mask)
        # The hole lies on the probe from its home to where the entry is now.
        if ((place - home) & mask) >= ((place - hole) & mask):
            keys[hole] = keys[place]
            slots[hole] = slots[place]
            hole = place
        place = (place + 1) & mask
    keys[hole] = EMPTY


@kernel
def look_up(keys, slots, ids, found):
    """Fills `found [B]` with the slot of every id of `ids [B]`, -1 where it has none."""
    for i in range(len(ids)):
        place = find(keys, ids[i])
        found[i] = slots[place] if keys[place] != EMPTY else -1
