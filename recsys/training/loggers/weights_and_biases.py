"""Weights & Biases; the only importer of wandb."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal
from uuid import uuid4

from recsys.errors import ConfigError
from recsys.extras import extra
from recsys.training.loggers.base import About, Ending, LoggerConfig


class WandbConfig(LoggerConfig):
    """A run of Weights & Biases. Keys and servers are those of wandb itself (`wandb login`)."""

    name: Literal["wandb"] = "wandb"
    project: str = "recsys"
    entity: str | None = None
    """User or team; None: wandb's default."""
    group: str | None = None
    mode: Literal["online", "offline", "disabled"] | None = None
    """None: as WANDB_MODE says. offline: files in RUN/wandb, for `wandb sync`."""


class WeightsAndBiases:
    """One run there, found again by its id."""

    Config: ClassVar[type[LoggerConfig]] = WandbConfig
    extra: ClassVar[str | None] = "wandb"
    vital = False

    def __init__(self, config: WandbConfig, about: About, kept: Mapping[str, str] | None) -> None:
        """Makes the run, or goes on with it.

        Raises:
            InstallationError: wandb is not installed. ConfigError: it cannot start.
        """
        with extra("wandb"):
            import wandb
        self._id = kept["id"] if kept else uuid4().hex[:12]
        try:
            self._run: Any = wandb.init(
                id=self._id,
                resume="allow",
                name=about.name,
                project=config.project,
                entity=config.entity,
                group=config.group,
                mode=config.mode,
                dir=str(about.folder),
                config={**about.config, "origin": dict(about.origin)},
                reinit="create_new",
            )
        except wandb.Error as error:
            raise ConfigError(
                f"logger wandb cannot start: {error}; log in (`wandb login`), or write files for "
                "`wandb sync` (mode: offline, or WANDB_MODE=offline)"
            ) from error

    @property
    def kept(self) -> dict[str, str]:
        """The id of the run there."""
        return {"id": self._id}

    def begin(self, step: int) -> None:
        """Nothing: wandb passes over steps that it has."""

    def write(self, event: str, step: int, scalars: Mapping[str, float], epoch: int) -> None:
        """As `event/name`, at the step."""
        named = {f"{event}/{name}": value for name, value in scalars.items()}
        self._run.log({**named, "epoch": epoch}, step=step)

    def close(self, ending: Ending) -> None:
        """Ends this session of the run there."""
        self._run.summary["ending"] = ending
        self._run.finish(exit_code=0 if ending == "finished" else 1)
