"""The trials of a search as one self-contained page, a CSV file and a table on a terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from rich import box
from rich.console import Console
from rich.table import Table

from recsys.console import make_console
from recsys.files.atomic import atomic_path, write_text
from recsys.reports.pages import render
from recsys.reports.plot_style import (
    COLOURS,
    QUIET,
    EndLabel,
    Figure,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullLocator,
    label_ends,
    new_axes,
    to_svg,
)
from recsys.tuning.space import Parameter
from recsys.tuning.trials import Search, TrialRecord

PAGE, TABLE = "tune.html", "tune.csv"
_STEPS = (1, 2, 2.5, 5, 10)
_LINE = 64
"""Characters that stand side by side under the axis of a plot."""


@dataclass(frozen=True)
class Row:
    """A trial in words."""

    number: str
    state: str
    value: str
    epochs: str
    seconds: str
    values: list[str]
    reason: str
    is_best: bool


def rows_of(space: Sequence[Parameter], records: Sequence[TrialRecord], best: int) -> list[Row]:
    """The trials, the best first, those without a value last."""
    order = sorted(records, key=_place)
    return [
        Row(
            f"{each.number}{' (the config)' if each.given else ''}",
            each.state,
            "-" if each.value is None else f"{each.value:.4f}",
            str(each.epochs),
            "-" if each.seconds is None else f"{each.seconds:.0f} s",
            [_text(each.values.get(parameter.path)) for parameter in space],
            each.reason,
            each.number == best,
        )
        for each in order
    ]


def _place(record: TrialRecord) -> tuple[bool, float, int]:
    value = -math.inf if record.value is None else record.value
    return record.state != "finished", -value, record.number


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def headline(records: Sequence[TrialRecord], best: TrialRecord, metric: str) -> str:
    """What the search has found, in a sentence."""
    given = next((each for each in records if each.given and each.state == "finished"), None)
    text = f"Trial {best.number} is the best of {len(records)}: {metric} {best.value:.4f} on the "
    text += "validation part"
    if given is not None and given.value is not None:
        same = given.number == best.number
        text += ", by the config's own values" if same else f"; the config has {given.value:.4f}"
    return f"{text}."


NOTE = (
    "The value of a trial is the best validation of its training. The best of many trials is "
    "partly luck, so its value flatters: train best.yaml and evaluate it once on the test part."
)


def print_trials(
    space: Sequence[Parameter],
    records: Sequence[TrialRecord],
    best: TrialRecord,
    metric: str,
    console: Console | None = None,
) -> None:
    """Prints the table of trials, and what it says."""
    console = console or make_console()
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("trial", "state", metric, "epochs", "time"):
        table.add_column(name, justify="left" if name in ("trial", "state") else "right")
    for parameter in space:
        table.add_column(parameter.path, overflow="fold")
    for row in rows_of(space, records, best.number):
        cells = (row.number, row.state, row.value, row.epochs, row.seconds, *row.values)
        table.add_row(*cells, style="bold" if row.is_best else None)
    console.print(table)
    console.print(headline(records, best, metric), highlight=False)


def write_page(
    folder: Path,
    search: Search,
    records: Sequence[TrialRecord],
    best: TrialRecord,
    metric: str,
) -> list[Path]:
    """Writes page and CSV, each whole or not at all.

    Returns:
        Both files, the page last.
    """
    with atomic_path(folder / TABLE) as temporary:
        _frame(search.space, records).write_csv(temporary)
    figures = plots(search.space, records, best, metric)
    page = render(
        "tuning/tune.html.j2",
        {name: to_svg(figure, name) for name, figure in figures.items()},
        title=f"{folder.name}: {len(search.space)} keys, {len(records)} trials",
        headline=headline(records, best, metric),
        note=NOTE,
        alt=_alt(search.space, metric),
        metric=metric,
        space=search.space,
        rows=rows_of(search.space, records, best.number),
        config=yaml.safe_dump(search.config, sort_keys=False),
        tune=yaml.safe_dump(search.tune, sort_keys=False),
        seed=search.seed,
    )
    write_text(folder / PAGE, page)
    return [folder / TABLE, folder / PAGE]


def _alt(space: Sequence[Parameter], metric: str) -> dict[str, str]:
    """What each plot shows, for who does not see it."""
    told = {"trials": f"{metric} by trial", "epochs": f"{metric} of each trial by epoch"}
    keys = {f"key-{at}": f"{metric} by {each.path}" for at, each in enumerate(space)}
    return told | keys


def _frame(space: Sequence[Parameter], records: Sequence[TrialRecord]) -> pl.DataFrame:
    rows = [
        {
            "trial": each.number,
            "state": each.state,
            "value": each.value,
            "epochs": each.epochs,
            "seconds": each.seconds,
            **{p.path: _text(each.values.get(p.path)) for p in space},
            "reason": each.reason,
        }
        for each in records
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def plots(
    space: Sequence[Parameter], records: Sequence[TrialRecord], best: TrialRecord, metric: str
) -> dict[str, Figure]:
    """Values by trial, validations by epoch, and values by each key."""
    shown = [each for each in records if each.value is not None]
    found = {"trials": _by_trial(shown, metric), "epochs": _by_epoch(shown, best, metric)}
    for at, parameter in enumerate(space):
        found[f"key-{at}"] = _by_key(parameter, shown, best, metric)
    return found


def _dots(axes: Any, x: Sequence[float], records: Sequence[TrialRecord]) -> None:
    for state, colour, marker in (("finished", COLOURS[0], "o"), ("pruned", QUIET, "x")):
        own = [(at, each.value) for at, each in zip(x, records, strict=True) if each.state == state]
        if own:
            axes.scatter(*zip(*own, strict=True), color=colour, marker=marker, s=22, zorder=3)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))


def _by_trial(records: Sequence[TrialRecord], metric: str) -> Figure:
    figure, axes = new_axes(
        f"{metric} by trial", "validation part; x: pruned; line: best so far", "trial", 12
    )
    _dots(axes, [each.number for each in records], records)
    top, line = -math.inf, []
    for each in records:
        if each.state == "finished":
            top = max(top, each.value or 0.0)
            line.append((each.number, top))
    axes.step(*zip(*line, strict=True), where="post", color=COLOURS[1], linewidth=1.6)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    return figure


def _by_epoch(records: Sequence[TrialRecord], best: TrialRecord, metric: str) -> Figure:
    figure, axes = new_axes(
        f"{metric} by epoch", "validation part, one line a trial; grey: pruned", "epoch", 46
    )
    for each in sorted(records, key=lambda each: each.number == best.number):
        main = each.number == best.number
        colour = COLOURS[1] if main else QUIET if each.state == "pruned" else COLOURS[0]
        axes.plot(
            list(each.curve),
            list(each.curve.values()),
            color=colour,
            linewidth=2.4 if main else 1,
            alpha=1 if main else 0.5,
            marker="o" if len(each.curve) == 1 else None,
        )
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
    last = list(best.curve.values())[-1] if best.curve else best.value or 0.0
    label_ends(axes, [EndLabel(f"trial {best.number}", last, COLOURS[1], True)])
    return figure


def short_labels(choices: Sequence[Any]) -> list[str]:
    """Names of choices that stand side by side; cut ones end in an ellipsis, and none are alike.

    Sections are told by what they hold: `{"name": "dense"}` is `dense`.
    """
    room = max(3, _LINE // max(len(choices), 1) - 2)
    whole = [
        ", ".join(map(_text, choice.values())) if isinstance(choice, dict) else _text(choice)
        for choice in choices
    ]
    cut = [text if len(text) <= room else f"{text[: room - 1]}…" for text in whole]
    if len(set(cut)) == len(cut):
        return cut
    return [f"{at}: {text}"[:room] for at, text in enumerate(cut, start=1)]


def _by_key(
    parameter: Parameter, records: Sequence[TrialRecord], best: TrialRecord, metric: str
) -> Figure:
    figure, axes = new_axes(
        parameter.path, f"{metric}, validation part; x: pruned; ring: the best", "value", 12
    )

    def place(record: TrialRecord) -> float:
        value = record.values[parameter.path]
        return parameter.choices.index(value) if parameter.range is None else float(value)

    known = [each for each in records if parameter.path in each.values]
    if parameter.range is None:
        labels = short_labels(parameter.choices)
        axes.set_xticks(range(len(labels)), labels=labels)
        axes.set_xlim(-0.5, len(labels) - 0.5)
    elif parameter.range.log:
        axes.set_xscale("log")
        # Labels of every tenth of a decade would lie on each other.
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    _dots(axes, [place(each) for each in known], known)
    at, value, colour = place(best), best.value or 0.0, COLOURS[1]
    axes.scatter([at], [value], s=90, zorder=4, facecolors="none", edgecolors=colour, linewidths=2)
    return figure
