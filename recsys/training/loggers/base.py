"""What all loggers share: their config, what they are told, and the calls they answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from pydantic import Field

from recsys.config import StrictModel

Ending = Literal["finished", "stopped", "failed"]
"""How a training ended: stopped ones go on with `--resume`."""


class LoggerConfig(StrictModel):
    """Options that every logger has."""

    name: str
    every: int = Field(default=50, ge=0)
    """Steps from one record of a step to the next; 0: only epochs and validations are sent."""


@dataclass(frozen=True)
class About:
    """A run, as loggers describe it."""

    name: str
    folder: Path
    config: Mapping[str, Any]
    """The resolved config."""
    origin: Mapping[str, str]
    """Commit, name and content hash of the data, seed, command, versions."""


class Logger(Protocol):
    """The records of one training, sent somewhere besides its own log.

    It is made when training starts: `MyLogger(config, about, kept)`, with what `kept` gave when the
    run was started (None: it is a new one), so that a resumed run goes on in the same place.
    """

    Config: ClassVar[type[LoggerConfig]]
    extra: ClassVar[str | None]
    """The extra that it needs (`recsys.extras`); None: nothing."""
    vital: ClassVar[bool]
    """Whether training ends by its errors; if not, they are told once and nothing more is sent."""

    @property
    def kept(self) -> dict[str, str]:
        """Where the records go on: ids of the service, say."""
        ...

    def begin(self, step: int) -> None:
        """Records from this step on follow; what is there of them already is written again."""
        ...

    def write(self, event: str, step: int, scalars: Mapping[str, float], epoch: int) -> None:
        """One record of `step`, `train` (an epoch) or `valid`, after so many updates and epochs."""
        ...

    def close(self, ending: Ending) -> None:
        """Nothing follows."""
        ...
