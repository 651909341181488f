"""The log of a run: JSON lines in its folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from recsys.files.atomic import write_text
from recsys.files.system_errors import naming

LOG = "log.jsonl"


class RunLog:
    """Appends records with their `step`; a resumed run first drops the records it will repeat."""

    def __init__(self, folder: Path, epochs: int) -> None:
        """`epochs` are finished; records of later ones are removed."""
        path = folder / LOG
        kept = [line for line in read_lines(path) if line["epoch"] <= epochs]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._path = path
        self._stream = path.open("a", encoding="utf-8")

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with naming(self._path):
            self._stream.close()

    def write(self, event: str, step: int, scalars: dict[str, float], **more: Any) -> None:
        """One record."""
        record = {"event": event, "step": step, **more, **scalars}
        with naming(self._path):
            self._stream.write(json.dumps(record) + "\n")
            self._stream.flush()


class NoLog:
    """The log of a process that leaves the writing to another process."""

    def write(self, event: str, step: int, scalars: dict[str, float], **more: Any) -> None:
        """Nothing."""


@contextmanager
def open_log(folder: Path, epochs: int, *, silent: bool) -> Iterator[RunLog | NoLog]:
    """The log of a run, or one that writes nothing where another process of it writes."""
    if silent:
        yield NoLog()
        return
    with RunLog(folder, epochs) as log:
        yield log


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All whole records of a log; a line cut by a kill is left out."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
