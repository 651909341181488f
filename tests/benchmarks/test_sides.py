"""Another library runs in an environment of its own, which is looked at before the measuring."""

import ast
import sys

import pytest
import typer
from typer.testing import CliRunner

from benchmarks import __main__ as benchmarks
from benchmarks import rectools
from benchmarks.recbole import compare as recbole
from recsys.errors import InstallationError, RunError

SIDES = {"rectools": rectools.SIDE, "recbole": recbole.SIDE}


@pytest.mark.parametrize("name", SIDES)
def test_an_interpreter_without_the_library_is_refused_with_the_way_to_make_one(name, tmp_path):
    with pytest.raises(InstallationError, match=rf"No such file .*bin/pip install '?{name}"):
        SIDES[name].check(tmp_path / "python")


@pytest.mark.parametrize("name", SIDES)
def test_a_command_without_an_interpreter_is_refused_with_the_way_to_make_one(name, tmp_path):
    app = typer.Typer()
    app.command()(benchmarks.ALONE[name])
    # A terminal of width 80 breaks the sentence, with a frame around it.
    for given in ([], [f"--{name}", str(tmp_path / "python")]):
        found = CliRunner().invoke(app, given, env={"COLUMNS": "2000"})
        assert found.exit_code == 2
        assert f"--{name} ENV/bin/python" in found.output


def test_what_the_other_library_says_last_is_told(tmp_path):
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\nraise SystemExit('no such option')\n")
    python.chmod(0o755)
    with pytest.raises(RunError, match="RecBole failed:\nno such option"):
        recbole.SIDE.run(python, tmp_path)


@pytest.mark.parametrize("name", SIDES)
def test_the_other_side_imports_nothing_of_this_project(name):
    imported = [
        found
        for node in ast.walk(ast.parse(SIDES[name].script.read_text()))
        for found in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    ]
    assert name in {found.split(".")[0] for found in imported}
    assert not [found for found in imported if found.split(".")[0] in ("recsys", "benchmarks")]
