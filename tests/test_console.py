"""What is printed is what was said: no markup is read, and no emoji, whatever names hold."""

import re
from pathlib import Path

from typer.testing import CliRunner

from recsys.cli import app
from recsys.console import make_console
from recsys.progress import console
from recsys.reports.bundle import print_bundle
from recsys.studies.states import print_states
from recsys.studies.verb import StudyResult
from tests.retrieval.bundles import write

ROOT = Path(__file__).resolve().parents[1]
ODD = "runs/[bold]0:100:int8[/]"


def test_an_error_quotes_what_was_typed():
    printed = CliRunner().invoke(app, ["evaluate", ODD])
    assert printed.exit_code == 1 and ODD in printed.output
    assert printed.output.startswith("error: ")


def test_a_tier_of_a_hundred_coordinates_is_not_an_emoji(tmp_path, capsys):
    folder, _ = write(tmp_path / "out", "0:100:int8:ram,100:128:fp16:mmap", dim=128)
    print_bundle(folder)
    assert "0:100:int8:ram" in capsys.readouterr().out


def test_a_folder_with_brackets_is_named_as_it_is(capsys):
    print_states(StudyResult(Path(ODD), None, None, (), ()))
    assert ODD in capsys.readouterr().out.replace("\n", "")


def test_notes_are_printed_as_they_are(capsys):
    for style in (None, "yellow"):
        console.print(ODD, style=style, soft_wrap=True)
        make_console(stderr=True).print(ODD, style=style, soft_wrap=True)
    assert capsys.readouterr().err == f"{ODD}\n" * 4


def test_nobody_makes_a_console_of_another_kind():
    """All that print go through `make_console`, or one of them would read markup again."""
    makers = {
        path.relative_to(ROOT).as_posix()
        for folder in ("recsys", "data_prep", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"\bConsole\(|rich\.print|from rich import print", path.read_text("utf-8"))
    }
    assert makers == {"recsys/console.py"}
