"""`bundle.json`: the manifest of a bundle, with the sha256 of every file.

The manifest cannot hold its own sum, so `bundle.sha256` beside it does: no byte of a bundle is
outside the net.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from recsys.config import StrictModel, parse
from recsys.errors import ChecksumError, ConfigError, DataError
from recsys.files.atomic import read_json
from recsys.files.checksums import FileEntry
from recsys.files.kinds import found_at
from recsys.files.named import check_named, inside

MANIFEST = "bundle.json"
SEAL = "bundle.sha256"
SCHEMA_VERSION = 1
INTERESTS_VERSION = 2
"""Of bundles whose users have several vectors: what reads version 1 alone refuses them."""
REMEDY = "export it again with `recsys export`"


class ArrayEntry(StrictModel):
    """The place of an array's elements in a file: little-endian, row by row."""

    file: str
    dtype: Literal["<f4", "<f2", "<u2", "|i1", "|u1", "<i4", "<i8"]
    shape: tuple[Annotated[int, Field(ge=0)], ...]
    offset: int = Field(default=0, ge=0)
    """Bytes of the file before the first element (safetensors)."""
    column: str | None = None
    """Of a parquet file; None: the elements stand in the file as they are."""


class TierEntry(StrictModel):
    """One slice of the coordinates."""

    lo: int
    hi: int
    codec: str
    residence: Literal["ram", "mmap"]
    rows: dict[str, ArrayEntry]
    shared: dict[str, ArrayEntry]
    max_abs_error: float
    """Largest difference of any coordinate from what was exported."""
    relative_error: float
    """Root of the squared differences' sum over that of the squares."""


class VectorsEntry(StrictModel):
    """Item or user vectors, with the map from indices to external ids."""

    count: int
    tiers: tuple[TierEntry, ...]
    ids: str
    """Parquet: item_index, item_id (or user_index, user_id)."""


class SeenEntry(StrictModel):
    """Items that each exported user has had: `items[offsets[u]:offsets[u + 1]]`."""

    items: ArrayEntry
    offsets: ArrayEntry
    times: ArrayEntry | None = None
    """When each of them was, int64; None: the model reads no time."""


class ColumnsEntry(StrictModel):
    """What is told of the items: titles, genres. Parquet, a row for each item by item_index."""

    file: str
    names: tuple[str, ...]


class TowerEntry(StrictModel):
    """The user tower as ONNX: `vectors [B, L, D]` float32, those the bundle holds of a history's
    items, and `lengths [B]` int64 -> `users [B, D]` float32, or `[B, K, D]` of K interests.

    By `reads_time` there are also `timestamps [B, L]` int64, when each interaction was, and
    `asked_at [B]` int64, when the next item is asked for: seconds, as in the data set.
    """

    file: str
    history_length: int
    """L at most; the most recent items, oldest first, padded at the right with anything finite."""
    parity: float
    """Largest difference of any coordinate from the model's own, as measured at export."""
    reads_time: Literal["none", "history", "request"] = "none"
    """history: the tower has the input `timestamps`; request: `asked_at` too."""


class IndexEntry(StrictModel):
    """An index of the items' prefixes."""

    file: str
    more: tuple[str, ...] = ()
    """Further files, which are read with it."""
    kind: str
    """As it was asked for: `ivf,sq8`."""
    granularity: int
    nbytes: int
    search: dict[str, int]
    """Search parameters that reached `recall`: margin, efSearch or leaves."""
    recall: float | None
    """Share of the first 10 that the funnel finds, measured at export: of those the same stages
    find without an index; of exact search, where no stages were given. None: no target was."""


class MeasuredRouting(StrictModel):
    """Routing on test users: share of ndcg@k kept, share of users stopped at each stage."""

    kept: float
    """Share of the whole funnel's."""
    kept_low: float | None
    """95 % interval, both searches resampled together; None: in a resample nothing is found."""
    kept_high: float | None
    stopped: tuple[float, ...]
    num_users: int


class RoutingEntry(StrictModel):
    """Thresholds of the early stop, learned on validation users by `learn_routing`."""

    thresholds: tuple[float | None, ...]
    """For every stage but the last: how far a list must stand out; None: nobody stops there."""
    k: int
    """Length of the lists it was learned for."""
    kept: float
    """Share of the whole funnel's ndcg@k that is kept, on the users it was learned of."""
    stopped: tuple[float, ...]
    """Share of these users that stop at each stage."""
    measured: MeasuredRouting | None = None
    """The same of users it was not learned of; None: earlier versions did not measure it."""


class GateEntry(StrictModel):
    """A figure on validation users by which a version was published."""

    gate: str
    """As it was given: `ndcg@10 >= current`."""
    figure: str
    """`ndcg@10`, or `ndcg@10/d64` by one granularity."""
    value: float
    num_users: int
    content_hash: str
    """Of the data set."""
    protocol: str
    against: str | None
    """The version that was current; None: there was none."""
    against_value: float | None
    """Its figure; None: the gate did not ask for it."""


class RankerEntry(StrictModel):
    """A ranker in the folder `ranker`, which orders the candidates of the funnel."""

    file: str
    more: tuple[str, ...]
    """Further files, which are read with it."""
    name: str
    stages: str
    """The funnel whose candidates it was fitted on."""
    keep: int = Field(ge=1)
    """Candidates of a request."""
    scores: str
    """`score_hash` of the items, whose scores it was fitted on."""
    tiers: str
    """`tiers_hash` of the version it was written into; any other is refused."""


class BundleManifest(StrictModel):
    """The fields of `bundle.json`: everything needed to read the vectors."""

    schema_version: int
    """1; 2 where users have several vectors."""
    recsys_version: str
    model: dict[str, Any]
    """Name, config, run and commit; what was rotated, for vectors from elsewhere."""
    protocol: dict[str, Any]
    """The protocol card of the run's figures; empty for vectors from elsewhere."""
    metric: Literal["dot", "cosine"]
    """cosine: the scores of a prefix are divided by the norm of the item's prefix."""
    sizes: tuple[int, ...] = Field(min_length=1)
    """Granularities that can be stages: the trained ones and the ends of the tiers."""
    scales: tuple[float, ...]
    """What the model multiplies the scores of each trained granularity by; ranks the same."""
    repeats: dict[int, float] = Field(default_factory=dict)
    """What is added to the score of what a user has had, where it is not filtered, by trained
    granularity (before `scales`; where the metric is cosine, a share of the length of the user's
    prefix). Empty: nothing."""
    items: VectorsEntry
    norms: dict[int, ArrayEntry]
    """Norms of the items' prefixes as stored, by granularity; empty where the metric is dot."""
    users: VectorsEntry | None
    interests: int = Field(default=1, ge=1)
    """Vectors of each user; those of user u are the rows `u * interests` and following. A score is
    the best of theirs; where the metric is cosine, each is taken of length 1 first."""
    seen: SeenEntry | None
    users_at: int | None = None
    """The time of request that the users' vectors were made for; None: the model reads none."""
    popularity: ArrayEntry | None = None
    """`[N]` int64 interactions of every item; None: nothing is known of them."""
    columns: ColumnsEntry | None = None
    """Titles and the like, to be told with the items; None: ids alone."""
    created_at: str | None = None
    """ISO time in UTC; None: earlier versions did not tell."""
    parent: str | None = None
    """The version that was current before; None: there was none."""
    tower: TowerEntry | None = None
    no_tower: str | None = None
    """Why the model's user tower did not come along."""
    index: IndexEntry | None = None
    rotation: ArrayEntry | None = None
    """`[D, D]`: what vectors from elsewhere were multiplied by, and new user vectors must be."""
    stages: str | None = None
    """The funnel this bundle was made for, as `parse_stages` reads it."""
    routing: RoutingEntry | None = None
    gates: tuple[GateEntry, ...] = ()
    """What it had to reach to be published (`recsys export --gate`)."""
    ranker: RankerEntry | None = None
    """Orders the candidates; None: they stand by their scores."""
    files: dict[str, FileEntry]


def tiers_hash(manifest: BundleManifest) -> str:
    """sha256 over the sums of the files that hold the items' tiers and norms."""
    files = sorted({*files_named(manifest.items.tiers), *files_named(manifest.norms)})
    told = [(file, manifest.files[file].sha256) for file in files]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def seal(folder: Path) -> None:
    """Writes the sum of the manifest."""
    (folder / SEAL).write_text(_sum_line(folder), encoding="ascii")


def _sum_line(folder: Path) -> str:
    return f"{hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()}  {MANIFEST}\n"


def files_named(value: Any) -> Iterator[str]:
    """Every file that a manifest, or a part of one, opens."""
    if isinstance(value, BaseModel):
        named = (getattr(value, field, None) for field in ("file", "ids"))
        yield from (name for name in named if isinstance(name, str))
        yield from getattr(value, "more", ())
        value = vars(value)
    if isinstance(value, dict | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from files_named(part)


def read_manifest(folder: Path) -> BundleManifest:
    """The manifest of one version of a bundle.

    Raises:
        DataError: the folder is not a bundle, has another schema version, or names files outside
            itself.
        ChecksumError: the manifest is not the one that was written.
    """
    if not (folder / MANIFEST).is_file():
        raise DataError(
            f"{folder} is not a bundle (no {MANIFEST}): {found_at(folder)}; give one, or make one "
            "with `recsys export`"
        )
    for own in (MANIFEST, SEAL):
        inside(folder, own)
    try:
        sealed = (folder / SEAL).read_bytes()
    except OSError as error:
        raise ChecksumError(f"{folder / SEAL} cannot be read ({error}); {REMEDY}") from error
    if sealed != _sum_line(folder).encode("ascii"):
        raise ChecksumError(f"{folder / MANIFEST} does not match {SEAL}; {REMEDY}")
    tree = read_json(folder / MANIFEST, REMEDY)
    if tree.get("schema_version") not in (SCHEMA_VERSION, INTERESTS_VERSION):
        raise DataError(
            f"{folder} has schema_version {tree.get('schema_version')!r}, this version reads "
            f"{SCHEMA_VERSION} and {INTERESTS_VERSION}; {REMEDY}"
        )
    try:
        manifest = parse(BundleManifest, tree, str(folder / MANIFEST))
    except ConfigError as error:
        raise DataError(f"{error}\n{REMEDY}") from error
    if manifest.schema_version != schema_version(manifest.interests):
        raise DataError(
            f"{folder} has schema_version {manifest.schema_version} and {manifest.interests} "
            f"vectors a user, which do not fit; {REMEDY}"
        )
    check_named(folder, files_named(manifest), manifest.files, REMEDY)
    return manifest


def schema_version(interests: int) -> int:
    """That of a bundle with so many vectors a user."""
    return SCHEMA_VERSION if interests == 1 else INTERESTS_VERSION


def write_manifest(folder: Path, manifest: BundleManifest) -> None:
    """Writes manifest and seal into a folder that is not in place yet."""
    # Readers of version 1 that know no interests refuse unknown keys.
    unsaid = {"interests"} if manifest.interests == 1 else None
    text = json.dumps(manifest.model_dump(mode="json", exclude=unsaid), indent=1) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    seal(folder)
