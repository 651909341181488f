"""The verbs of runs that go on: update, compatibility."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys.cli.arguments import Data, Overrides, PartOption, Run, checked_part, next_step


def update(
    run: Run,
    data: Data,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Run folder [runs/RUN-updated].")] = None,
    compatible: Annotated[
        bool, typer.Option("--compatible", help="Old and new vectors work together.")
    ] = False,
    resume: Annotated[bool, typer.Option(help="Continue an update that was stopped.")] = False,
) -> None:
    """Goes on from a run with new rows, users and items; writes a run of its own."""
    from recsys.processes import is_first
    from recsys.recipes.updating.compatibility import compatibility as measure
    from recsys.recipes.updating.compatibility import print_compatibility, unseen_part
    from recsys.recipes.updating.update import update as go_on

    place = out or Path("runs") / f"{run.resolve().name}-updated"
    folder = go_on(run, data, overrides or [], out=place, compatible=compatible, resume=resume)
    if compatible:
        print_compatibility(measure(run, folder, part=unseen_part(folder)))
    if is_first():
        print(f"updated: {folder} (next: {next_step(folder)})")


def compatibility(
    old: Run,
    new: Annotated[Path, typer.Argument(help="The run that was updated from it.")],
    split: PartOption = "valid",
) -> None:
    """Figures of old and new users by the old and the new item index."""
    from recsys.recipes.updating.compatibility import compatibility as measure
    from recsys.recipes.updating.compatibility import print_compatibility

    print_compatibility(measure(old, new, part=checked_part(split)))
