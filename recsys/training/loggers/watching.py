"""The loggers of one training, as a callback of its loop.

loggers.json    in the run folder: where each logger goes on when the run is resumed
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from recsys.errors import RecsysError
from recsys.extras import require
from recsys.files.atomic import read_json, write_json
from recsys.progress import console
from recsys.training.callbacks import Callback, Moment
from recsys.training.loggers import LOGGERS, About, Ending, Logger, LoggerConfig

PLACES = "loggers.json"
_EVENTS = {"step": "step", "epoch": "train", "validation": "valid"}


def check_loggers(configs: Sequence[LoggerConfig]) -> None:
    """Returns if all loggers can be used.

    Raises:
        InstallationError: the extra of one is not installed.
        ConfigError: there is none of a name.
    """
    for config in configs:
        needed = LOGGERS.find(config.name).extra
        if needed is not None:
            require(needed)


class Watching:
    """Sends every moment of a training to its loggers."""

    def __init__(self, configs: Sequence[LoggerConfig], about: About) -> None:
        """Opens all loggers.

        Raises:
            InstallationError: one needs a package that is not installed.
            ConfigError: one cannot be opened.
        """
        path = about.folder / PLACES
        before: dict[str, Any] = read_json(path, f"delete {path}") if path.is_file() else {}
        self._open: list[tuple[LoggerConfig, Logger]] = []
        self._begun = False
        try:
            for config in configs:
                kind: Any = LOGGERS.find(config.name)
                self._open.append((config, kind(config, about, before.get(config.name))))
        except BaseException:
            self.close("failed")
            raise
        places = before | {config.name: made.kept for config, made in self._open if made.kept}
        if places != before:
            write_json(path, places)

    def __call__(self, moment: Moment) -> None:
        """Sends a moment to whoever wants it."""
        if not self._begun:
            self._begun = True
            for config, logger in list(self._open):
                self._try(config, logger, logger.begin, moment.step)
        event = _EVENTS[moment.event]
        for config, logger in list(self._open):
            if event != "step" or (config.every and moment.step % config.every == 0):
                told = (event, moment.step, moment.scalars, moment.epoch)
                self._try(config, logger, logger.write, *told)

    def close(self, ending: Ending) -> None:
        """Ends all loggers."""
        for config, logger in list(self._open):
            self._try(config, logger, logger.close, ending)
        self._open = []

    def _try(self, config: LoggerConfig, logger: Logger, call: Any, *told: Any) -> None:
        """A call; a service that fails is told once, and training goes on without it."""
        try:
            call(*told)
        except Exception as error:
            if logger.vital or isinstance(error, RecsysError):
                raise
            self._open = [each for each in self._open if each[1] is not logger]
            console.print(
                f"logger {config.name} fails ({type(error).__name__}: {error}); training goes on "
                "without it, and log.jsonl in the run folder has everything",
                style="yellow",
                markup=False,
                soft_wrap=True,
            )


@contextmanager
def watched(
    configs: Sequence[LoggerConfig], about: About, callback: Callback | None
) -> Iterator[Callback | None]:
    """A callback that sends every moment to the loggers, and then asks the given one.

    Raises:
        InstallationError, ConfigError: as of `Watching`.
    """
    if not configs:
        yield callback
        return
    watching = Watching(configs, about)

    def both(moment: Moment) -> str | None:
        watching(moment)
        return callback(moment) if callback else None

    try:
        yield both
    except BaseException as error:
        watching.close("stopped" if _goes_on(error) else "failed")
        raise
    watching.close("finished")


def _goes_on(error: BaseException) -> bool:
    """Whether the error only says that training was asked to stop."""
    return isinstance(error, KeyboardInterrupt) or getattr(error, "exit_code", 1) == 130
