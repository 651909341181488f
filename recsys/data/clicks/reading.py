"""Labelled events of a prepared folder, as arrays.

Shape legend: R events of a part, F fields, C numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recsys.arrays import Float32, Int32
from recsys.data.clicks.manifest import (
    ClickField,
    ClicksManifest,
    Part,
    load_clicks_manifest,
    part_file,
)
from recsys.errors import ConfigError


@dataclass(frozen=True)
class ClickRows:
    """Events of one part."""

    fields: Int32
    """`[R, F]` codes."""
    numbers: Float32
    """`[R, C]`, NaN: missing."""
    labels: Float32
    """`[R]` 0 or 1."""
    users: Int32 | None
    """`[R]` whose event it is, where the data set tells."""


@dataclass(frozen=True)
class Clicks:
    """A prepared folder."""

    folder: Path
    manifest: ClicksManifest

    def chosen(
        self, features: Sequence[str] | None
    ) -> tuple[tuple[ClickField, ...], tuple[str, ...]]:
        """Fields and numbers of the features named, in the order of the manifest; None: of all.

        Raises:
            ConfigError: there is no feature of one of the names.
        """
        known = self.manifest.features
        for name in features or ():
            if name not in known:
                raise ConfigError(
                    f"there is no feature {name!r} in {self.folder}; choose among "
                    f"{', '.join(known)}"
                )
        asked = set(known if features is None else features)
        fields = (each for each in self.manifest.fields if (each.group or each.name) in asked)
        return tuple(fields), tuple(each for each in self.manifest.numbers if each in asked)

    def read(self, part: Part, features: Sequence[str] | None = None) -> ClickRows:
        """The events of a part; only the columns that are asked for are read.

        Raises:
            ConfigError: there is no feature of one of the names.
        """
        fields, numbers = self.chosen(features)
        path = self.folder / part_file(part)
        user = ["user"] if self.manifest.user is not None else []
        names = [*(_field(each.name) for each in fields), *map(_number, numbers)]
        frame = pl.read_parquet(path, columns=["label", *user, *names])
        codes = np.empty((len(frame), len(fields)), np.int32)
        for column, each in enumerate(fields):
            codes[:, column] = frame[_field(each.name)].to_numpy()
        values = np.empty((len(frame), len(numbers)), np.float32)
        for column, name in enumerate(numbers):
            values[:, column] = frame[_number(name)].to_numpy()
        users = frame["user"].to_numpy() if user else None
        return ClickRows(codes, values, frame["label"].to_numpy(), users)


def _field(name: str) -> str:
    """The column of a field: an event may have a number of the same name."""
    return f"field:{name}"


def _number(name: str) -> str:
    return f"number:{name}"


def load_clicks(folder: str | Path, *, verify: bool = False) -> Clicks:
    """Opens a folder of labelled events.

    Raises:
        DataError, ChecksumError: see `load_clicks_manifest`.
    """
    return Clicks(Path(folder), load_clicks_manifest(Path(folder), verify=verify))
