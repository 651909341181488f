"""The application: all verbs in their panels, and the options that stand before a verb."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from recsys.cli import bundles, costs, data, evaluating, machine, studies, training
from recsys.cli.errors import debug, explained

PANELS = {
    "Data": (data.prepare, data.encode, data.attach, data.columns),
    "Training": (training.train, training.cut, training.calibrate),
    "Evaluation": (
        evaluating.evaluate,
        evaluating.baselines,
        evaluating.compare,
        evaluating.report,
    ),
    "Studies": (studies.study,),
    "Costs": (costs.tradeoff, costs.bits),
    "Bundles": (bundles.export, bundles.verify, bundles.nest),
    "Machine": (machine.doctor,),
}
_WHOLE = 200
"""Characters of a verb's first line: it is wrapped, not cut."""


class _Verbs(TyperGroup):
    """The verbs; `--debug` may stand anywhere among their arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts `--debug` before the verb, where it belongs."""
        if "--debug" in args:
            args = ["--debug", *(arg for arg in args if arg != "--debug")]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Lists the verbs by panel, as plain text: rich would read brackets as markup."""
        for panel, verbs in PANELS.items():
            commands = [self.commands[verb.__name__] for verb in verbs]
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
    trace: Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")] = False,
    version: Annotated[  # noqa: ARG001
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print and stop."),
    ] = False,
) -> None:
    """Recommender systems on nested embeddings: prepare, train, evaluate, compare, report."""
    debug.set(trace)


for _verbs in PANELS.values():
    for _verb in _verbs:
        app.command(name=_verb.__name__)(explained(_verb))
