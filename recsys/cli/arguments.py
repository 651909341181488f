"""Arguments that several verbs share, and checks of what was typed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Data = Annotated[Path, typer.Argument(help="A dataset folder, as `recsys prepare` leaves it.")]
Run = Annotated[Path, typer.Argument(help="A run folder, as `recsys train` leaves it.")]
PartOption = Annotated[str, typer.Option("--split", help="Held-out part: valid or test.")]
ProtocolOption = Annotated[
    str | None, typer.Option(help="Preset: s3rec, fmrlrec, gsasrec, hstu, global-time.")
]
MetricsOption = Annotated[
    str | None,
    typer.Option(help="More metrics to show, by comma: mrr, precision, my_package.my_module:rbp."),
]
ResultsOption = Annotated[
    Path | None, typer.Option(help="Keep the figures for a page: results/NAME.json.")
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print card and rows as JSON.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the config.")
]


def checked_part(text: str) -> Any:
    """`valid` or `test`; raises BadParameter for anything else."""
    return one_of("--split", text, ("valid", "test"))


def names(text: str | None) -> tuple[str, ...]:
    """Names by comma."""
    return tuple(filter(None, (name.strip() for name in (text or "").split(","))))


def numbers(option: str, text: str) -> list[int]:
    """Whole numbers by comma; raises BadParameter for anything else."""
    if not all(number.strip().isdigit() for number in text.split(",")):
        raise typer.BadParameter(f"{text!r} is not of the form 8,16,32", param_hint=option)
    return [int(number) for number in text.split(",")]


def one_of(option: str, text: str, allowed: tuple[str, ...]) -> Any:
    """The text, if it is allowed; raises BadParameter if it is not."""
    if text not in allowed:
        raise typer.BadParameter(f"{text!r} is not among {allowed}", param_hint=option)
    return text
