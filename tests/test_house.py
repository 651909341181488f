"""The rules of the house: no circles of imports, short signatures, small folders."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOST_PARAMETERS = 8
MOST_FILES = 14
KERNELS = ROOT / "recsys" / "kernels"
"""Compiled functions take arrays one by one."""
COMMANDS = (ROOT / "recsys" / "cli", ROOT / "benchmarks" / "retrieval" / "__main__.py")
"""typer reads the options of a command from the parameters of its function."""

TYPED = ("from_frame", "recommend", "evaluate_lists", "export")
"""Calls that people type in a notebook, with names for what they mean and defaults for the rest."""


def sources(*folders):
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(tree, known):
    """Modules that are imported anywhere in a file, also in functions and under TYPE_CHECKING."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [part.name for part in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            found = [f"{node.module}.{part.name}" for part in node.names]
            names = [name if name in known else node.module for name in found]
        yield from (name for name in names if name in known)


def parameters_of(function):
    given = function.args
    names = [part.arg for part in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def circle(graph):
    """Modules that import each other in a circle; None: there is none."""
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return error.args[1]
    return None


def test_no_modules_import_each_other_in_a_circle():
    trees = {module_of(path): tree for path, tree in sources("recsys", "data_prep").items()}
    graph = {name: set(imports_of(tree, trees)) - {name} for name, tree in trees.items()}
    assert len(graph) > 100
    assert circle(graph) is None


def test_a_circle_of_lazy_imports_is_found():
    known = {"a", "b"}
    trees = {"a": "def f():\n    import b", "b": "if TYPE_CHECKING:\n    from a import x"}
    graph = {name: set(imports_of(ast.parse(text), known)) for name, text in trees.items()}
    assert set(circle(graph)) == known


def test_functions_have_few_parameters():
    trees = sources("recsys", "data_prep", "benchmarks", "examples", "tests")
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {len(parameters_of(node))}"
        for path, tree in trees.items()
        if not any(path.is_relative_to(place) for place in (KERNELS, *COMMANDS))
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and len(parameters_of(node)) > MOST_PARAMETERS
        and node.name not in TYPED
    ]
    assert long == [], "give what travels together as one object"


@pytest.mark.parametrize("top", ["recsys", "data_prep"])
def test_folders_hold_few_files(top):
    folders = [folder for folder in (ROOT / top, *(ROOT / top).rglob("*")) if folder.is_dir()]
    counts = {str(folder): len(list(folder.glob("*.py"))) for folder in folders}
    assert {name: count for name, count in counts.items() if count > MOST_FILES} == {}
