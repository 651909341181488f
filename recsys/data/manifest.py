"""`dataset.json`: the manifest of a dataset folder, and the check that the folder is whole."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq
from pydantic import Field

from recsys.config import StrictModel, load_yaml, parse
from recsys.data.content_hash import INTERACTIONS, ITEMS, USERS, content_hash
from recsys.errors import DataError
from recsys.files.atomic import write_json
from recsys.files.checksums import FileEntry, check_files, entries_of
from recsys.files.kinds import found_at
from recsys.files.named import check_named, inside
from recsys.files.scratch import is_scratch

SCHEMA_VERSION = 1
MANIFEST = "dataset.json"

_DRAWN = {
    "rows": "drawn",
    "run": "a run of neighbours, drawn",
    "end": "one end of the line along which the user's items lie, drawn",
}


class SplitRule(StrictModel):
    """The rule by which histories are split into train, validation and test parts."""

    name: Literal["leave-last-out", "global-time", "given"] = "leave-last-out"
    """leave-last-out: last = test, the one before = validation. global-time: two timestamps cut.
    given: the source says which interactions are test."""
    valid_quantile: float = Field(default=0.8, gt=0, lt=1)
    """global-time only: the share of all interactions that is training."""
    test_quantile: float = Field(default=0.9, gt=0, lt=1)
    """global-time only: interactions after this quantile of time are test."""
    valid_share: float | None = Field(default=0.1, gt=0, lt=1)
    """given only: this share of each user's training interactions is drawn for validation, rounded
    down, and at least one of two. None: the source has a validation part of its own."""
    valid_draw: Literal["rows", "run", "end"] = "rows"
    """given only: what is drawn. rows: any of a user's interactions. run: neighbours in the order
    of the source. end: one end of the line along which a user's items lie by who else had them.
    What a run or an end holds belongs together, as what comes later does, and is harder to find."""
    seed: int = Field(default=0, ge=0)
    """given only: of the draw of the validation part."""

    def describe(self) -> str:
        """One line for the protocol card."""
        if self.name == "leave-last-out":
            return "leave-last-out: last = test, one before = validation; shorter than 3: all train"
        if self.name == "given" and self.valid_share is None:
            return "given: training, validation and test are parts of the source"
        if self.name == "given":
            drawn = _DRAWN[self.valid_draw]
            return (
                f"given: test is a part of the source; validation = {self.valid_share:g} of each "
                f"user's other interactions (at least one of two), {drawn} with seed {self.seed}"
            )
        valid, test = self.valid_quantile, self.test_quantile
        return f"global-time: train <= q{valid} < validation <= q{test} < test"


@dataclass(frozen=True)
class DatasetOrigin:
    """The source of the rows of a data set, and the filters applied to them."""

    source: str = "a data frame"
    """Address, package or file name; never a local path."""
    licence: str = "unknown"
    """Under what terms."""
    filters: tuple[str, ...] = ()
    """Filters in the order they were applied, each as one line."""
    tie_rule: str | None = None
    """What ordered interactions of equal time; None: as the reading of the rows says."""
    notes: tuple[str, ...] = ()
    """What was decided or changed in reading, one line each."""
    ordered: bool = True
    """Whether the order of a history means anything."""


class DatasetManifest(StrictModel):
    """The fields of `dataset.json`."""

    schema_version: int = SCHEMA_VERSION
    name: str
    source: str
    """Where the raw data came from (address, package or file name; never a local path)."""
    licence: str
    num_users: int
    num_items: int
    num_interactions: int
    filters: tuple[str, ...] = ()
    """Filters in the order they were applied, each as one line."""
    tie_rule: str
    """What orders interactions of one user that carry the same timestamp."""
    split: SplitRule = SplitRule()
    ordered: bool = True
    """Whether the order of a history means anything. False: models that read it are refused."""
    notes: tuple[str, ...] = ()
    """What was decided or changed in reading (units, order, ids, content), one line each."""
    content_hash: str
    """sha256 over indices, timestamps, weights and ids; independent of the parquet encoding."""
    files: dict[str, FileEntry]


def load_manifest(folder: Path, *, verify: bool = False) -> DatasetManifest:
    """Reads and checks `dataset.json`; every file it lists must exist with its size.

    Args:
        folder: the dataset folder.
        verify: also compare the sha256 of every file.

    Raises:
        DataError: no manifest, a foreign schema version, a missing or cut file, or one that is not
            in the folder.
        ChecksumError: `verify` is set and a file differs from its checksum.
    """
    path = folder / MANIFEST
    if is_scratch(folder):
        raise DataError(f"{folder} is left from a killed `recsys prepare`; delete it")
    if not path.is_file():
        raise DataError(
            f"{folder} is not a dataset folder (no {MANIFEST}): {found_at(folder)}; give one, or "
            "make one with `recsys prepare`"
        )
    tree = load_yaml(path)
    if tree.get("schema_version") != SCHEMA_VERSION:
        raise DataError(
            f"{path} has schema_version {tree.get('schema_version')!r}, this version reads "
            f"{SCHEMA_VERSION}; run `recsys prepare` again"
        )
    manifest = parse(DatasetManifest, tree, str(path))
    remedy = f"delete {folder} and run `recsys prepare` again"
    inside(folder, MANIFEST)
    check_named(folder, (INTERACTIONS, USERS, ITEMS), manifest.files, remedy)
    check_files(folder, manifest.files, remedy, verify=verify)
    return manifest


def write_manifest(
    folder: Path, name: str, origin: DatasetOrigin, split: SplitRule
) -> DatasetManifest:
    """Counts and hashes the three tables that stand in `folder`, and writes the manifest last."""
    manifest = DatasetManifest(
        name=name,
        source=origin.source,
        licence=origin.licence,
        num_users=_num_rows(folder / USERS),
        num_items=_num_rows(folder / ITEMS),
        num_interactions=_num_rows(folder / INTERACTIONS),
        filters=origin.filters,
        tie_rule=origin.tie_rule or "given order",
        split=split,
        ordered=origin.ordered,
        notes=origin.notes,
        content_hash=content_hash(folder),
        files=entries_of(folder, (INTERACTIONS, USERS, ITEMS)),
    )
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def _num_rows(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)
