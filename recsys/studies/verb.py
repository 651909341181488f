"""`recsys study`: training, measurement and report of a study.

STUDY/
    nested-s0/ separate-d64-s0/ ...    run folders, as `recsys train` leaves them
    measured/METHOD/RUN.safetensors    the rank of every target
    study.csv                          every figure of every seed
    summary.csv                        means, retention and nested against separate, with intervals
    study.html, *.svg                  the page
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import yaml

from recsys.config import StrictModel, load_yaml
from recsys.data.dataset import load_dataset
from recsys.errors import ConfigError
from recsys.evaluation.protocol import ProtocolCard
from recsys.files.atomic import check_writable, write_text
from recsys.runs.records import load_run_info
from recsys.studies.config import (
    Plan,
    PlannedRun,
    StudyConfig,
    make_plan,
    read_study,
)
from recsys.studies.measuring import Measurement, card_of, load, measure_run, runs_of
from recsys.studies.methods import METHODS, Source, find_method
from recsys.studies.panel.config import PanelConfig, read_panel
from recsys.studies.panel.verb import PanelResult, study_panel
from recsys.studies.report.content import StudyContent
from recsys.studies.report.writing import write_study
from recsys.studies.runs import (
    RunState,
    check_missing,
    check_runs,
    hold,
    state_of,
    train_missing,
)
from recsys.studies.tables.config import TableStudyConfig, read_table_study
from recsys.studies.tables.verb import TableStudyResult, study_tables
from recsys.studies.tabulating import seed_rows, summarize

_FAMILIES: dict[Source, str] = {
    "nested": "one nested model",
    "separate": "a model of its own at each width",
    "full": "un-nested model of full width, compressed",
}
SEED_FIGURES, SUMMARY = "study.csv", "summary.csv"


@dataclass(frozen=True)
class StudyResult:
    """The results so far of a study."""

    folder: Path
    content: StudyContent | None
    """What the page is made of; None: nothing has been measured yet."""
    seeds: pl.DataFrame
    """Every figure of every seed: method, granularity, bytes, seed, metric, k, value."""
    missing: tuple[str, ...]
    """One line for everything that is planned and not there, with its reason."""
    states: tuple[RunState, ...]
    """Of every run of the plan."""
    files: tuple[Path, ...] = field(default=())
    """What was written, the page first."""


def study(
    config: str | Path | StudyConfig | TableStudyConfig | PanelConfig,
    overrides: Sequence[str] = (),
    *,
    out: str | Path,
    only: Sequence[str] = (),
    train: bool = True,
    dry: bool = False,
) -> StudyResult | TableStudyResult | PanelResult:
    """Trains what is missing, measures what is new, and writes tables, plots and the page.

    May be killed at any time and called again; may run in several processes on one folder, which
    then share the training runs. Tables are of everything that is finished, whoever trained it.

    Args:
        config: a study file, or a config object; one with `tables` is a study of tables, one with
            `panel` of levers on several data sets.
        overrides: `key=value` changes to the file.
        out: the study folder.
        only: methods to train and measure for now; empty: all of the file.
        train: False: measure and tabulate what is there.
        dry: only look: train, measure and write nothing.

    Raises:
        ConfigError: a config is wrong, a run was trained with another one, or `out` is a file.
        DataError, RunError, ProtocolError: see their messages.
        StoppedError: SIGTERM or Ctrl-C came; the same call goes on from there.
    """
    if Path(out).is_file():
        raise ConfigError(f"{out} is a file, and a study is a folder; choose another --out")
    settings = config if isinstance(config, StrictModel) else _read(Path(config), list(overrides))
    if isinstance(settings, TableStudyConfig):
        return study_tables(settings, Path(out), only=only, train=train, dry=dry)
    if isinstance(settings, PanelConfig):
        return study_panel(settings, Path(out), only=only, train=train, dry=dry)
    folder, plan = Path(out), make_plan(settings)
    chosen = [name for name in settings.methods if not only or name in only]
    for name in only:
        find_method(name)
        if name not in settings.methods:
            raise ConfigError(
                f"method {name} is not among those of the study ({', '.join(settings.methods)}); "
                "name it in methods, too"
            )
    if dry:
        states = tuple(state_of(folder, run) for run in plan.runs)
        return StudyResult(folder, None, seed_rows(plan, []), (), states)
    dataset = load_dataset(plan.nested.data)
    check_runs(folder, plan.runs, dataset)
    card = card_of(plan, dataset)
    wanted = _runs_for(plan, chosen)
    check_writable(folder, folder=True)
    if train:
        check_missing(folder, wanted, dataset)
        train_missing(folder, wanted)
    left_out = _measure(folder, plan, wanted, chosen, card)
    return _tabulate(folder, plan, card, left_out)


def _read(path: Path, overrides: list[str]) -> StudyConfig | TableStudyConfig | PanelConfig:
    """A study file of any kind: one with `tables`, with `panel`, or with neither."""
    tree = load_yaml(path)
    if "tables" in tree:
        return read_table_study(path, overrides)
    return read_panel(path, overrides) if "panel" in tree else read_study(path, overrides)


def _runs_for(plan: Plan, methods: Sequence[str]) -> list[PlannedRun]:
    """The runs those methods need, in the order of the plan."""
    needed = {
        run.name
        for seed in plan.config.seeds
        for name in methods
        for run in runs_of(plan, name, seed)
    }
    return [run for run in plan.runs if run.name in needed]


def _measure(
    folder: Path, plan: Plan, runs: Sequence[PlannedRun], methods: Sequence[str], card: ProtocolCard
) -> dict[tuple[str, str], str]:
    """Measures every finished run; gives (run, method) -> why it could not be."""
    left_out: dict[tuple[str, str], str] = {}
    for run in runs:
        if state_of(folder, run).state != "finished":
            continue
        own = [name for name in methods if run in runs_of(plan, name, run.seed)]
        with hold(folder, run) as mine:  # else another process is measuring it
            failed = measure_run(folder, plan, run, own, card) if mine else {}
            left_out |= {(run.name, name): reason for name, reason in failed.items()}
    return left_out


def _tabulate(
    folder: Path, plan: Plan, card: ProtocolCard, left_out: dict[tuple[str, str], str]
) -> StudyResult:
    found, missing = _collect(folder, plan, card, left_out)
    states = tuple(state_of(folder, run) for run in plan.runs)
    seeds = seed_rows(plan, found)
    if not found:
        return StudyResult(folder, None, seeds, missing, states)
    summary = summarize(plan, found)
    content = StudyContent(
        title=f"{folder.resolve().name}: nested vectors on {card.dataset}",
        card=card,
        summary=summary,
        labels={name: method.label for name, method in METHODS.items()},
        families={name: _FAMILIES[method.source] for name, method in METHODS.items()},
        full=plan.full,
        seeds=plan.config.seeds,
        missing=missing,
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        config_text=_config_text(plan),
        versions=_versions(folder, found),
    )
    write_text(folder / SEED_FIGURES, seeds.write_csv())
    write_text(folder / SUMMARY, summary.write_csv())
    files = (*write_study(folder, content), folder / SUMMARY, folder / SEED_FIGURES)
    return StudyResult(folder, content, seeds, missing, states, files)


def _collect(
    folder: Path, plan: Plan, card: ProtocolCard, left_out: dict[tuple[str, str], str]
) -> tuple[list[Measurement], tuple[str, ...]]:
    """Every measurement that stands, and a line for each that does not."""
    found, missing = [], []
    for name in plan.config.methods:
        for seed in plan.config.seeds:
            for run in runs_of(plan, name, seed):
                state = state_of(folder, run).state
                own = load(folder, plan, run, name, card) if state == "finished" else None
                if own is not None:
                    found.append(own)
                elif state != "finished":
                    missing.append(f"{name}, seed {seed}: run {run.name} is {state}")
                else:
                    reason = left_out.get((run.name, name), "not measured yet")
                    missing.append(f"{name}, seed {seed}: {reason}")
    return found, tuple(missing)


def _config_text(plan: Plan) -> str:
    parts = {"study": plan.config, "nested run": plan.nested}
    return "\n".join(
        f"# {name}\n" + yaml.safe_dump(part.model_dump(mode="json"), sort_keys=False)
        for name, part in parts.items()
    )


def _versions(folder: Path, found: Sequence[Measurement]) -> dict[str, str]:
    """Of the runs that were measured; several commits are all named."""
    infos = [load_run_info(folder / name) for name in sorted({each.run.name for each in found})]
    commits = dict.fromkeys(info["commit"] or "not in git" for info in infos)
    return {"commit": ", ".join(commits), **infos[0]["versions"]}
