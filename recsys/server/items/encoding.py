"""Vectors and columns of run-time items, as one version of a bundle needs them.

Shape legend: D coordinates of the bundle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from recsys.arrays import Float32
from recsys.errors import DataError
from recsys.server.answering.served import Served

Content = Mapping[str, Any]
"""What an item was put with: `features` or `vector` (and `space`), and `columns`."""
_ABSENT: dict[str, Any] = {"categories": (), "numbers": float("nan")}


def encode(served: Served, contents: Sequence[Content]) -> list[Float32 | DataError]:
    """`[D]` for each item, or why this version cannot serve it."""
    try:
        return list(_together(served, contents))
    except DataError as error:
        if len(contents) == 1:
            return [error]
        return [encode(served, [content])[0] for content in contents]


def _together(served: Served, contents: Sequence[Content]) -> Float32:
    """`[n, D]` of items that are all as they must be.

    Raises:
        DataError: one is not.
    """
    rows = np.empty((len(contents), served.bundle.dim), np.float32)
    featured = [row for row, content in enumerate(contents) if "features" in content]
    given = [row for row, content in enumerate(contents) if "vector" in content]
    if len(featured) + len(given) < len(contents):
        raise DataError(
            f"{served.version} does not hold this item; give features for its item tower, or a "
            "vector"
        )
    if featured:
        rows[featured] = _from_features(served, [contents[row]["features"] for row in featured])
    for row in given:
        rows[row] = _from_vector(served, contents[row])
    return rows


def _from_features(served: Served, features: Sequence[Mapping[str, Any]]) -> Float32:
    tower = served.item_tower
    if tower is None:
        raise DataError(
            f"{served.version} has no item tower: its items are ids alone. Give a vector of its "
            "space, or train with model.items and export again"
        )
    if not all(features):
        raise DataError(f"there are no features; give some of {', '.join(tower.kinds)}")
    names = dict.fromkeys(name for each in features for name in each)
    columns = {name: [each.get(name) for each in features] for name in names}
    for name, values in columns.items():
        if None in values and name in tower.kinds:
            absent = _ABSENT.get(tower.kinds[name])
            if absent is None:
                absent = np.zeros(len(tower.arrays[f"{name}/centre"]), np.float32)
            columns[name] = [absent if value is None else value for value in values]
    vectors = tower.vectors(columns)[:, : served.bundle.dim]
    if not np.isfinite(vectors).all():
        raise DataError("the features give a vector that is not finite; give smaller numbers")
    return vectors


def _from_vector(served: Served, content: Content) -> Float32:
    space = content.get("space")
    if space is not None and space != served.space:
        raise DataError(
            f"its vector is of another model's space than that of {served.version}; put it again "
            "with a vector of this one"
        )
    rotation = served.rotation
    dim = served.bundle.dim if rotation is None else len(rotation)
    given = content["vector"]
    try:
        with np.errstate(over="ignore"):
            vector = np.asarray(given, np.float32)
    except OverflowError:  # a whole number beyond any float
        vector = np.full(len(given), np.inf, np.float32)
    if vector.shape != (dim,) or not np.isfinite(vector).all():
        raise DataError(f"the vector has {len(given)} numbers; {dim} finite ones are expected")
    turned: Float32 = vector if rotation is None else vector @ rotation
    return turned[: served.bundle.dim]


def fitted(columns: Mapping[str, Any], schema: Mapping[str, pl.DataType]) -> dict[str, Any]:
    """What of an item's columns a bundle can tell, null where a column is missing or of another
    type.
    """
    return {
        name: columns[name] if name in columns and _fits(columns[name], kind) else None
        for name, kind in schema.items()
    }


def check_columns(columns: Mapping[str, Any], schema: Mapping[str, pl.DataType]) -> None:
    """Raises DataError unless the bundle has all these columns, of these types."""
    if lost := [name for name in columns if name not in schema]:
        raise DataError(
            f"the bundle has no column {', '.join(lost)}; it has "
            f"{', '.join(schema) or 'none (recsys export --columns)'}"
        )
    for name, value in columns.items():
        if not _fits(value, schema[name]):
            raise DataError(f"column {name} is {value!r}; {schema[name]} is expected")


def _fits(value: Any, kind: pl.DataType) -> bool:
    if value is None:
        return True
    if isinstance(value, list) != isinstance(kind, pl.List):
        return False
    if isinstance(value, bool) != (kind == pl.Boolean):
        return False
    try:
        pl.Series([value], dtype=kind, strict=True)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        return False
    return True
