"""The command line as a whole: help, version, speed; and the verbs of `import recsys`."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import typer
from typer.testing import CliRunner

import recsys
from recsys.cli import app
from recsys.cli.app import PANELS, name_of
from recsys.cli.errors import explained
from recsys.training.trainer import StoppedError

ROOT = Path(__file__).resolve().parents[2]
RUNNER = CliRunner()
HEAVY = ("torch", "polars", "pandas", "numpy", "pydantic", "rich.console", "numba")


def test_help_lists_every_verb_once_under_its_panel():
    printed = RUNNER.invoke(app, ["--help"]).stdout
    sections = dict(re.findall(r"(?m)^(\w+):\n((?:  .*\n?)+)", printed))
    for panel, verbs in PANELS.items():
        names = re.findall(r"(?m)^  ([a-z-]+)  ", sections[panel])
        assert names == [name_of(verb) for verb in verbs]
    registered = [command.name for command in app.registered_commands]
    assert sorted(registered) == sorted(
        name_of(verb) for verbs in PANELS.values() for verb in verbs
    )


def test_no_verb_is_cut_short_in_the_help():
    printed = RUNNER.invoke(app, ["--help"]).stdout
    assert "..." not in printed.partition("Data:")[2]


def test_help_loads_nothing_heavy():
    code = f"""
import sys
from recsys.cli import app
try:
    app(["--help"])
except SystemExit:
    print([name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n"), done.stdout[-200:]


def test_the_version_is_that_of_the_package():
    assert re.fullmatch(r"recsys \d+\.\d+\.\d+\n", RUNNER.invoke(app, ["--version"]).stdout)


def test_every_verb_has_its_own_help():
    for verbs in PANELS.values():
        for verb in verbs:
            result = RUNNER.invoke(app, [name_of(verb), "--help"])
            assert result.exit_code == 0 and verb.__doc__.split()[0] in result.stdout


def test_a_training_that_was_stopped_ends_with_130():
    def stopped():
        raise StoppedError("epoch 3 is saved")

    inner = typer.Typer()
    inner.command()(explained(stopped))
    result = RUNNER.invoke(inner, [])
    assert result.exit_code == 130 and result.stderr == "error: epoch 3 is saved\n"


def test_the_verbs_of_the_package_are_shown_to_completion_and_can_be_called():
    assert set(recsys.__all__) <= set(dir(recsys))
    for _ in range(2):  # a module of the same name would be found at the second look
        assert all(callable(getattr(recsys, name)) for name in recsys.__all__)


def test_editors_see_the_verbs_where_they_are_loaded_from():
    tree = ast.parse((ROOT / "recsys/__init__.py").read_text("utf-8"))
    (guarded,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in guarded.body for alias in node.names}
    assert seen == recsys._VERBS | recsys._OPTIONS
    assert sorted(seen) == sorted(recsys.__all__)


def test_importing_the_package_loads_no_verb():
    code = "import sys, recsys; print([n for n in sys.modules if n.startswith('recsys.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_strength_of_diversity_without_its_column_is_refused(tmp_path):
    command = ["recommend", "run", "--out", str(tmp_path / "x.csv"), "--all", "--diversity", "0.3"]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 2 and "--diverse-by" in found.output
