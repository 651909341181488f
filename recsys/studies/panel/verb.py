"""`recsys study` of a panel: a recipe and levers on several data sets, on validation users.

STUDY/
    beauty--before-s0/ ...    run folders, as `recsys train` leaves them
    panel.csv                 every gain with its interval
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsys.arrays import Float64
from recsys.data.dataset import load_dataset
from recsys.errors import ConfigError
from recsys.evaluation.metric_table import MetricTable
from recsys.evaluation.protocol import Part, find_protocol, make_card
from recsys.files.atomic import check_writable, write_text
from recsys.recipes.evaluating.evaluate import evaluate, metrics_path, run_table
from recsys.runs.loading import LoadedRun
from recsys.runs.records import RUN
from recsys.studies.panel.config import BEFORE, PanelConfig, PanelPlan, PanelRun, make_panel_plan
from recsys.studies.panel.figures import PanelFigures, panel_figures
from recsys.studies.runs import RunState, check_missing, check_runs, state_of, train_missing

FIGURES = "panel.csv"
_PART: Part = "valid"
"""Levers are chosen; the test part is not looked at."""


@dataclass(frozen=True)
class PanelResult:
    """The results so far of a panel."""

    folder: Path
    content: PanelFigures | None
    """None: not even the recipe itself has been measured on all data sets."""
    missing: tuple[str, ...]
    """A line for every planned run that is not there."""
    states: tuple[RunState, ...]
    files: tuple[Path, ...] = ()


def study_panel(
    settings: PanelConfig,
    folder: Path,
    *,
    only: Sequence[str] = (),
    train: bool = True,
    dry: bool = False,
) -> PanelResult:
    """Trains what is missing, measures what is finished, and writes the gains of every lever.

    Args:
        settings: recipe, data sets, levers.
        folder: the study folder; several processes may work on one.
        only: levers to train for now, or `before`; empty: all.
        train: False: measure what is there.
        dry: only look.

    Raises:
        ConfigError: a config is wrong, a lever is unknown, or a run was trained with another one.
        DataError, RunError, ProtocolError: see their messages.
        StoppedError: SIGTERM or Ctrl-C came; the same call goes on from there.
    """
    plan = make_panel_plan(settings)
    levers = (BEFORE, *settings.levers)
    if unknown := [name for name in only if name not in levers]:
        raise ConfigError(f"lever {unknown[0]!r} is not among {', '.join(levers)}")
    if dry:
        return PanelResult(folder, None, (), _states(folder, plan))
    check_writable(folder, folder=True)
    for name, place in settings.panel.items():
        mine = [each for each in plan.runs if each.data == name]
        dataset, config = load_dataset(place.data), mine[0].run.config
        check_runs(folder, [each.run for each in mine], dataset)
        rule = config.split_rule(dataset)
        make_card(dataset.manifest, find_protocol(config.protocol), _PART, config.fit_on, rule)
        if train:
            wanted = [each.run for each in mine if not only or each.lever in only]
            check_missing(folder, wanted, dataset)
    if train:
        train_missing(folder, [each.run for each in plan.runs if not only or each.lever in only])
    states = _states(folder, plan)
    missing = tuple(f"{s.run.name} is {s.state}" for s in states if s.state != "finished")
    values = _values(folder, plan, states)
    if not all((data, BEFORE) in values for data in settings.panel):
        return PanelResult(folder, None, missing, states)
    by_size = {
        (*key, size): found for key, sizes in values.items() for size, found in sizes.items()
    }
    content = panel_figures(settings, by_size)
    write_text(folder / FIGURES, content.frame.write_csv())
    return PanelResult(folder, content, missing, states, (folder / FIGURES,))


def _states(folder: Path, plan: PanelPlan) -> tuple[RunState, ...]:
    return tuple(state_of(folder, each.run) for each in plan.runs)


def _values(
    folder: Path, plan: PanelPlan, states: Sequence[RunState]
) -> dict[tuple[str, str], dict[int, Float64]]:
    """(data set, lever) -> granularity -> `[S, U]`, where all seeds have been trained."""
    done = {state.run.name for state in states if state.state == "finished"}
    found: dict[tuple[str, str], dict[int, Float64]] = {}
    for data, lever in dict.fromkeys((each.data, each.lever) for each in plan.runs):
        runs = plan.of(data, lever)
        if any(run.name not in done for run in runs):
            continue
        tables = [_table(folder, each) for each in plan.runs if each.run in runs]
        found[data, lever] = {
            size: np.stack([_per_user(table, run.name, size)
                            for table, run in zip(tables, runs, strict=True)])
            for size in runs[0].config.model.granularities.sizes
        }  # fmt: skip
    return found


def _per_user(table: MetricTable, run: str, size: int) -> Float64:
    """`[U]` ndcg@10."""
    assert table.ranks is not None  # tables of `_table` keep them
    return table.ranks.per_user((run, size), "ndcg", 10)


def _table(folder: Path, each: PanelRun) -> MetricTable:
    """The table of a run on its validation part, measured once."""
    place, protocol = folder / each.run.name, each.run.config.protocol
    kept = metrics_path(place, _PART, protocol)
    # A run that was trained further since is measured again.
    if kept.is_file() and kept.stat().st_mtime_ns > (place / RUN).stat().st_mtime_ns:
        return run_table(place, _PART, protocol)
    return evaluate(LoadedRun(place), part=_PART, protocol=protocol, with_baselines=False)
