"""`recsys report`: figures of runs as a page with tables and plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from recsys.evaluation.protocol import Part
from recsys.recipes.evaluating.evaluate import compare, run_table
from recsys.reports.content import CURVES_SCHEMA, ReportContent
from recsys.reports.writing import write_report
from recsys.runs.records import CONFIG, load_run_info, run_name
from recsys.training.logs import LOG, read_lines


def report(
    run: str | Path,
    beside: Sequence[str | Path] = (),
    *,
    part: Part = "test",
    protocol: str | None = None,
    out: str | Path | None = None,
) -> list[Path]:
    """Writes report.html, report.md and report.csv of an evaluated run.

    Args:
        run: a run folder that `evaluate` has measured.
        beside: other runs to show with it.
        part: which table.
        protocol: which table; None: the only one there is.
        out: a folder; None: `report/` in the run folder.

    Returns:
        The files, the HTML page first.

    Raises:
        RunError, ProtocolError: see their messages.
    """
    folder = Path(run)
    info = load_run_info(folder)
    table = (
        compare([folder, *beside], part=part, protocol=protocol)
        if beside
        else run_table(folder, part, protocol)
    )
    name = run_name(folder)
    content = ReportContent(
        title=f"{name} on {table.card.dataset}",
        table=table,
        main_run=name,
        curves=read_curves(folder / LOG),
        config_text=(folder / CONFIG).read_text(encoding="utf-8"),
        versions={
            "commit": info["commit"] or "not in git",
            "seed": str(info["seed"]),
            **info["versions"],
        },
        command=info["command"],
    )
    return write_report(Path(out) if out is not None else folder / "report", content)


def read_curves(log: Path) -> pl.DataFrame:
    """The training log in the long form that reports draw."""
    rows: list[dict[str, object]] = []
    for record in read_lines(log):
        base = {key: record[key] for key in ("epoch", "step", "seconds")}
        if record["event"] == "train":
            rows.append({**base, "loss": record["loss"]})
        else:
            rows += [
                {**base, "metric": metric, "granularity": int(size), "value": record[key]}
                for key in record
                for metric, slash, size in [key.partition("/d")]
                if slash
            ]
    return pl.DataFrame(rows, schema=CURVES_SCHEMA)
