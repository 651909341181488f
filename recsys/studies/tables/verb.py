"""`recsys study` of tables: every kind at equal bytes.

STUDY/
    dense-s0/ hashed-hash-0.25-s0/ ...   run folders, as `recsys train` leaves them
    tables.csv                           every figure with its interval
    tables.html, tables.svg              the page
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recsys.data.dataset import Dataset, load_dataset
from recsys.errors import ConfigError
from recsys.evaluation.protocol import ProtocolCard, find_protocol, make_card
from recsys.files.atomic import check_writable, write_text
from recsys.studies.report.tables import TablesContent
from recsys.studies.report.tables_page import write_tables
from recsys.studies.runs import RunState, check_missing, check_runs, state_of, train_missing
from recsys.studies.tables.config import (
    DENSE,
    TablePlan,
    TableRun,
    TableStudyConfig,
    make_table_plan,
)
from recsys.studies.tables.figures import TablePoint, table_points, tabulate
from recsys.tables import build_table

FIGURES = "tables.csv"


@dataclass(frozen=True)
class TableStudyResult:
    """The results so far of a study of tables."""

    folder: Path
    content: TablesContent | None
    """What the page is made of; None: nothing has been measured yet."""
    missing: tuple[str, ...]
    """A line for every planned run that is not there, with its reason."""
    states: tuple[RunState, ...]
    files: tuple[Path, ...] = ()

    @property
    def figures(self) -> pl.DataFrame:
        """Columns of `TABLE_SCHEMA`.

        Raises:
            ConfigError: nothing has been measured.
        """
        if self.content is None:
            raise ConfigError(f"no run of {self.folder} has been measured yet; train it first")
        return self.content.figures


def study_tables(
    settings: TableStudyConfig,
    folder: Path,
    *,
    only: Sequence[str] = (),
    train: bool = True,
    dry: bool = False,
) -> TableStudyResult:
    """Trains what is missing, measures what is finished, writes table, plot and page.

    Args:
        settings: which tables, at which shares.
        folder: the study folder; several processes may work on one.
        only: labels of tables to train for now (`dense`, `hashed double`); empty: all.
        train: False: measure and tabulate what is there.
        dry: only look.

    Raises:
        ConfigError: a config is wrong, a label is unknown, or a run was trained with another one.
        DataError, RunError, ProtocolError: see their messages.
        StoppedError: SIGTERM or Ctrl-C came; the same call goes on from there.
    """
    plan = make_table_plan(settings)
    labels = list(dict.fromkeys(each.label for each in plan.runs))
    if unknown := [name for name in only if name not in labels]:
        raise ConfigError(f"table {unknown[0]!r} is not among {', '.join(labels)}")
    if dry:
        return TableStudyResult(folder, None, (), _states(folder, plan.runs))
    dataset = load_dataset(plan.recipe.data, mapped=plan.recipe.mapped)
    runs, missing = _possible(plan, dataset.num_items)
    check_runs(folder, [each.run for each in runs], dataset)
    _card(plan, dataset)
    check_writable(folder, folder=True)
    if train:
        wanted = [each.run for each in runs if not only or each.label in only]
        check_missing(folder, wanted, dataset)
        train_missing(folder, wanted)
    states = _states(folder, runs)
    points: list[TablePoint] = []
    for each, state in zip(runs, states, strict=True):
        if state.state == "finished":
            points += table_points(folder, plan, each)
        else:
            missing.append(f"{each.run.name} is {state.state}")
    if not points:
        return TableStudyResult(folder, None, tuple(missing), states)
    content = _content(folder, plan, dataset, points, missing)
    write_text(folder / FIGURES, content.figures.write_csv())
    files = (*write_tables(folder, content), folder / FIGURES)
    return TableStudyResult(folder, content, tuple(missing), states, files)


def _states(folder: Path, runs: Sequence[TableRun]) -> tuple[RunState, ...]:
    return tuple(state_of(folder, each.run) for each in runs)


def _possible(plan: TablePlan, num_items: int) -> tuple[list[TableRun], list[str]]:
    """The runs whose table can be built, and why others cannot: shares too small for a kind."""
    possible, missing = [], []
    for each in plan.runs:
        model = each.run.config.model
        try:
            build_table(each.table, num_items, model.granularities.embedding_dim, init_std=1.0)
        except ConfigError as error:
            missing.append(f"{each.run.name}: {error}")
        else:
            possible.append(each)
    return possible, missing


def _card(plan: TablePlan, dataset: Dataset) -> ProtocolCard:
    """Raises ProtocolError where the split is not the protocol's."""
    rule = plan.recipe.split_rule(dataset)
    protocol = find_protocol(plan.recipe.protocol)
    return make_card(dataset.manifest, protocol, plan.config.part, plan.recipe.fit_on, rule)


def _content(
    folder: Path,
    plan: TablePlan,
    dataset: Dataset,
    points: Sequence[TablePoint],
    missing: Sequence[str],
) -> TablesContent:
    card = _card(plan, dataset)
    return TablesContent(
        title=f"{folder.resolve().name}: tables at equal bytes on {card.dataset}",
        card=card,
        figures=tabulate(plan, points),
        dense=DENSE,
        sizes=plan.recipe.model.granularities.sizes,
        missing=tuple(missing),
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    )
