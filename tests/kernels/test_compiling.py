"""Compiled functions of a small package that is written, run and changed."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

PIECES = """
from recsys.kernels.compiling import kernel
FACTOR = 2
@kernel
def scale(x): return x * FACTOR
"""
WHOLE = """
from recsys.kernels.compiling import kernel
from {package}.pieces import scale
@kernel
def scaled(x): return scale(x) + 1
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The folder of a package of its own name, which can be imported."""
    folder = tmp_path / f"toy_{abs(hash(str(tmp_path)))}"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "pieces.py").write_text(PIECES)
    (folder / "whole.py").write_text(WHOLE.format(package=folder.name))
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def fresh(package):
    """`scaled`, imported anew."""
    for name in [name for name in sys.modules if name.startswith(package.name)]:
        del sys.modules[name]
    return importlib.import_module(f"{package.name}.whole").scaled


def cached(compiled):
    """What it gives for 3, and whether that came from the cache."""
    return compiled(3), bool(compiled.stats.cache_hits)


def files(package):
    return list((package / "__pycache__").glob("*.nb[ic]"))


def test_a_kernel_follows_a_change_in_a_file_that_it_takes_a_piece_from(package):
    assert cached(fresh(package)) == (7, False)
    assert cached(fresh(package)) == (7, True)
    (package / "pieces.py").write_text(PIECES.replace("FACTOR = 2", "FACTOR = 30"))
    script = f"from {package.name}.whole import scaled; print(scaled(3))"
    paths = os.pathsep.join([str(package.parent), str(Path(__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": paths}
    assert subprocess.check_output([sys.executable, "-c", script], env=environment) == b"91\n"
    # What nobody can use any more is gone: an index and a kernel of each function are left.
    assert len(files(package)) == 4


def test_a_kernel_of_another_processor_is_not_used(package, monkeypatch):
    assert cached(fresh(package)) == (7, False)
    monkeypatch.setattr(numba.config, "CPU_NAME", "generic")
    assert cached(fresh(package)) == (7, False)
    assert cached(fresh(package)) == (7, True)
    monkeypatch.undo()
    assert len(files(package)) == 6


@pytest.mark.parametrize("version", ["numba.__version__", "llvmlite.__version__"])
def test_a_kernel_of_another_compiler_is_not_used(package, monkeypatch, version):
    assert cached(fresh(package)) == (7, False)
    monkeypatch.setattr(version, "0")
    assert cached(fresh(package)) == (7, False)


def test_a_damaged_cache_is_made_anew(package):
    assert cached(fresh(package)) == (7, False)
    for part in files(package):
        part.write_bytes(part.read_bytes()[:40])
    assert cached(fresh(package)) == (7, False)
    assert cached(fresh(package)) == (7, True)


def test_without_a_folder_for_the_cache_kernels_are_compiled_all_the_same(package, monkeypatch):
    (package / "__pycache__").write_text("no folder")
    (package.parent / "home").write_text("no folder")
    monkeypatch.setenv("HOME", str(package.parent / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(package.parent / "home"))
    with pytest.warns(UserWarning, match="compiled anew in each process"):
        assert fresh(package)(3) == 7


def test_every_kernel_of_the_package_is_cached_under_such_a_key():
    sources = Path(__file__).parents[2] / "recsys"
    for path in sources.rglob("*.py"):
        if path.name != "compiling.py":
            assert "njit" not in path.read_text(encoding="utf-8"), path
