"""The log of a run: JSON lines and TensorBoard scalars."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from recsys.files.atomic import write_text
from recsys.files.system_errors import naming

LOG = "log.jsonl"


class RunLog:
    """Appends records with their `step`; a resumed run first drops the records it will repeat."""

    def __init__(self, folder: Path, epochs: int, step: int) -> None:
        """`epochs` finished and `step` of the checkpoint; records of later epochs are removed."""
        path = folder / LOG
        kept = [line for line in read_lines(path) if line["epoch"] <= epochs]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._path, board = path, folder / "tensorboard"
        board.mkdir(exist_ok=True)
        self._stream = path.open("a", encoding="utf-8")
        # tensorboardX's SummaryWriter writes in a thread: on a full disk it dies there, and closing
        # waits for it forever.
        with naming(board):
            self._board = EventsWriter(str(board / "events"))
            start = SessionLog(status=SessionLog.START)  # hides what is written again
            self._board.write_event(Event(step=step + 1, session_log=start))

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
            self._board.close()

    def write(self, event: str, step: int, scalars: dict[str, float], **more: Any) -> None:
        """One record; `scalars` go to TensorBoard too, as `event/name`."""
        record = {"event": event, "step": step, **more, **scalars}
        with naming(self._path):
            self._stream.write(json.dumps(record) + "\n")
            self._stream.flush()
            for name, value in scalars.items():
                summary = scalar(f"{event}/{name}", value)
                self._board.write_event(Event(wall_time=time.time(), step=step, summary=summary))
            self._board.flush()


class NoLog:
    """The log of a process that leaves the writing to another process."""

    def write(self, event: str, step: int, scalars: dict[str, float], **more: Any) -> None:
        """Nothing."""


@contextmanager
def open_log(folder: Path, epochs: int, step: int, *, silent: bool) -> Iterator[RunLog | NoLog]:
    """The log of a run, or one that writes nothing where another process of it writes."""
    if silent:
        yield NoLog()
        return
    with RunLog(folder, epochs, step) as log:
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
