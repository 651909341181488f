"""TensorBoard: event files in the run folder; the only importer of tensorboardX."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import ClassVar, Literal

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from recsys.files.system_errors import naming
from recsys.training.loggers.base import About, Ending, LoggerConfig


class TensorBoardConfig(LoggerConfig):
    """Event files in RUN/tensorboard."""

    name: Literal["tensorboard"] = "tensorboard"


class TensorBoard:
    """Appends an event file; every session has one of its own."""

    Config: ClassVar[type[LoggerConfig]] = TensorBoardConfig
    extra: ClassVar[str | None] = None
    vital = True
    """A disk that is full fails checkpoints as well."""

    def __init__(
        self,
        config: TensorBoardConfig,  # noqa: ARG002
        about: About,
        kept: Mapping[str, str] | None,  # noqa: ARG002
    ) -> None:
        self._folder = about.folder / "tensorboard"
        self._folder.mkdir(exist_ok=True)
        # tensorboardX's SummaryWriter writes in a thread: on a full disk it dies there, and closing
        # waits for it forever.
        with naming(self._folder):
            self._board = EventsWriter(str(self._folder / "events"))

    @property
    def kept(self) -> dict[str, str]:
        """Nothing: the folder is the place."""
        return {}

    def begin(self, step: int) -> None:
        """Hides events that an earlier session has written of these steps."""
        with naming(self._folder):
            start = SessionLog(status=SessionLog.START)
            self._board.write_event(Event(step=step, session_log=start))

    def write(
        self,
        event: str,
        step: int,
        scalars: Mapping[str, float],
        epoch: int,  # noqa: ARG002
    ) -> None:
        """One scalar each, as `event/name`."""
        with naming(self._folder):
            for name, value in scalars.items():
                summary = scalar(f"{event}/{name}", value)
                self._board.write_event(Event(wall_time=time.time(), step=step, summary=summary))
            self._board.flush()

    def close(self, ending: Ending) -> None:  # noqa: ARG002
        """Closes the file."""
        with naming(self._folder):
            self._board.close()
