"""Sortable keys of scored items: integers in the order of score, ties by item.

A key has the score's level (a whole number that sorts like the score) in its upper and the inverted
item number in its lower 32 bits. Larger is better. The inverted key (`~key`) has the item itself in
its lower bits and sorts upwards from the best.

The formulas are the same for numpy arrays, torch tensors and numbers in a compiled loop.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys.arrays import Float32, Int64
from recsys.kernels.compiling import kernel

NOTHING = np.int64(np.iinfo(np.int64).min)
"""The key of an empty place in a list; its item is -1."""
_LOW_BITS = 0xFFFFFFFF


def turn_bits(bits: Any) -> Any:
    """Levels of the bits of float32 scores (int32), and the bits of levels.

    Negative floats sort backwards by their bits, so these are turned. -0 has a level of its own:
    add 0.0 to the scores first.
    """
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def key_of(level: Any, item: Any) -> Any:
    """The key of an item.

    Args:
        level: int64.
        item: int64; -1 comes after all others.
    """
    return (level << 32) | (~item & _LOW_BITS)


def level_of(key: Any) -> Any:
    """A key's level."""
    return key >> 32


def item_of(key: Any) -> Any:
    """A key's item number."""
    return ~key & _LOW_BITS


def levels_of(scores: Float32) -> Int64:
    """Levels of float32 scores; -0 and 0 are one."""
    bits = (np.asarray(scores, np.float32) + np.float32(0)).view(np.int32)
    levels: Int64 = turn_bits(bits).astype(np.int64)
    return levels


def scores_of_levels(levels: Int64) -> Float32:
    """The float32 scores of levels."""
    scores: Float32 = turn_bits(levels.astype(np.int32)).view(np.float32)
    return scores


compiled_turn_bits, compiled_key_of = kernel(turn_bits), kernel(key_of)
