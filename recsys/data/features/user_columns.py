"""Columns of the users table that a model reads, in the form of item features.

    user_features(dataset.user_frame(), UserColumns(categories=("gender",), numbers=("age",)))

Row i belongs to user_index i. What is missing is marked: no category, or no number.

Shape legend: U users.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from recsys.config import StrictModel
from recsys.data.features.columns import read_categories, read_numbers
from recsys.data.features.loading import CategoricalFeature, ItemFeatures, NumericFeature
from recsys.errors import ConfigError

_IDS = ("user_index", "user_id")


class UserColumns(StrictModel):
    """Columns of the data set's users table (`recsys prepare ... user_file=FILE`)."""

    categories: tuple[str, ...] = ()
    """Columns taken as categories; a text may hold several, with | between them."""
    numbers: tuple[str, ...] = ()
    """Columns of numbers, or of texts that are all numbers, as they come from CSV."""
    min_count: int = Field(default=2, ge=1)
    """A category of fewer users is taken for missing: nothing can be learned from it for others."""

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.categories, *self.numbers)

    @model_validator(mode="after")
    def _each_once(self) -> UserColumns:
        if not self.names:
            raise ValueError("no column of the users is named; name some as categories or numbers")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"a column of the users is named twice in {self.names}")
        if wrong := [name for name in self.names if name in _IDS or "." in name or not name]:
            raise ValueError(f"{wrong[0]!r} cannot be a column of users; rename it")
        return self


def check_user_columns(frame: pl.DataFrame, wanted: Iterable[str], whose: str) -> None:
    """Refuses columns that the users do not have.

    Args:
        frame: of the users.
        wanted: names of columns.
        whose: of the users, in errors: `data/mine`.

    Raises:
        ConfigError: there is no such column.
    """
    known = [name for name in frame.columns if name not in _IDS]
    if lost := [name for name in wanted if name not in known]:
        raise ConfigError(
            f"the users of {whose} have no column {', '.join(lost)}; they have "
            f"{', '.join(known) or 'none'} (`recsys prepare ... user_file=FILE` adds them)"
        )


def user_features(frame: pl.DataFrame, columns: UserColumns, whose: str) -> ItemFeatures:
    """The columns in the form that towers read: features of U "items", who are the users.

    Args:
        frame: `[U]` rows, ordered by user_index.
        columns: which, and as what.
        whose: of the users, in errors.

    Raises:
        ConfigError: a column is not there, or has no value that can be read.
        DataError: a value of a column of numbers is none, or infinite.
    """
    check_user_columns(frame, columns.names, whose)
    categories = {name: _categories(frame[name], columns, whose) for name in columns.categories}
    numbers = {name: _numbers(frame[name], whose) for name in columns.numbers}
    digest = hashlib.sha256()
    for name, feature in categories.items():
        digest.update(repr((name, feature.names)).encode())
        digest.update(feature.values.tobytes() + feature.offsets.tobytes())
    for name, number in numbers.items():
        digest.update(name.encode() + number.values.tobytes() + number.present.tobytes())
    return ItemFeatures(len(frame), {}, categories, numbers, digest.hexdigest())


def _categories(values: pl.Series, columns: UserColumns, whose: str) -> CategoricalFeature:
    found = read_categories(values, min_count=columns.min_count)
    if not found.names:
        raise ConfigError(
            f"column {values.name} of the users of {whose} has no category of at least "
            f"{columns.min_count} users; leave it out, or lower min_count"
        )
    return CategoricalFeature(found.values, found.offsets, found.names)


def _numbers(values: pl.Series, whose: str) -> NumericFeature:
    what = f"column {values.name} of the users of {whose}"
    numbers = read_numbers(values, what, "name it among the categories")
    present = np.isfinite(numbers)
    if not present.any():
        raise ConfigError(f"{what} is empty; leave it out")
    return NumericFeature(np.where(present, numbers, 0).astype(np.float32), present)
