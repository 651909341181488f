"""`recsys clicks`: rankers fitted on labelled events, one after another, and their figures.

RUN/
    LABEL-s0/ ...        a fitted ranker, its calibrator and its figures
    config.json          what was asked for
    figures.csv          every figure of every ranker, seed and width
    reliability.svg      predicted against observed shares, of the first seed

A ranker whose folder holds figures of the same options and data is not fitted again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recsys.data.clicks.manifest import Part
from recsys.data.clicks.reading import Clicks, load_clicks
from recsys.errors import ConfigError
from recsys.files.atomic import atomic_path, check_writable, read_json, write_json
from recsys.kernels.threads import limited
from recsys.progress import console
from recsys.rankers.base import Ranker, RankerConfig
from recsys.rankers.click_examples import click_examples, click_schema
from recsys.rankers.examples import Examples, Schema
from recsys.recipes.clicks.config import ClicksConfig, read_clicks_config
from recsys.recipes.clicks.measure import at_widths, measured

_MEASURED: tuple[Part, Part] = ("valid", "test")
FIGURES, RANKER_FIGURES = "figures.csv", "figures.json"
_REMEDY = "delete the folder, and it is fitted again"


@dataclass(frozen=True)
class ClicksResult:
    """Rankers that were fitted, and their figures."""

    folder: Path
    clicks: Clicks
    config: ClicksConfig
    figures: pl.DataFrame
    """One row for each ranker, seed, width and part: ranker, seed, width, part, auc, gauc,
    log_loss, calibration_error, calibrated_log_loss, calibrated_error, multiply_adds, seconds."""
    curves: dict[str, Any]
    """Label -> reliability on the test part, raw and calibrated, of the first seed, whole width."""


@dataclass(frozen=True)
class _Parts:
    """All examples of a data set."""

    schema: Schema
    train: Examples
    valid: Examples
    test: Examples
    clicks: Clicks
    users: dict[str, Any]
    """Part -> whose events they are, or None."""


def fit_clicks(
    config: str | Path | ClicksConfig,
    overrides: Sequence[str] = (),
    *,
    out: str | Path,
    only: Sequence[str] = (),
) -> ClicksResult:
    """Fits what is missing and measures it on the validation and the test part.

    Args:
        config: a file, or a config object.
        overrides: `key=value` changes to the file.
        out: the folder of the results.
        only: labels of rankers to fit now; empty: all of the config.

    Raises:
        ConfigError: the config is wrong, or names a feature that the data has not.
        DataError: the data cannot be read, or does not fit a ranker.
        InstallationError: what a ranker needs is missing.
    """
    settings = (
        config
        if isinstance(config, ClicksConfig)
        else read_clicks_config(Path(config), list(overrides))
    )
    if unknown := [label for label in only if label not in settings.rankers]:
        known = ", ".join(settings.rankers)
        raise ConfigError(f"there is no ranker {unknown[0]!r} in this config; it has {known}")
    for ranker in settings.rankers.values():
        ranker.check_installed()
    folder = Path(out)
    check_writable(folder, folder=True)
    parts = _read(load_clicks(settings.data), settings)
    write_json(folder / "config.json", settings.model_dump(mode="json"))
    found = []
    with limited(settings.threads):
        for label, ranker in settings.rankers.items():
            for seed in settings.seeds:
                place = folder / f"{label}-s{seed}"
                if not only or label in only or (place / RANKER_FIGURES).is_file():
                    found.append(_figures(place, ranker, parts, settings, seed))
    rows = [
        {"ranker": _label(tree["place"]), "seed": tree["seed"], **row}
        for tree in found
        for row in tree["rows"]
    ]
    figures = pl.DataFrame(rows, infer_schema_length=None)
    with atomic_path(folder / FIGURES) as path:
        figures.write_csv(path)
    first = settings.seeds[0]
    curves = {_label(t["place"]): t["reliability"] for t in found if t["seed"] == first}
    return ClicksResult(folder, parts.clicks, settings, figures, curves)


def _label(place: str) -> str:
    return place.rpartition("-s")[0]


def _read(clicks: Clicks, settings: ClicksConfig) -> _Parts:
    features = settings.features
    examples = {p: click_examples(clicks, p, features) for p in ("train", "valid", "test")}
    users: dict[str, Any] = {part: clicks.read(part, ()).users for part in _MEASURED}
    return _Parts(click_schema(clicks, features), **examples, clicks=clicks, users=users)


def _figures(
    place: Path, ranker: RankerConfig, parts: _Parts, settings: ClicksConfig, seed: int
) -> dict[str, Any]:
    """What `figures.json` of a ranker says: read where it is of the same options, else made."""
    key = _key(ranker, parts, settings, seed)
    if (place / RANKER_FIGURES).is_file():
        tree = read_json(place / RANKER_FIGURES, _REMEDY)
        if tree.get("key") == key:
            return tree
        console.print(f"{place} was fitted with other options or data; it is fitted again")
    started = time.perf_counter()
    fitted = ranker.fit(parts.schema, parts.train, parts.valid, seed)
    seconds = time.perf_counter() - started
    return _kept(place, fitted, parts, settings, {"key": key, "seed": seed, "seconds": seconds})


def _kept(
    place: Path, fitted: Ranker, parts: _Parts, settings: ClicksConfig, told: dict[str, Any]
) -> dict[str, Any]:
    """Measures a fitted ranker at all its widths, and writes its folder, whole or not at all."""
    rows: list[dict[str, Any]] = []
    tree: dict[str, Any] = {"place": place.name, **told}
    with atomic_path(place) as folder:
        folder.mkdir()
        fitted.save(folder)
        for width, ranker in at_widths(fitted):
            found = measured(ranker, (parts.valid, parts.test), parts.users, settings.calibration)
            rows += [{"width": width, **row, "seconds": told["seconds"]} for row in found.rows]
            if width in (None, 1.0):
                tree["reliability"] = found.reliability
                kept = found.calibrator.model_dump(mode="json")
                write_json(folder / "calibrator.json", kept)
        tree["rows"] = rows
        write_json(folder / RANKER_FIGURES, tree)
    return tree


def _key(ranker: RankerConfig, parts: _Parts, settings: ClicksConfig, seed: int) -> str:
    """What the figures of a ranker depend on."""
    told = (
        ranker.model_dump_json(),
        parts.clicks.manifest.content_hash,
        repr(parts.schema),
        settings.calibration,
        seed,
    )
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]
