"""The typer application: all verbs in their panels, and the options before a verb."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from recsys.cli import (
    bundles,
    costs,
    data,
    evaluating,
    machine,
    recommending,
    serving,
    studies,
    training,
    updating,
)
from recsys.cli.errors import debug, explained
from recsys.cli.ranking.rank import rank

PANELS: dict[str, tuple[Any, ...]] = {
    "Data": (data.prepare, data.encode, data.attach, data.columns),
    "Training": (
        training.train,
        training.tune,
        training.cut,
        training.calibrate,
        updating.update,
        updating.compatibility,
    ),
    "Evaluation": (
        evaluating.evaluate,
        evaluating.baselines,
        evaluating.compare,
        evaluating.report,
    ),
    "Recommending": (
        recommending.recommend,
        recommending.show,
        recommending.evaluate_lists,
        recommending.last_stage,
    ),
    "Ranking": (rank, studies.clicks),
    "Studies": (studies.study,),
    "Costs": (costs.tradeoff, costs.bits),
    "Bundles": (
        bundles.export,
        bundles.verify,
        bundles.nest,
        bundles.bundle,
        bundles.push,
        serving.serve,
    ),
    "Machine": (machine.doctor,),
}


def name_of(verb: Callable[..., None]) -> str:
    """As it is typed: evaluate-lists."""
    return verb.__name__.replace("_", "-")


_WHOLE = 200
"""Longest first line of a verb's help, in characters. It is wrapped, not cut."""


class _Verbs(TyperGroup):
    """The group of verbs; `--debug` is accepted anywhere among their arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts `--debug` before the verb, where it belongs."""
        if "--debug" in args:
            args = ["--debug", *(arg for arg in args if arg != "--debug")]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Lists the verbs by panel, as plain text: rich would read brackets as markup."""
        for panel, verbs in PANELS.items():
            commands = [self.commands[name_of(verb)] for verb in verbs]
            with formatter.section(panel):
                formatter.write_dl(
                    [(str(each.name), each.get_short_help_str(_WHOLE)) for each in commands]
                )


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"recsys {version('recsys')}")
        raise typer.Exit


@app.callback()
def options(
    trace: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[  # noqa: ARG001
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """Recommender systems on nested embeddings: prepare, train, evaluate, compare, report."""
    debug.set(trace)


for _verbs in PANELS.values():
    for _verb in _verbs:
        app.command(name=name_of(_verb))(explained(_verb))
