"""`clicks.json`: the manifest of a folder of labelled events.

    clicks.json          manifest (below)
    train.parquet        label f32, user i32?, one i32 column a field, one f32 column a number
    valid.parquet        the same
    test.parquet         the same
    categories.parquet   feature, code i32, value: what the codes of fields stand for

Code 0 of a field is a value that is missing, or that too few training events have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from recsys.config import StrictModel, load_yaml, parse
from recsys.errors import DataError
from recsys.files.checksums import FileEntry, check_files
from recsys.files.kinds import found_at
from recsys.files.named import check_named
from recsys.files.scratch import is_scratch

CLICKS = "clicks.json"
CATEGORIES = "categories.parquet"
PARTS = ("train", "valid", "test")
Part = Literal["train", "valid", "test"]
SCHEMA_VERSION = 1


def part_file(part: str) -> str:
    """The file of a part."""
    return f"{part}.parquet"


class ClickField(StrictModel):
    """A categorical column."""

    name: str
    """Of the column; that of a list has the place of the value behind it: genres.1."""
    size: int
    """Number of codes, 0 among them."""
    group: str = ""
    """The list that it is one value of; empty: it is a field of its own."""


class ClicksManifest(StrictModel):
    """The fields of `clicks.json`."""

    schema_version: int = SCHEMA_VERSION
    name: str
    source: str
    """Where the events came from; never a local path."""
    licence: str
    fields: tuple[ClickField, ...]
    numbers: tuple[str, ...]
    user: str | None
    """The column that says whose event it is; None: unknown, so there is no AUC by user."""
    label: str
    """What makes a label 1 or 0, in words."""
    split: str
    """What puts an event into its part, in words."""
    rows: dict[Part, int]
    positive: dict[Part, int]
    """Events whose label is 1."""
    notes: tuple[str, ...] = ()
    content_hash: str
    """sha256 over the values of all parts."""
    files: dict[str, FileEntry]

    @property
    def features(self) -> tuple[str, ...]:
        """Names of fields, lists and numbers, as a config asks for them."""
        fields = (each.group or each.name for each in self.fields)
        return tuple(dict.fromkeys([*fields, *self.numbers]))


def load_clicks_manifest(folder: Path, *, verify: bool = False) -> ClicksManifest:
    """Reads and checks `clicks.json`; every file it lists must exist with its size.

    Raises:
        DataError: no manifest, a foreign schema version, a missing or cut file.
        ChecksumError: `verify` is set and a file differs from its checksum.
    """
    path = folder / CLICKS
    if is_scratch(folder) or not path.is_file():
        raise DataError(
            f"{folder} is no folder of labelled events (no {CLICKS}): {found_at(folder)}; give "
            "one, or make one with `recsys prepare clicks`"
        )
    tree = load_yaml(path)
    if tree.get("schema_version") != SCHEMA_VERSION:
        raise DataError(
            f"{path} has schema_version {tree.get('schema_version')!r}, this version reads "
            f"{SCHEMA_VERSION}; run `recsys prepare` again"
        )
    manifest = parse(ClicksManifest, tree, str(path))
    remedy = f"delete {folder} and run `recsys prepare` again"
    names = (*(part_file(part) for part in PARTS), CATEGORIES)
    check_named(folder, names, manifest.files, remedy)
    check_files(folder, manifest.files, remedy, verify=verify)
    return manifest
