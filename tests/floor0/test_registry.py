"""Parts found by name, and what is said of those that cannot be used."""

import importlib
import sys
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from recsys.errors import ConfigError
from recsys.plugins import registry
from recsys.plugins.registry import Registry


def lacks(found):
    return [] if callable(found) else ["a call"]


PARTS = Registry("metric", "recsys.metrics", {"sqrt": "math:sqrt"}, lacks)


@pytest.fixture
def installed(monkeypatch):
    """`installed(name=value)`: entry points of other packages."""

    def install(*pairs):
        points = [EntryPoint(name, value, "recsys.metrics") for name, value in pairs]

        def found(**chosen):
            return EntryPoints(points).select(**chosen)

        monkeypatch.setattr(registry, "entry_points", found)

    return install


def test_a_part_is_found_by_short_name_by_place_and_by_entry_point(installed):
    import math

    installed(("exponential", "math:exp"))
    assert PARTS.find("sqrt") is math.sqrt
    assert PARTS.find("math:log") is math.log
    assert PARTS.find("exponential") is math.exp
    assert PARTS.names() == ("sqrt", "exponential")


def test_an_entry_point_does_not_replace_a_part_of_the_package(installed):
    installed(("sqrt", "math:log"))
    assert PARTS.find("sqrt").__name__ == "sqrt"


def test_two_packages_with_one_name_are_told_apart(installed):
    installed(("root", "math:sqrt"), ("root", "math:cbrt"))
    with pytest.raises(ConfigError, match=r"several installed packages.*math:cbrt, math:sqrt"):
        PARTS.find("root")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sqtr", "no metric named 'sqtr'; known: sqrt"),
        ("sqtr", "did you mean 'sqrt'"),
        ("zzz", "known: sqrt; your own"),
        ("math:sqtr", "the module math .* has no sqtr"),
        ("math:pi", "lacks a call"),
        ("gone.parts:Metric", r"there is no gone; .*PYTHONPATH=FOLDER"),
        ("math.gone:Metric", r"needs the module math\.gone"),
        ("./parts.py:Metric", "not of the form"),
    ],
)
def test_what_cannot_be_found_or_used_says_why(name, message):
    with pytest.raises(ConfigError, match=message):
        PARTS.find(name)


def test_a_module_that_fails_names_its_own_fault(tmp_path, monkeypatch):
    (tmp_path / "broken_parts.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"importing broken_parts fails.*not_installed_anywhere"):
        PARTS.find("broken_parts:Metric")


def test_code_that_lies_in_a_run_folder_is_not_run(tmp_path, monkeypatch):
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "parts_of_a_run.py").write_text("raise SystemExit('it was run')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="code is not run from there"):
        PARTS.find("parts_of_a_run:Metric")
    assert "parts_of_a_run" not in sys.modules


@pytest.mark.parametrize("loaded", [False, True], ids=["new", "its package is loaded"])
@pytest.mark.parametrize("top", ["kept_runs", "demo_run"])
def test_nor_is_code_below_a_folder_on_the_path(tmp_path, monkeypatch, top, loaded):
    """Folders above a run, and the run folder itself, are packages without a file for Python."""
    run = tmp_path / "kept_runs" / "demo_run"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    (run / "parts.py").write_text("raise SystemExit('it was run')\n")
    place = {"kept_runs": tmp_path, "demo_run": run.parent}[top]
    name = ".".join([*run.relative_to(place).parts, "parts"])
    monkeypatch.syspath_prepend(place)
    if loaded:
        monkeypatch.setitem(sys.modules, top, importlib.import_module(top))
    with pytest.raises(ConfigError, match="code is not run from there"):
        PARTS.find(f"{name}:Metric")
    assert name not in sys.modules
