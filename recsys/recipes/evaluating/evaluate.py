"""`recsys evaluate` and `recsys compare`: figures of trained runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from recsys.errors import ConfigError, RunError
from recsys.evaluation.evaluate import DEFAULT_KS, EvaluationOptions
from recsys.evaluation.evaluate import evaluate as measure
from recsys.evaluation.metric_table import MetricTable, join_tables, load_table
from recsys.evaluation.protocol import Part, find_protocol
from recsys.files.named import inside
from recsys.recipes.evaluating.baselines import Figures, choose, measure_baselines
from recsys.recipes.training.remarks import tell, trained_oddly
from recsys.runs.loading import LoadedRun, open_run
from recsys.runs.records import (
    METRICS,
    RUN,
    fitted_on,
    load_config,
    load_run_info,
    no_run,
    run_name,
)
from recsys.towers.items import ItemTower


def metrics_path(run: str | Path, part: str, protocol: str, without: Sequence[str] = ()) -> Path:
    """Where the table of a run stands.

    Raises:
        DataError: a link there leads out of the run.
    """
    hidden = f"without-{'-'.join(sorted(without))}-" if without else ""
    return inside(Path(run), f"{METRICS}/{hidden}{part}-{protocol}.json")


def evaluate(
    run: str | Path | LoadedRun,
    *,
    part: Part = "test",
    protocol: str | None = None,
    ks: Sequence[int] = DEFAULT_KS,
    metrics: Sequence[str] = (),
    with_baselines: bool = True,
    without: Sequence[str] = (),
    show: Callable[[MetricTable], None] = lambda _: None,
) -> MetricTable:
    """Measures a run at all its granularities, beside the simple baselines.

    The table is kept in the run folder, where `compare` and `report` find it.

    Args:
        run: a run folder; or an opened run, also one whose training has not ended
            (`recsys.load_run(run, unfinished=True)`), whose data lies elsewhere (`data=...`), or
            on a device of its own (`device="cuda"`).
        part: `valid` or `test`.
        protocol: a preset; None: the one the run was trained under.
        ks: metric cutoffs.
        metrics: more than recall, ndcg, mrr, hit and map: names such as precision, or
            my_package.my_module:rbp.
        with_baselines: fit and measure the baselines on the same rows (kept beside the run's).
        without: what to take from all items before measuring: features, or `ids`. Such a table is
            kept by itself; `compare` and `report` do not see it.
        show: called with the table before it is saved, which may fail.

    Raises:
        ConfigError: items are not made of what is to be taken away.
        RunError, ProtocolError, DataError: see their messages.
    """
    loaded = open_run(run)
    if without:
        loaded = _without(loaded, without)
    loaded.check_part(part)
    tell(trained_oddly(loaded.model))
    preset = find_protocol(protocol or loaded.config.protocol)
    tables = [
        measure(
            loaded.model,
            loaded.dataset,
            loaded.split,
            protocol=preset,
            part=part,
            fit_on=loaded.fit_on,
            ks=ks,
            options=EvaluationOptions(
                run=" ".join([loaded.name, *(f"-{name}" for name in sorted(without))]),
                metrics=tuple(metrics),
            ),
        )
    ]
    if with_baselines:
        chosen = choose((), loaded.dataset)
        figures = Figures(ks, tuple(metrics))
        tables.append(
            measure_baselines(
                chosen, loaded.dataset, loaded.split, preset, part, loaded.fit_on, figures
            )
        )
    table = join_tables(tables)
    show(table)
    table.save(metrics_path(loaded.folder, part, preset.name, without))
    return table


def _without(run: LoadedRun, names: Sequence[str]) -> LoadedRun:
    """The run, opened anew, without some modalities of the items."""
    loaded = LoadedRun(
        run.folder, unfinished=True, data=run.dataset.folder, device=str(run.model.device)
    )
    table = getattr(loaded.model, "table", None)
    if not isinstance(table, ItemTower):
        raise ConfigError(
            f"the items of {run.folder} are made of ids alone, so nothing can be left out; "
            "--without is for runs with model.items"
        )
    table.hide(names)
    return loaded


def compare(
    runs: Sequence[str | Path], *, part: Part = "test", protocol: str | None = None
) -> MetricTable:
    """Puts evaluated runs side by side; baselines are taken from the first that has them.

    Args:
        runs: run folders that `evaluate` has measured.
        part: which table of each.
        protocol: which table of each; None: the only one there is.

    Raises:
        RunError: no run is given, one has no such table, or two share a name.
        ProtocolError: the protocol cards differ.
    """
    if isinstance(runs, str | Path) or not runs:
        raise RunError(f"runs to compare are a list of run folders; found {runs!r}")
    tables = [run_table(run, part, protocol) for run in runs]
    names = [run_name(run) for run in runs]
    if len(set(names)) != len(names):
        same = len({Path(run).resolve() for run in runs}) < len(names)
        remedy = "one is named twice; leave it out" if same else "rename one of the folders"
        raise RunError(f"two runs share a name: {', '.join(names)}; {remedy}")
    joined = join_tables(tables)
    first_of: dict[str, MetricTable] = {}
    for table in tables:
        for name in table.rows["run"].unique(maintain_order=True):
            first_of.setdefault(name, table)
    order = [*names, *(name for name in first_of if name not in names)]
    rows = [first_of[name].rows.filter(pl.col("run") == name) for name in order]
    return replace(joined, rows=pl.concat(rows))


def run_table(run: str | Path, part: str, protocol: str | None) -> MetricTable:
    """The kept table of a run; its own rows bear the folder's present name, should it have changed.

    Raises:
        RunError: there is no such table, or its card says less than the run was fitted on.
    """
    table = load_table(_find_metrics(run, part, protocol))
    _check_fit(Path(run), table)
    own = table.rows["run"][0]  # `evaluate` puts the run before its baselines
    return table.renamed(own, run_name(run))


def _check_fit(run: Path, table: MetricTable) -> None:
    """Refuses tables that earlier versions wrote of calibrated runs."""
    fitted = fitted_on(load_config(run), load_run_info(run))
    if table.card.fit_on != fitted:
        raise RunError(
            f"{run} was fitted on {fitted}, its table says {table.card.fit_on}; run `recsys "
            "evaluate` again"
        )


def _find_metrics(run: str | Path, part: str, protocol: str | None) -> Path:
    """The table of a run: the one asked for, or the only one of that part.

    Raises:
        RunError: there is none, or there are several to choose from.
    """
    if protocol is not None:
        return metrics_path(run, part, protocol)
    found = sorted((Path(run) / METRICS).glob(f"{part}-*.json"))
    if len(found) != 1:
        if not found and not (Path(run) / RUN).is_file():
            raise no_run(Path(run), RUN)
        names = ", ".join(path.stem for path in found) or "none"
        raise RunError(
            f"{run} has these {part} tables: {names}; "
            + ("choose one with --protocol" if found else "run `recsys evaluate` first")
        )
    return inside(Path(run), f"{METRICS}/{found[0].name}")
