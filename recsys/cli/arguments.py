"""Arguments that several verbs share, and checks of their values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Data = Annotated[Path, typer.Argument(help="A dataset folder, made by `recsys prepare`.")]
Run = Annotated[Path, typer.Argument(help="A run folder, made by `recsys train`.")]
PartOption = Annotated[str, typer.Option("--split", help="The held-out part: valid or test.")]
ProtocolOption = Annotated[
    str | None,
    typer.Option(help="Evaluation protocol: s3rec, fmrlrec, gsasrec, hstu, global-time."),
]
MetricsOption = Annotated[
    str | None,
    typer.Option(
        help="Further metrics, separated by commas: mrr, precision, my_package.my_module:rbp."
    ),
]
JsonFlag = Annotated[
    bool, typer.Option("--json", help="Print the protocol card and the rows as JSON.")
]
ResultsOption = Annotated[
    Path | None, typer.Option(help="Keep the figures for a page: results/NAME.json.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings that replace those of the config."),
]


def checked_part(text: str) -> Any:
    """`valid` or `test`; raises BadParameter for anything else."""
    return one_of("--split", text, ("valid", "test"))


def names(text: str | None) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(filter(None, (name.strip() for name in (text or "").split(","))))


def numbers(option: str, text: str) -> list[int]:
    """Integers separated by commas; raises BadParameter for anything else."""
    if not all(number.strip().isdigit() for number in text.split(",")):
        raise typer.BadParameter(f"{text!r} is not of the form 8,16,32", param_hint=option)
    return [int(number) for number in text.split(",")]


def one_of(option: str, text: str, allowed: tuple[str, ...]) -> Any:
    """The text, if it is among `allowed`; raises BadParameter otherwise."""
    if text not in allowed:
        raise typer.BadParameter(f"{text!r} is not among {allowed}", param_hint=option)
    return text
