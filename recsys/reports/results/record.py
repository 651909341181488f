"""Results files: figures for a page, with the commands, commit, data and seeds behind them.

results/NAME.json is written by the verbs alone (`recsys evaluate RUN --results results/NAME.json`)
and is committed. Its last field is a checksum of all others, so a figure that was changed by hand
is found.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from recsys.config import StrictModel, parse
from recsys.errors import ConfigError, RunError
from recsys.evaluation.protocol import ProtocolCard
from recsys.files.atomic import check_writable, read_json, write_text

Unit = Literal["score", "share", "bytes", "count", "ms", "per second", "seconds", "times"]
"""How a figure is written; `share` in percent, `score` with four decimals."""
_ABSOLUTE = re.compile(r"(?:^|[\s='\"\[,])(?:/|~/?)\w")


class Step(StrictModel):
    """One of the commands that make a file, in order."""

    command: str = Field(min_length=1)
    """As a user types it in the project folder."""
    commit: str | None = None
    """Of the code that ran it, with `+` where files had been changed; None: not in git."""

    @field_validator("command")
    @classmethod
    def _names_no_place_of_one_machine(cls, command: str) -> str:
        if _ABSOLUTE.search(command):
            raise ValueError("names a place of this machine; give paths relative to the project")
        return command


class DataName(StrictModel):
    """Which data set the figures are of."""

    name: str
    content_hash: str


class Figure(StrictModel):
    """One figure."""

    name: str
    """Of a run, a baseline, a funnel, a search."""
    granularity: int | None = None
    metric: str
    unit: Unit = "score"
    value: float
    low: float | None = None
    """95 % interval."""
    high: float | None = None


class Results(StrictModel):
    """What a results file holds."""

    schema_version: Literal[1] = 1
    steps: tuple[Step, ...] = Field(min_length=1)
    data: DataName | None = None
    """None: drawn vectors, which a step tells of."""
    seeds: tuple[int, ...]
    protocol: ProtocolCard | None = None
    machine: dict[str, str] | None = None
    """Where times were measured, and versions of what was timed."""
    rows: tuple[Figure, ...] = Field(min_length=1)

    @field_validator("rows")
    @classmethod
    def _each_figure_stands_once(cls, rows: tuple[Figure, ...]) -> tuple[Figure, ...]:
        places = [(row.name, row.granularity, row.metric) for row in rows]
        if twice := [place for place in places if places.count(place) > 1]:
            raise ValueError(f"{twice[0]} stands more than once")
        return rows

    @property
    def names(self) -> list[str]:
        """What has figures, in order."""
        return list(dict.fromkeys(row.name for row in self.rows))

    def find(self, name: str, granularity: int | None, metric: str) -> Figure | None:
        """One figure; None: it is not there."""
        wanted = (name, granularity, metric)
        return next((r for r in self.rows if (r.name, r.granularity, r.metric) == wanted), None)


def write_results(path: Path, results: Results) -> None:
    """Writes a results file, one figure on a line.

    Raises:
        ConfigError: `path` is no JSON file.
    """
    check_path(path)
    tree = results.model_dump(mode="json", exclude_none=True) | {"checksum": _checksum(results)}
    rows = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in tree.pop("rows")]
    head = json.dumps(tree, indent=1, ensure_ascii=False).removesuffix("\n}")
    write_text(path, f'{head},\n "rows": [\n' + ",\n".join(rows) + "\n]}\n")


def check_path(path: Path) -> None:
    """Raises ConfigError where no results file is meant, OSError where none can be written."""
    if path.suffix != ".json":
        raise ConfigError(f"--results {path} is no JSON file; results/NAME.json is expected")
    check_writable(path)


def read_results(path: Path) -> Results:
    """A results file.

    Raises:
        RunError: it is absent, damaged, or not as a verb has written it.
        ConfigError: a field is missing or wrong.
    """
    tree = read_json(path, "make it with `--results` of the verb that measures")
    told = tree.pop("checksum", None)
    results = parse(Results, tree, str(path))
    # Fields that were added since the file was written are not part of it.
    if told != _checksum(results, exclude_unset=True):
        again = "; ".join(step.command for step in results.steps)
        raise RunError(f"{path} is not as it was written (checksum); make it again: {again}")
    return results


def _checksum(results: Results, *, exclude_unset: bool = False) -> str:
    text = results.model_dump_json(exclude_none=True, exclude_unset=exclude_unset)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
