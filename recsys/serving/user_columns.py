"""Users known by their columns, at serving: age, country and the like as a part of their vector.

    columns = open_user_columns(load_bundle("bundles/shop"))
    columns.added(pl.DataFrame({"country": ["FR"], "age": [31]}))   # [1, D], by numpy

A user's vector is the sum of a part of the columns and a part of the history
(`models.pairs.feature_towers`). What the user tower gives counts all columns as missing, so what is
added is the difference that the known ones make. Who has no history either starts from `nobody`.

Shape legend: B users, D embedding_dim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from recsys.arrays import Float32
from recsys.data.features.columns import category_lists, read_numbers
from recsys.errors import DataError
from recsys.files.named import inside
from recsys.retrieval.bundle.loading import Bundle
from recsys.serving.item_tower import NewItemTower, read_tower

USER_COLUMNS = "user_columns.safetensors"
_LARGEST = float(np.finfo(np.float32).max)
NOBODY = "nobody"
"""The array of that file beside those of the tower."""


@dataclass(frozen=True)
class ColumnUsers:
    """What users are known by, and what it makes of them."""

    tower: NewItemTower
    """Of the columns; its "items" are users."""
    nobody: Float32
    """`[D]` the vector of a user of whom nothing is known."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        return tuple(self.tower.kinds)

    def row(self, given: Mapping[str, Any], whose: str) -> dict[str, Any]:
        """The columns of one user, as `table` takes them.

        Args:
            given: column -> text, number, truth value, list of texts or None.
            whose: names the user in errors.

        Returns:
            column -> value; None where it tells nothing, as a category that nobody had in training.

        Raises:
            DataError: there is no such column, or it cannot hold such a value.
        """
        if strange := sorted(str(name) for name in set(given) - set(self.names)):
            raise DataError(
                f"{whose} has the column{'s' * (len(strange) > 1)} {', '.join(strange)}, and the "
                f"model reads {', '.join(self.names)} of users; leave out what it does not read"
            )
        return {name: self._value(name, value, whose) for name, value in given.items()}

    def table(self, rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
        """`[B]` users of the rows that `row` gives."""
        kinds: dict[str, pl.DataType] = {"categories": pl.List(pl.String), "numbers": pl.Float64()}
        schema = {name: kinds[self.tower.kinds[name]] for name in self.names}
        columns = {name: [row.get(name) for row in rows] for name in self.names}
        return pl.DataFrame(columns, schema=schema)

    def _value(self, name: str, value: Any, whose: str) -> Any:
        if value is None:
            return None
        many = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        if self.tower.kinds[name] == "categories":
            return self._names(name, list(value) if many else [value], whose)
        if not many and not isinstance(value, bool):
            try:
                number = float(value)
            except (TypeError, ValueError, OverflowError):
                number = math.nan
            if abs(number) <= _LARGEST:
                return number
        raise DataError(f"{name} of {whose} is {value!r}; a finite number is expected, or null")

    def _names(self, name: str, values: list[Any], whose: str) -> list[str] | None:
        """The categories that are known of those of one user; None: there is none."""
        lists = None
        if not any(isinstance(each, Mapping | Set) for each in values):
            with suppress(DataError, pl.exceptions.PolarsError):
                lists = category_lists(pl.Series(name, values, strict=False))
        if lists is None:
            raise DataError(
                f"{name} of {whose} is {values[0]!r}; a text or a list of texts is expected, or "
                "null"
            )
        texts = (each.strip() for each in lists.explode().drop_nulls())
        return [each for each in texts if each in self.tower.categories[name]] or None

    def known(self, users: pl.DataFrame) -> pl.DataFrame:
        """`[B]` the columns of users, null where they tell the model nothing: what is empty, and
        categories that nobody had in training.

        Args:
            users: columns among `names`.

        Raises:
            DataError: a number is none.
        """
        return pl.DataFrame([self._known(column) for column in users])

    def _known(self, column: pl.Series) -> pl.Series:
        read = self._read(column)
        if not isinstance(read, pl.Series):
            return pl.Series(column.name, read).fill_nan(None)
        text = pl.element().str.strip_chars()
        lists = read.list.eval(text.filter(text.is_in(self.tower.categories[column.name])))
        return lists.zip_with(lists.list.len() > 0, pl.Series([None], dtype=lists.dtype))

    def added(self, users: pl.DataFrame) -> Float32:
        """`[B, D]` what columns add to the vectors of B users.

        Args:
            users: columns of `names`; what is left out or null is missing. A text may hold several
                categories, with | between them; unknown ones are passed over.

        Raises:
            DataError: a number is none.
        """
        given = {name: self._read(users[name]) for name in self.names if name in users.columns}
        if not given:
            return np.zeros((len(users), len(self.nobody)), np.float32)
        found: Float32 = self.tower.vectors(given) - self.tower.arrays["missing"].sum(axis=0)
        return found

    def _read(self, values: pl.Series) -> pl.Series | Float32:
        if self.tower.kinds[values.name] == "categories":
            return category_lists(values)
        return read_numbers(values, f"column {values.name} of the users")


def open_user_columns(bundle: Bundle) -> ColumnUsers | None:
    """What a bundle makes of the columns of users; None: its model reads none.

    Raises:
        DataError: the file is damaged.
    """
    if USER_COLUMNS not in bundle.manifest.files:
        return None
    tower = read_tower(inside(bundle.folder, USER_COLUMNS))
    nobody = tower.arrays.pop(NOBODY)
    return ColumnUsers(tower, nobody)
