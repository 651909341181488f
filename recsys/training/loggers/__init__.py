"""Loggers: TensorBoard, Weights & Biases, MLflow or another one, by their names in a config."""

from typing import Annotated, Any

from recsys.plugins.named_section import NamedSection
from recsys.plugins.registry import Registry
from recsys.training.loggers.base import About, Ending, Logger, LoggerConfig

__all__ = ["LOGGERS", "About", "AnyLoggerConfig", "Ending", "Logger", "LoggerConfig"]

_CALLS = ("begin", "write", "close", "vital", "extra", "Config")


def _lacks(found: Any) -> list[str]:
    """What an object lacks to be a logger."""
    return [name for name in _CALLS if not hasattr(found, name)]


LOGGERS: Registry[type[Logger]] = Registry(
    "logger",
    "recsys.loggers",
    {
        "tensorboard": "recsys.training.loggers.tensorboard:TensorBoard",
        "wandb": "recsys.training.loggers.weights_and_biases:WeightsAndBiases",
        "mlflow": "recsys.training.loggers.mlflow_tracking:MLflow",
    },
    _lacks,
)
"""All loggers by name."""

AnyLoggerConfig = Annotated[LoggerConfig, NamedSection(lambda name: LOGGERS.find(name).Config)]
"""The config of any logger; `name` tells which."""
