"""MLflow tracking; the only importer of mlflow."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from recsys.errors import ConfigError
from recsys.extras import extra
from recsys.training.loggers.base import About, Ending, LoggerConfig

_MOST_PARAMS = 100
"""Of one request."""
_LONGEST = 500
"""Characters of a value that every store takes."""
_ENDINGS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


class MLflowConfig(LoggerConfig):
    """A run of MLflow."""

    name: Literal["mlflow"] = "mlflow"
    tracking_uri: str | None = None
    """`http://...` of a server, or `sqlite:///FILE`; None: as MLFLOW_TRACKING_URI says,
    or mlflow's own default."""
    experiment: str = "recsys"


class MLflow:
    """One run there, found again by its id."""

    Config: ClassVar[type[LoggerConfig]] = MLflowConfig
    extra: ClassVar[str | None] = "mlflow"
    vital = False

    def __init__(self, config: MLflowConfig, about: About, kept: Mapping[str, str] | None) -> None:
        """Makes the run, or goes on with it.

        Raises:
            InstallationError: mlflow is not installed.
            ConfigError: the store cannot be reached, or does not have the run that goes on.
        """
        with extra("mlflow"):
            from mlflow.entities import Metric, Param
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient
        self._metric, self._param = Metric, Param
        try:
            self._client = MlflowClient(tracking_uri=config.tracking_uri)
            self._resumed = kept is not None
            self._id = kept["run_id"] if kept else self._create(config, about)
            self._client.update_run(self._id, status="RUNNING")
        except MlflowException as error:
            where = config.tracking_uri or "its default store"
            raise ConfigError(f"logger mlflow cannot write to {where}: {error}") from error
        self._last: dict[str, int] = {}

    def _create(self, config: MLflowConfig, about: About) -> str:
        found = self._client.get_experiment_by_name(config.experiment)
        number = found.experiment_id if found else self._client.create_experiment(config.experiment)
        tags = {f"recsys.{key}": value for key, value in about.origin.items()}
        run: str = self._client.create_run(number, run_name=about.name, tags=tags).info.run_id
        params = [self._param(key, value[:_LONGEST]) for key, value in leaves(about.config)]
        for start in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(run, params=params[start : start + _MOST_PARAMS])
        return run

    @property
    def kept(self) -> dict[str, str]:
        """The id of the run there."""
        return {"run_id": self._id}

    def begin(self, step: int) -> None:
        """Nothing: `write` asks for the last step that is there."""

    def write(self, event: str, step: int, scalars: Mapping[str, float], epoch: int) -> None:
        """As `event/name`; MLflow allows no @ in names, so `ndcg@10` is `ndcg_at_10`.

        Values of a step are the same whenever it is trained, so none is written twice.
        """
        named = {f"{event}/{name.replace('@', '_at_')}": v for name, v in scalars.items()}
        now = int(time.time() * 1000)
        new = {name: v for name, v in {**named, "epoch": epoch}.items() if step > self._seen(name)}
        metrics = [self._metric(name, float(value), now, step) for name, value in new.items()]
        self._last |= dict.fromkeys(new, step)
        if metrics:
            self._client.log_batch(self._id, metrics=metrics)

    def _seen(self, name: str) -> int:
        """The last step of a metric that is there."""
        if name not in self._last:
            history = self._client.get_metric_history(self._id, name) if self._resumed else []
            self._last[name] = max((each.step for each in history), default=-1)
        return self._last[name]

    def close(self, ending: Ending) -> None:
        """Says how training ended."""
        self._client.set_terminated(self._id, status=_ENDINGS[ending])


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every value of a config as text, by its dotted key."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
