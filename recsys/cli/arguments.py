"""Arguments that several verbs share, and checks of their values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Data = Annotated[Path, typer.Argument(help="A dataset folder, made by `recsys prepare`.")]
Run = Annotated[Path, typer.Argument(help="A run folder, made by `recsys train`.")]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Dataset folder [of a run: looked for above and beside it]."),
]
PartOption = Annotated[str, typer.Option("--split", help="The held-out part: valid or test.")]
ProtocolOption = Annotated[
    str | None,
    typer.Option(
        help="Evaluation protocol: s3rec, fmrlrec, gsasrec, hstu, lightgcn, global-time, "
        "request-time, global-time-request."
    ),
]
MetricsOption = Annotated[
    str | None,
    typer.Option(
        help="Further metrics, separated by commas: mrr, precision, my_package.my_module:rbp."
    ),
]
KsOption = Annotated[
    str | None,
    typer.Option("--ks", help="Cutoffs to show, by comma: 5,10,200 [the protocol's: 10, or 20]."),
]
JsonFlag = Annotated[
    bool, typer.Option("--json", help="Print the protocol card and the rows as JSON.")
]
ResultsOption = Annotated[
    Path | None, typer.Option(help="Keep the figures for a page: results/NAME.json.")
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        help="auto, cpu, cuda, cuda:1 or mps [where the run was trained, if that is here]."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings that replace those of the config."),
]


def opened(
    run: Path, data: Path | None, *, unfinished: bool = False, device: str | None = None
) -> Any:
    """A run with the data set and on the device named; the folder where nothing was said."""
    if data is None and device is None and not unfinished:
        return run
    from recsys.errors import ConfigError
    from recsys.files.kinds import found_at
    from recsys.runs.loading import LoadedRun

    if found_at(run) in ("it is a bundle", "it is a version of a bundle"):
        raise ConfigError(
            f"{run} is a bundle, and --data, --device and --unfinished are of runs; leave them "
            "out, or name the run"
        )
    return LoadedRun(run, unfinished=unfinished, data=data, device=device)


def next_step(run: Path) -> str:
    """What is done with a new run; one that has seen all rows cannot be measured."""
    from recsys.runs.records import load_config

    if load_config(run).fit_on == "all":
        return f"recsys export {run} {run / 'bundle'}"
    return f"recsys evaluate {run}"


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


def shown_ks(text: str | None, protocol: str) -> list[int]:
    """The cutoffs of `--ks`; where nothing was said, that of the protocol."""
    from recsys.evaluation.protocol import find_protocol

    return [find_protocol(protocol).k] if text is None else numbers("--ks", text)


def measured_ks(text: str | None) -> list[int]:
    """The cutoffs that are measured: the usual ones, and those of `--ks`."""
    from recsys.evaluation.evaluate import DEFAULT_KS

    return sorted({*DEFAULT_KS, *(() if text is None else numbers("--ks", text))})


def one_of(option: str, text: str, allowed: tuple[str, ...]) -> Any:
    """The text, if it is among `allowed`; raises BadParameter otherwise."""
    if text not in allowed:
        raise typer.BadParameter(f"{text!r} is not among {allowed}", param_hint=option)
    return text
