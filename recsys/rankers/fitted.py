"""A fitted ranker in its folder: model, features, what they are computed from, and whose scores.

    ranker.json             what it was fitted on, and how (below)
    knowledge.safetensors   counts, pairs and columns that features are computed from
    knowledge.json          sizes of its categories
    model/                  what the ranker itself has written: LightGBM's text, ONNX, safetensors

Shape legend: Q requests, K candidates, k length of the lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from recsys.arrays import Float32, Int64
from recsys.config import StrictModel, parse
from recsys.errors import ConfigError, DataError
from recsys.files.atomic import read_json, write_json
from recsys.files.checksums import FileEntry, check_files, entries_of
from recsys.files.kinds import found_at
from recsys.files.named import check_named
from recsys.rankers import examples
from recsys.rankers.base import Ranker
from recsys.rankers.features.config import FeaturesConfig
from recsys.rankers.features.knowledge import ARRAYS, SIZES, Knowledge, load_knowledge
from recsys.rankers.features.making import FeatureMaker
from recsys.rankers.features.requests import Requests
from recsys.rankers.registry import RANKERS
from recsys.retrieval.funnel import Searchable

MANIFEST, MODEL = "ranker.json", "model"
REMEDY = "fit the ranker again (`recsys rank fit`)"


class FieldEntry(StrictModel):
    """A categorical feature."""

    name: str
    size: int
    group: str = ""


class SchemaEntry(StrictModel):
    """The columns of the rows that the ranker was fitted on."""

    numbers: tuple[str, ...]
    fields: tuple[FieldEntry, ...]
    num_items: int

    @property
    def schema_(self) -> examples.Schema:
        """As rankers take it."""
        fields = tuple(
            examples.Field(**each.model_dump(exclude_defaults=True)) for each in self.fields
        )
        return examples.Schema(self.numbers, fields, self.num_items)


class RankerManifest(StrictModel):
    """The fields of `ranker.json`."""

    schema_version: Literal[1] = 1
    recsys_version: str
    ranker: dict[str, Any]
    """The config of the ranker; `name` tells its class."""
    features: FeaturesConfig
    columns: SchemaEntry
    stages: str
    """The funnel whose candidates it was fitted on, as `parse_stages` reads it."""
    keep: int = Field(ge=1)
    """Candidates of a request."""
    tiers: str | None = None
    """The tiers of a run's items that it was fitted on; None: those of a bundle, or fp32."""
    scores: str
    """`score_hash` of the items whose scores it was fitted on."""
    seed: int
    run: str
    data: dict[str, str]
    """Name and content hash of the data set."""
    fitted: dict[str, Any]
    """Rows, requests and figures of the fit."""
    files: dict[str, FileEntry]


@dataclass(frozen=True)
class FittedRanker:
    """A ranker with everything that its features need, but the items."""

    manifest: RankerManifest
    ranker: Ranker
    knowledge: Knowledge

    def on(self, items: Searchable, knowledge: Knowledge | None = None) -> Ranking:
        """Ready to rank candidates of a funnel.

        Args:
            items: what the funnel searches.
            knowledge: known at another moment than that of the export; None: the ranker's own.

        Raises:
            ConfigError: the features are others than those that the ranker was fitted on.
        """
        maker = FeatureMaker(self.manifest.features, knowledge or self.knowledge, items)
        if maker.schema != self.ranker.schema:
            raise ConfigError(
                f"the ranker was fitted on {_told(self.ranker.schema)}, here are "
                f"{_told(maker.schema)}; {REMEDY} on this data and these vectors"
            )
        return Ranking(self.ranker, maker)


@dataclass(frozen=True)
class Ranking:
    """A ranker and the maker of its features."""

    ranker: Ranker
    maker: FeatureMaker

    def scores(self, requests: Requests) -> Float32:
        """`[Q, K]` of the candidates; -inf where there is none."""
        found = np.full(requests.candidates.shape, -np.inf, np.float32)
        found[requests.present] = self.ranker.scores(self.maker.examples(requests))
        return found

    def best(self, requests: Requests, k: int) -> tuple[Int64, Float32]:
        """`[Q, k]` items and scores, best first, equals as the funnel has them; then -1."""
        scores = self.scores(requests)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        found = np.take_along_axis(scores, order, 1)
        items = np.take_along_axis(requests.candidates, order, 1)
        missing = ((0, 0), (0, k - items.shape[1]))
        items = np.pad(np.where(np.isfinite(found), items, -1), missing, constant_values=-1)
        return items, np.pad(found, missing, constant_values=-np.inf)


def write_ranker(folder: Path, fitted: FittedRanker) -> None:
    """Writes the files into an empty folder that is not in place yet."""
    (folder / MODEL).mkdir()
    fitted.ranker.save(folder / MODEL)
    fitted.knowledge.save(folder)
    manifest = fitted.manifest.model_copy(update={"files": entries_of(folder)})
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))


def read_ranker_manifest(folder: Path, *, verify: bool = True) -> RankerManifest:
    """Reads `ranker.json`, and compares the files with it.

    Raises:
        DataError: it is no ranker, or of another schema version.
        ChecksumError: it is not what was written.
    """
    if not (folder / MANIFEST).is_file():
        raise DataError(
            f"{folder} is no ranker (no {MANIFEST}): {found_at(folder)}; give one, or make one "
            "with `recsys rank fit`"
        )
    tree = read_json(folder / MANIFEST, REMEDY)
    if tree.get("schema_version") != 1:
        raise DataError(
            f"{folder} has schema_version {tree.get('schema_version')!r}, this version reads 1; "
            f"{REMEDY}"
        )
    if isinstance(features := tree.get("features"), dict):
        features.setdefault("most_categories", 1)  # as rankers read items before this option
    try:
        manifest = parse(RankerManifest, tree, str(folder / MANIFEST), stored=True)
    except ConfigError as error:
        raise DataError(f"{error}\n{REMEDY}") from error
    check_named(folder, (ARRAYS, SIZES), manifest.files, REMEDY)
    check_files(folder, manifest.files, REMEDY, verify=verify)
    return manifest


def load_ranker(folder: Path, *, verify: bool = True) -> FittedRanker:
    """Opens a ranker.

    Raises:
        DataError, ChecksumError: it is none, or damaged.
        ConfigError: there is no ranker of its name.
        InstallationError: its library is missing.
    """
    manifest = read_ranker_manifest(folder, verify=verify)
    kind = RANKERS.find(str(manifest.ranker.get("name")))
    ranker = kind.load(folder / MODEL, manifest.columns.schema_)
    return FittedRanker(manifest, ranker, load_knowledge(folder))


def schema_entry(schema: examples.Schema) -> SchemaEntry:
    """As `ranker.json` has it."""
    tree: Mapping[str, Any] = asdict(schema)
    return SchemaEntry.model_validate(tree)


def _told(schema: examples.Schema) -> str:
    names = [*schema.numbers, *(field.name for field in schema.fields)]
    return f"{len(names)} features ({', '.join(names[:6])}, ...) of {schema.num_items:,} items"
