"""A fitted neural ranker at serving: scores by onnxruntime, at the widths that it was trained at.

Shape legend: R rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field as Option

from recsys.arrays import Float32
from recsys.config import StrictModel, parse
from recsys.errors import ConfigError, DataError
from recsys.files.atomic import read_json, write_json
from recsys.files.named import inside
from recsys.files.onnx_sessions import open_session
from recsys.rankers.examples import Examples, Schema
from recsys.rankers.neural.batches import Batches, check_examples

MANIFEST = "ranker.json"
_ROWS = 1 << 14
_REMEDY = "fit the ranker again"


class Width(StrictModel):
    """One width of a ranker."""

    share: float = Option(gt=0, le=1)
    file: str
    multiply_adds: float
    """For one row."""


class RankerManifest(StrictModel):
    """The fields of `ranker.json`."""

    schema_version: int = 1
    name: str
    loss: str
    """Scores of `pointwise` are logits."""
    reads: tuple[str, ...]
    """Inputs of the network, in order."""
    history_length: int
    numbers: tuple[str, ...]
    fields: tuple[tuple[str, int, str], ...]
    """Name, number of categories, group."""
    num_items: int
    widths: tuple[Width, ...] = Option(min_length=1)
    """Ascending."""
    served: float
    """The share of the width that scores unless another one is chosen."""


def described(schema: Schema) -> dict[str, Any]:
    """A schema, as the manifest keeps it."""
    return {
        "numbers": schema.numbers,
        "fields": tuple((each.name, each.size, each.group) for each in schema.fields),
        "num_items": schema.num_items,
    }


@dataclass(frozen=True)
class OnnxRanker:
    """Scores rows; a `recsys.rankers.base.Ranker`."""

    schema: Schema
    manifest: RankerManifest
    models: dict[float, bytes]
    """ONNX by share of the width."""
    share: float
    """The width that scores."""
    threads: int = 1
    """Of a session: candidates of one user are too few for more."""

    @property
    def widths(self) -> tuple[float, ...]:
        """Shares of the width that `at` takes, ascending."""
        return tuple(width.share for width in self.manifest.widths)

    def at(self, share: float) -> OnnxRanker:
        """The same ranker at another width.

        Raises:
            ConfigError: it was not trained at it.
        """
        if share not in self.models:
            raise ConfigError(
                f"width {share} is not among {self.widths} of this {self.manifest.name}; choose "
                "one of these, or fit it with widths.shares"
            )
        return replace(self, share=share)

    def scores(self, examples: Examples) -> Float32:
        """`[R]`, higher is better within a request; logits where the loss is pointwise.

        Raises:
            DataError: the examples have other features than those it was fitted on.
            InstallationError: onnxruntime is missing.
        """
        check_examples(examples, self.schema, labelled=False)
        rows = int(examples.offsets[-1])
        found = np.empty(rows, np.float32)
        if not rows:
            return found
        batches = Batches(examples, self.manifest.reads, self.manifest.history_length)
        session = self._session()
        for lo in range(0, rows, _ROWS):
            picked = np.arange(lo, min(lo + _ROWS, rows))
            found[picked] = session.run(None, dict(batches.arrays(picked)))[0]
        return found

    def _session(self) -> Any:
        """Opened when it is first needed; one for each width, shared by `at`."""
        sessions = self.__dict__.setdefault("_sessions", {})
        if self.share not in sessions:
            sessions[self.share] = open_session(self.models[self.share], threads=self.threads)
        return sessions[self.share]

    def multiply_adds(self) -> float:
        """Of matrix products, for one row at this width."""
        found = {width.share: width.multiply_adds for width in self.manifest.widths}
        return found[self.share]

    @property
    def nbytes(self) -> int:
        """Bytes of the network at this width."""
        return len(self.models[self.share])

    def save(self, folder: Path) -> None:
        """Writes `ranker.json` and one ONNX file for each width into an empty folder."""
        for width in self.manifest.widths:
            (folder / width.file).write_bytes(self.models[width.share])
        kept = self.manifest.model_copy(update={"served": self.share})
        write_json(folder / MANIFEST, kept.model_dump(mode="json"))


def load_onnx_ranker(folder: Path, schema: Schema) -> OnnxRanker:
    """Opens what `OnnxRanker.save` wrote.

    Raises:
        RunError: there is no such ranker in the folder, or a file of it is missing.
        DataError: it was fitted on other features than those of `schema`.
    """
    tree = read_json(folder / MANIFEST, _REMEDY)
    manifest = parse(RankerManifest, tree, str(folder / MANIFEST))
    told, found = described(schema), manifest.model_dump()
    if differing := [key for key in told if told[key] != found[key]]:
        raise DataError(
            f"the {manifest.name} in {folder} was fitted on other {', '.join(differing)} than "
            f"these features have; {_REMEDY}"
        )
    models = {width.share: inside(folder, width.file).read_bytes() for width in manifest.widths}
    return OnnxRanker(schema, manifest, models, manifest.served)
